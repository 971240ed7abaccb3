//! A vote of the nearest of stored rows, or the mean of their values.

use rayon::prelude::*;

use super::{Backward, Forward, Kernel, OnnxAttribute, OnnxInput, OnnxNode, Operator, Real, Shape, arity};
use crate::base::Result;
use crate::graph::{Matrix, gemm};

/// What the `k` stored rows that are nearest by Euclidean distance say: `x` `[batch, dim]`, rows `[rows, dim]` and their
/// class numbers `[rows]` become the logarithm of each class's share of the votes `[batch, outputs]`; with values
/// `[rows, outputs]` in place of class numbers, the mean of them. Of rows equally near the first ones count. Nothing
/// below it is trained, so it has no gradient. ONNX `TopK` and `OneHot`.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// How many rows vote.
    pub k: usize,
    /// How many classes there are, or values of a row.
    pub outputs: usize,
    /// Whether rows have values, and not a class.
    pub values: bool,
    /// How much a vote counts.
    pub weights: NeighbourWeights,
}

/// How much a vote counts in [`Neighbours`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourWeights {
    /// All the same.
    Uniform,
    /// Inversely to the Euclidean distance.
    Distance,
    /// Inversely to half the square of it, which is one minus the cosine of vectors of length one.
    HalfSquare,
}

/// Distances below this count as this, so that a row that is the very same outvotes all others.
const NEAREST: f32 = 1e-12;
/// Shares below this count as this, so that logarithms stay finite.
const SMALLEST_SHARE: f32 = 1e-9;
/// Stored rows that are looked at together.
const BLOCK: usize = 2048;

impl Operator for Neighbours {
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x, rows, classes] = arity("Neighbours", inputs)?;
        let of_rows =
            if self.values { classes.dims.get(1..) == Some(&[self.outputs]) } else { classes.dims.len() == 1 };
        let fits = matches!((&x.dims[..], &rows.dims[..], classes.dims.first()),
            ([dim], [n, width], Some(m)) if dim == width && n == m);
        if !x.batched || rows.batched || classes.batched || !fits || !of_rows {
            let what = "it needs rows of the same width with a class or values each";
            return Err(Shape::refuse("Neighbours", what, inputs));
        }
        if self.k == 0 || self.k > rows.dims[0] {
            let why = format!("{} neighbours are asked for, of {} rows", self.k, rows.dims[0]);
            return Err(Shape::refuse("Neighbours", &why, inputs));
        }
        Ok(Shape::rows([self.outputs]))
    }

    fn onnx(&self, _: &[&Shape]) -> Vec<OnnxNode> {
        use OnnxAttribute::Int;
        use OnnxInput::{Input, Ints, Node};
        let scalar = |x: f32| OnnxInput::Tensor(super::Tensor { shape: Vec::new(), values: vec![x] });
        let on_off = OnnxInput::Tensor(super::Tensor { shape: vec![2], values: vec![0.0, 1.0] });
        let sum = |x: usize, axis: i64, keep: i64| {
            OnnxNode::new("ReduceSum", [Node(x), Ints(vec![axis])]).with("keepdims", Int(keep))
        };
        let mut nodes = vec![
            OnnxNode::new("Transpose", [Input(1)]).with("perm", OnnxAttribute::Ints(vec![1, 0])),
            OnnxNode::new("MatMul", [Input(0), Node(0)]),
            OnnxNode::new("Mul", [Node(1), scalar(2.0)]),
            OnnxNode::new("Mul", [Input(1), Input(1)]),
            sum(3, 1, 0),
            OnnxNode::new("Sub", [Node(2), Node(4)]),
            OnnxNode::new("TopK", [Node(5), Ints(vec![self.k as i64])]).with("axis", Int(-1)).second_output(),
            OnnxNode::new("Gather", [Input(2), Node(6)]),
        ];
        if !self.values {
            nodes.extend([
                OnnxNode::new("Cast", [Node(7)]).with("to", Int(7)),
                OnnxNode::new("OneHot", [Node(8), Ints(vec![self.outputs as i64]), on_off]),
            ]);
        }
        // What each neighbour says, `[batch, k, outputs]`.
        let said = nodes.len() - 1;
        if self.weights == NeighbourWeights::Uniform {
            nodes.extend([sum(said, 1, 0), OnnxNode::new("Div", [Node(said + 1), scalar(self.k as f32)])]);
        } else {
            nodes.extend([
                OnnxNode::new("Gather", [Input(1), Node(6)]),
                OnnxNode::new("Unsqueeze", [Input(0), Ints(vec![1])]),
                OnnxNode::new("Sub", [Node(said + 1), Node(said + 2)]),
                OnnxNode::new("Mul", [Node(said + 3), Node(said + 3)]),
                sum(said + 4, 2, 1),
            ]);
            nodes.push(match self.weights {
                NeighbourWeights::Distance => OnnxNode::new("Sqrt", [Node(said + 5)]),
                _ => OnnxNode::new("Mul", [Node(said + 5), scalar(0.5)]),
            });
            nodes.extend([
                OnnxNode::new("Max", [Node(said + 6), scalar(NEAREST)]),
                OnnxNode::new("Reciprocal", [Node(said + 7)]),
                OnnxNode::new("Mul", [Node(said), Node(said + 8)]),
                sum(said + 9, 1, 0),
                sum(said + 8, 1, 0),
                OnnxNode::new("Div", [Node(said + 10), Node(said + 11)]),
            ]);
        }
        if self.values {
            return nodes;
        }
        let shares = nodes.len() - 1;
        nodes.push(OnnxNode::new("Max", [Node(shares), scalar(SMALLEST_SHARE)]));
        nodes.push(OnnxNode::new("Log", [Node(shares + 1)]));
        nodes
    }
}

