//! The same elements under another shape.

use super::{Backward, Forward, Kernel, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;

/// The elements of each row, unmoved, as `dims`. ONNX `Reshape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reshape {
    /// The dimensions, without the batch.
    pub dims: Vec<usize>,
}

impl Operator for Reshape {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = arity("Reshape", inputs)?;
        if Shape::checked_elements(&self.dims)? != x.elements() {
            return Err(Shape::refuse("Reshape", &format!("it has not the elements of {:?}", self.dims), inputs));
        }
        Ok(Shape { batched: x.batched, dims: self.dims.clone() })
    }

    fn onnx(&self, inputs: &[&Shape]) -> Vec<OnnxNode> {
        let batch = inputs[0].batched.then_some(-1);
        let dims = batch.into_iter().chain(self.dims.iter().map(|d| *d as i64)).collect();
        vec![OnnxNode::new("Reshape", [OnnxInput::Input(0), OnnxInput::Ints(dims)])]
    }

    fn is_view(&self) -> bool {
        true
    }
}

impl<F: Real> Kernel<F> for Reshape {
    fn forward(&self, _: &mut Forward<'_, F>) {}

    fn backward(&self, _: &mut Backward<'_, F>) {}
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn backward_agrees_with_finite_differences() {
        Check::new(Reshape { dims: vec![3, 2] }).rows(&[6]).run();
        assert!(Reshape { dims: vec![4] }.infer(&[&Shape::rows([2, 3])]).is_err());
    }
}
