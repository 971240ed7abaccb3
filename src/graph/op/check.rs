//! Holds an operator's backward to central differences in f64.

use super::Op;
use crate::base::random::Stream;
use crate::graph::execution::{Execution, Pass};
use crate::graph::{Graph, Init, ValueId, Weights};

const ROWS: usize = 3;
const STEP: f64 = 1e-5;

/// One operator on random inputs; each is a parameter of the checked graph, so that it gets a gradient.
pub(crate) struct Check {
    op: Op,
    graph: Graph,
    inputs: Vec<ValueId>,
    pass: Pass,
    positive: bool,
}

impl Check {
    pub fn new(op: impl Into<Op>) -> Self {
        let pass = Pass { training: true, seed: 3, step: 5, ..Pass::EVALUATION };
        Self { op: op.into(), graph: Graph::new(), inputs: Vec::new(), pass, positive: false }
    }

    /// An input with three rows of this shape: `input + parameter`, so that the parameter's gradient is
    /// summed over the rows and each row differs.
    pub fn rows(mut self, dims: &[usize]) -> Self {
        let n = self.inputs.len();
        let x = self.graph.input(&format!("x{n}"), dims).unwrap();
        let p = self.graph.parameter(&format!("p{n}"), dims, Init::Uniform(0.8), true).unwrap();
        let sum = self.graph.node(&format!("s{n}"), super::Binary(super::BinaryKind::Add), &[x, p]).unwrap();
        self.inputs.push(sum);
        self
    }

    /// A parameter.
    pub fn fixed(mut self, dims: &[usize]) -> Self {
        let name = format!("p{}", self.inputs.len());
        // A power must not be near 0.
        let init = if self.positive { Init::Fill(2.5) } else { Init::Normal(1.0) };
        self.inputs.push(self.graph.parameter(&name, dims, init, true).unwrap());
        self
    }

    /// A constant, which gets no gradient.
    pub fn constant(mut self, dims: &[usize]) -> Self {
        let name = format!("c{}", self.inputs.len());
        let values = (0..dims.iter().product::<usize>()).map(|i| Stream::new(9, 9).normal(i as u64)).collect();
        self.inputs.push(self.graph.constant(&name, dims, values).unwrap());
        self
    }

    /// A buffer of positive numbers, which gets no gradient.
    pub fn spread(mut self, dims: &[usize]) -> Self {
        let name = format!("b{}", self.inputs.len());
        let values = (0..dims.iter().product::<usize>()).map(|i| 0.5 + i as f32).collect();
        self.inputs.push(self.graph.buffer(&name, dims, Init::Values(values)).unwrap());
        self
    }

    /// Runs the operator in evaluation mode.
    pub fn evaluating(mut self) -> Self {
        self.pass.training = false;
        self
    }

    /// The last input once more.
    pub fn same(mut self) -> Self {
        self.inputs.push(*self.inputs.last().unwrap());
        self
    }

    /// Makes the inputs positive, for operators such as a root.
    pub fn positive(mut self) -> Self {
        self.positive = true;
        self
    }

    /// Compares the gradients of all parameters.
    pub fn run(mut self) {
        let out = self.graph.node("out", self.op.clone(), &self.inputs).unwrap();
        let weights = self.graph.initial_weights(11);
        compare(&self.graph, out, &weights, self.pass, |x| if self.positive { x.abs() + 3.0 } else { x });
    }
}

/// Holds the gradients of all parameters of a graph, from a random weighting of the value `out`, to central
/// differences; inputs are what `input` makes of normal numbers.
pub(crate) fn compare(graph: &Graph, out: ValueId, weights: &Weights, pass: Pass, input: impl Fn(f64) -> f64) {
    let mut run: Execution<f64> = Execution::new(graph, weights, ROWS + 1, true).unwrap();
    for (i, id) in graph.inputs().to_vec().into_iter().enumerate() {
        for (j, x) in run.value_mut(id).iter_mut().enumerate() {
            *x = input(f64::from(Stream::new(1, i as u64).normal(j as u64)));
        }
    }
    let weighting = |i: usize| f64::from(Stream::new(2, 0).normal(i as u64));
    let objective = |run: &mut Execution<f64>| -> f64 {
        run.forward(ROWS, pass);
        run.value(out).iter().enumerate().map(|(i, y)| y * weighting(i)).sum()
    };
    objective(&mut run);
    run.value_and_grad_mut(out).1.iter_mut().enumerate().for_each(|(i, g)| *g = weighting(i));
    run.backward(&[out]);
    let mut compared = 0;
    for id in run.parameters().to_vec() {
        let analytic = run.grad(id).to_vec();
        for (i, analytic) in analytic.into_iter().enumerate() {
            let at = run.value_mut(id)[i];
            run.value_mut(id)[i] = at + STEP;
            let above = objective(&mut run);
            run.value_mut(id)[i] = at - STEP;
            let below = objective(&mut run);
            run.value_mut(id)[i] = at;
            let numeric = (above - below) / (2.0 * STEP);
            let name = &graph.values()[id.index()].name;
            assert!(
                (numeric - analytic).abs() < 1e-6 * (1.0 + numeric.abs()),
                "{name}[{i}]: {analytic}, not {numeric}"
            );
            compared += 1;
        }
    }
    assert!(compared > 0);
}