/// The `k` rows `[rows, dim]` that are nearest to every query of `x` `[queries, dim]` by Euclidean distance, as
/// `(2 x·row − ‖row‖², row)`, the nearest first; of rows equally near the first ones.
///
/// # Panics
/// `x` or `rows` are not whole rows.
pub fn nearest<F: Real>(k: usize, x: &[F], rows: &[F], dim: usize) -> Vec<Vec<(F, usize)>> {
    let (queries, count) = (x.len() / dim.max(1), rows.len() / dim.max(1));
    let mut best = vec![Vec::with_capacity(k + 1); queries];
    let mut scores = vec![F::ZERO; queries * BLOCK.min(count)];
    for start in (0..count).step_by(BLOCK) {
        let n = BLOCK.min(count - start);
        let block = &rows[start * dim..(start + n) * dim];
        let scores = &mut scores[..queries * n];
        gemm(scores, Matrix::new(x, queries, dim), Matrix::new(block, n, dim).t(), false);
        let squares: Vec<F> =
            block.par_chunks_exact(dim).map(|row| row.iter().fold(F::ZERO, |sum, x| sum + *x * *x)).collect();
        best.par_iter_mut().zip(scores.par_chunks_exact(n)).for_each(|(best, scores)| {
            for (i, (score, square)) in scores.iter().zip(&squares).enumerate() {
                keep(best, k, F::of(2.0) * *score - *square, start + i);
            }
        });
    }
    best
}

/// Puts a score among the `k` best, behind equal ones.
fn keep<F: Real>(best: &mut Vec<(F, usize)>, k: usize, score: F, row: usize) {
    if best.len() == k && best.last().is_some_and(|(worst, _)| score <= *worst) {
        return;
    }
    let at = best.partition_point(|(other, _)| *other >= score);
    best.insert(at, (score, row));
    best.truncate(k);
}

