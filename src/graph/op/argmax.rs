//! The place of the largest.

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::parallel::row_chunks;

/// The place along one dimension, which disappears, of the largest element, of equals the first: class numbers from
/// logits, as floats. It has no gradient. ONNX `ArgMax` and `Cast`.
#[derive(Debug, Clone, PartialEq)]
pub struct ArgMax {
    /// The dimension, not counting the batch.
    pub axis: usize,
}

impl Operator for ArgMax {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("ArgMax", inputs)?;
        if !x.batched || x.dims.get(self.axis).is_none_or(|size| *size == 0) {
            return Err(Shape::refuse("ArgMax", &format!("it has nothing in dimension {}", self.axis), inputs));
        }
        let mut dims = x.dims.clone();
        dims.remove(self.axis);
        Ok(Shape::rows(dims))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        let places = OnnxNode::new("ArgMax", [OnnxInput::Input(0)])
            .with("axis", OnnxAttribute::Int(self.axis as i64 + 1))
            .with("keepdims", OnnxAttribute::Int(0));
        // 1 is float.
        vec![places, OnnxNode::new("Cast", [OnnxInput::Node(0)]).with("to", OnnxAttribute::Int(1))]
    }
}

impl<F: Real> Kernel<F> for ArgMax {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, shape) = (run.input(0), run.input_shape(0));
        let along = shape.dims[self.axis];
        let inner: usize = shape.dims[self.axis + 1..].iter().product();
        row_chunks(run.output, inner.max(1), |first, out| {
            for (block, out) in out.chunks_exact_mut(inner.max(1)).enumerate() {
                let x = &x[(first + block) * along * inner..][..along * inner];
                for (j, place) in out.iter_mut().enumerate() {
                    let larger = |best: usize, i: usize| if x[i * inner + j] > x[best * inner + j] { i } else { best };
                    *place = F::of((0..along).fold(0, larger) as f64);
                }
            }
        });
    }

    fn backward(&self, _: &mut Backward<'_, F>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::Pass;
    use crate::graph::{Execution, Graph, Weights};

    #[test]
    fn the_first_of_the_largest_is_named() {
        let mut graph = Graph::new();
        let x = graph.input("x", &[3, 2]).unwrap();
        let y = graph.node("y", ArgMax { axis: 0 }, &[x]).unwrap();
        let mut run: Execution<f32> = Execution::new(&graph, &Weights::default(), 2, false).unwrap();
        run.value_mut(x).copy_from_slice(&[1.0, 5.0, 3.0, 5.0, 2.0, 4.0, 0.0, -2.0, 0.0, -1.0, 0.0, -3.0]);
        run.forward(2, Pass::EVALUATION);
        assert_eq!(run.value(y), [1.0, 0.0, 0.0, 1.0]);
        assert!(graph.node("z", ArgMax { axis: 2 }, &[x]).is_err());
    }
}