impl<F: Real> Kernel<F> for Neighbours {
    fn forward(&self, run: &mut Forward<'_, F>) {
        let (x, rows, classes) = (run.input(0), run.input(1), run.input(2));
        let dim = run.input_shape(0).last();
        if dim == 0 {
            return run.output.fill(F::ZERO);
        }
        let nearest = nearest(self.k, x, rows, dim);
        let width = self.outputs.max(1);
        let outputs = run.output.par_chunks_exact_mut(width);
        outputs.zip(x.par_chunks_exact(dim)).zip(&nearest).for_each(|((out, x), nearest)| {
            out.fill(F::ZERO);
            let mut total = F::ZERO;
            for (_, row) in nearest {
                let square = |sum: F, (a, b): (&F, &F)| sum + (*a - *b) * (*a - *b);
                let square = || x.iter().zip(&rows[row * dim..][..dim]).fold(F::ZERO, square);
                let distance = match self.weights {
                    NeighbourWeights::Uniform => F::ONE,
                    NeighbourWeights::Distance => square().sqrt(),
                    NeighbourWeights::HalfSquare => square() * F::of(0.5),
                };
                let vote = F::ONE / distance.max(F::of(f64::from(NEAREST)));
                match self.values {
                    true => out.iter_mut().zip(&classes[row * width..]).for_each(|(out, value)| *out += vote * *value),
                    false => out[classes[*row].wide() as usize] += vote,
                }
                total += vote;
            }
            if self.values {
                return out.iter_mut().for_each(|value| *value = *value / total);
            }
            out.iter_mut().for_each(|share| *share = (*share / total).max(F::of(f64::from(SMALLEST_SHARE))).ln());
        });
    }

    fn backward(&self, _: &mut Backward<'_, F>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::execution::{Execution, Pass};
    use crate::graph::{Graph, Init};

    fn votes(weights: NeighbourWeights, k: usize) -> Vec<f32> {
        let mut graph = Graph::new();
        let x = graph.input("x", &[1]).unwrap();
        let rows = graph.buffer("rows", &[4, 1], Init::Values(vec![0.0, 1.0, 3.0, 10.0])).unwrap();
        let classes = graph.buffer("classes", &[4], Init::Values(vec![0.0, 1.0, 1.0, 2.0])).unwrap();
        let y = graph.node("y", Neighbours { k, outputs: 3, values: false, weights }, &[x, rows, classes]).unwrap();
        let mut run: Execution<f32> = Execution::new(&graph, &graph.initial_weights(0), 2, false).unwrap();
        run.value_mut(x).copy_from_slice(&[2.0, 0.0]);
        run.forward(2, Pass::EVALUATION);
        run.value(y).iter().map(|x| x.exp()).collect()
    }

    #[test]
    fn near_rows_vote_and_the_first_of_equals_wins() {
        let near = |a: &[f32], b: &[f32]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
        near(&votes(NeighbourWeights::Uniform, 3), &[1.0 / 3.0, 2.0 / 3.0, 0.0, 1.0 / 3.0, 2.0 / 3.0, 0.0]);
        // From 2: distances 1 and 1, then 2; from 0: the row itself.
        near(&votes(NeighbourWeights::Distance, 3), &[0.2, 0.8, 0.0, 1.0, 0.0, 0.0]);
        near(&votes(NeighbourWeights::HalfSquare, 3), &[1.0 / 9.0, 8.0 / 9.0, 0.0, 1.0, 0.0, 0.0]);
        near(&votes(NeighbourWeights::Uniform, 1)[..3], &[0.0, 1.0, 0.0]);
    }

    #[test]
    fn more_neighbours_than_rows_are_refused() {
        let vote = Neighbours { k: 3, outputs: 2, values: false, weights: NeighbourWeights::Uniform };
        let shapes = [&Shape::rows([2]), &Shape::fixed([2, 2]), &Shape::fixed([2])];
        assert!(vote.infer(&shapes).unwrap_err().to_string().contains("3 neighbours are asked for, of 2 rows"));
    }
}
