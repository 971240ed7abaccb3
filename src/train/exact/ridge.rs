//! Ridge regression by Cholesky's factorisation: of the features' Gram matrix, or of the rows', whichever is
//! smaller.

use super::tiles::{self, Tiles};
use super::{Inputs, Solution, Task, Trial, check_memory, is_better};
use crate::base::{Error, Result};
use crate::graph::{Matrix, Real, Targets, Weights, gemm};
use crate::head::{OneOrPath, Ridge};

pub(super) fn solve(head: &Ridge, inputs: &mut Inputs<'_>, task: &Task<'_>) -> Result<Solution> {
    let memory = Memory::of(head, task.data.train.len(), inputs.width);
    if memory.bytes::<f64>() <= head.max_memory_gb * 1e9 {
        return Solver::<f64>::new(inputs, task, memory.dual)?.path(&head.alpha, inputs, task);
    }
    let (n, d) = (task.data.train.len(), inputs.width);
    let what = format!("the Gram matrix of ridge regression on {n} rows of {d} features, even in 32-bit floats,");
    let hint = "take fewer features (a pooling neck, another output), one `alpha` instead of several, the `logistic` \
                head, or raise the limit";
    check_memory(&what, memory.bytes::<f32>(), head.max_memory_gb, hint)?;
    Solver::<f32>::new(inputs, task, memory.dual)?.path(&head.alpha, inputs, task)
}

/// Bytes that solving takes: in 64-bit floats where that is allowed, else in 32-bit floats.
pub(super) fn bytes(head: &Ridge, rows: usize, width: usize) -> f64 {
    let memory = Memory::of(head, rows, width);
    let double = memory.bytes::<f64>();
    if double <= head.max_memory_gb * 1e9 { double } else { memory.bytes::<f32>() }
}

/// What solving needs.
struct Memory {
    /// The order of the matrix that is factorised.
    order: usize,
    /// How many copies of it there are.
    copies: f64,
    /// Whether it is that of the rows, and then the features that are kept besides.
    dual: bool,
    kept: f64,
}

impl Memory {
    fn of(head: &Ridge, rows: usize, width: usize) -> Self {
        let dual = rows < width;
        let copies = if head.alpha.0.len() > 1 { 2.0 } else { 1.0 };
        // Of the rows' products all features are needed at once.
        let kept = if dual { rows as f64 * width as f64 } else { 0.0 };
        Self { order: rows.min(width), copies, dual, kept }
    }

    fn bytes<F>(&self) -> f64 {
        self.copies * tiles::bytes::<F>(self.order) + self.kept * size_of::<F>() as f64
    }
}

/// Sums over the training rows, in one precision.
struct Solver<F> {
    /// `xᵀx` of centred features, or `x·xᵀ`.
    gram: Tiles<F>,
    /// `xᵀy` `[width, outputs]`, or centred targets `[rows, outputs]`.
    right: Vec<F>,
    /// The sum of the squares of centred targets.
    energy: f64,
    /// Centred features `[rows, width]`, where the rows' products are taken.
    kept: Option<Vec<F>>,
    feature_means: Vec<f64>,
    target_means: Vec<f64>,
    rows: usize,
}

impl<F: Real> Solver<F> {
    fn new(inputs: &mut Inputs<'_>, task: &Task<'_>, dual: bool) -> Result<Self> {
        let (width, outputs, rows) = (inputs.width, task.outputs(), task.data.train);
        // Centred before products are taken, so that large means cost no precision.
        let (mut feature_means, mut target_means) = (vec![0.0; width], vec![0.0; outputs]);
        inputs.each(rows, &mut |values, targets| {
            for row in values.chunks_exact(width.max(1)) {
                feature_means.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            of_rows(targets, outputs, &mut |y| target_means.iter_mut().zip(y).for_each(|(sum, y)| *sum += y));
            Ok(())
        })?;
        let count = rows.len() as f64;
        feature_means.iter_mut().chain(&mut target_means).for_each(|mean| *mean /= count);

        let order = if dual { rows.len() } else { width };
        let mut gram = Tiles::zeros(order);
        let mut right = vec![F::ZERO; if dual { 0 } else { width * outputs }];
        let (mut x, mut y, mut energy) = (Vec::new(), Vec::new(), 0.0);
        inputs.each(rows, &mut |values, targets| {
            if !dual {
                x.clear();
                y.clear();
            }
            for row in values.chunks_exact(width.max(1)) {
                x.extend(row.iter().zip(&feature_means).map(|(x, mean)| F::of(f64::from(*x) - mean)));
            }
            of_rows(targets, outputs, &mut |row| {
                let centred = row.iter().zip(&target_means).map(|(y, mean)| y - mean);
                energy += centred.clone().map(|y| y * y).sum::<f64>();
                y.extend(centred.map(F::of));
            });
            if !dual {
                gram.add_gram(&x);
                let n = x.len() / width.max(1);
                gemm(&mut right, Matrix::new(&x, n, width).t(), Matrix::new(&y, n, outputs), true);
            }
            Ok(())
        })?;
        let mut kept = None;
        if dual {
            gram.add_outer(&x);
            right = y;
            kept = Some(x);
        }
        Ok(Self { gram, right, energy, kept, feature_means, target_means, rows: rows.len() })
    }

    /// Solves for every `alpha` and takes the best.
    fn path(self, alphas: &OneOrPath, inputs: &Inputs<'_>, task: &Task<'_>) -> Result<Solution> {
        let mut trials = Vec::new();
        let mut best: Option<(usize, f64, Weights)> = None;
        let several = alphas.0.len() > 1;
        let mut solver = self;
        for (i, alpha) in alphas.0.iter().enumerate() {
            let last = i + 1 == alphas.0.len();
            let gram = if last { std::mem::replace(&mut solver.gram, Tiles::zeros(0)) } else { solver.gram.clone() };
            let valid = task.data.valid;
            let (weight, bias, gcv) = solver.solve(gram, *alpha, several && valid.is_empty(), inputs)?;
            let mut weights = inputs.weights.clone();
            weights.insert("head.weight", [task.outputs(), inputs.width], weight);
            weights.insert("head.bias", [task.outputs()], bias);
            let (score, maximize) = match gcv {
                Some(error) => (Some(("gcv/error".to_string(), error)), false),
                None if several => {
                    let (name, value, maximize) = task.measure(&weights, valid)?;
                    (Some((format!("valid/{name}"), value)), maximize)
                }
                None => (None, true),
            };
            let value = score.as_ref().map_or(0.0, |(_, value)| *value);
            if is_better(value, best.as_ref().map(|(_, value, _)| *value), maximize) {
                best = Some((i, value, weights));
            }
            trials.push(Trial { what: format!("alpha {alpha}"), score, iterations: None });
        }
        let (chosen, _, weights) = best.ok_or_else(|| Error::bad_input("`model.head.alpha` has no value"))?;
        Ok(Solution { weights, trials, chosen })
    }

    /// `head.weight`, `head.bias`, and, if wanted, the error of generalised cross-validation.
    fn solve(
        &self,
        mut gram: Tiles<F>,
        alpha: f64,
        score: bool,
        inputs: &Inputs<'_>,
    ) -> Result<(Vec<f32>, Vec<f32>, Option<f64>)> {
        let (width, outputs, n) = (inputs.width, self.target_means.len(), self.rows as f64);
        gram.add_diagonal(alpha);
        let factor = gram.factor(inputs.cancel)?;
        let mut solved = self.right.clone();
        factor.solve(&mut solved);
        let dot = |a: &[F], b: &[F]| a.iter().zip(b).map(|(a, b)| a.wide() * b.wide()).sum::<f64>();
        let length = dot(&solved, &solved);
        // With A = xᵀx + alpha and w = A⁻¹xᵀy: ‖y − xw‖² = ‖y‖² − wᵀxᵀy − alpha·‖w‖², and the trace of the hat
        // matrix is d − alpha·tr A⁻¹. With the rows' matrix the residual is alpha·(x·xᵀ + alpha)⁻¹y. The
        // intercept is one more degree of freedom.
        let gcv = score.then(|| -> Result<f64> {
            let inverse = alpha * factor.trace_of_inverse(inputs.cancel)?;
            let (residual, left) = match &self.kept {
                None => (self.energy - dot(&solved, &self.right) - alpha * length, n - width as f64 + inverse),
                Some(_) => (alpha * alpha * length, inverse),
            };
            Ok(n * residual.max(0.0) / (left - 1.0).max(f64::MIN_POSITIVE).powi(2))
        });
        let gcv = gcv.transpose()?;
        let weight = match &self.kept {
            None => solved,
            Some(x) => {
                let mut weight = vec![F::ZERO; width * outputs];
                let rows = self.rows;
                gemm(&mut weight, Matrix::new(x, rows, width).t(), Matrix::new(&solved, rows, outputs), false);
                weight
            }
        };
        let column = |output: usize| (0..width).map(move |i| i * outputs + output);
        let bias = (0..outputs).map(|output| {
            let shift: f64 = column(output).zip(&self.feature_means).map(|(at, mean)| weight[at].wide() * mean).sum();
            (self.target_means[output] - shift) as f32
        });
        let bias = bias.collect();
        let weight = (0..outputs).flat_map(|o| column(o).map(|at| weight[at].wide() as f32)).collect();
        Ok((weight, bias, gcv))
    }
}

/// Calls `body` with what each row should give: the values, or +1 for its class or labels and −1 for the others.
fn of_rows(targets: Targets<'_>, outputs: usize, body: &mut dyn FnMut(&[f64])) {
    let mut row = vec![0.0; outputs];
    match targets {
        Targets::Classes(classes) => classes.iter().for_each(|class| {
            row.fill(-1.0);
            row[*class as usize] = 1.0;
            body(&row);
        }),
        Targets::MultiLabel { width, values } => values.chunks_exact(width.max(1)).for_each(|labels| {
            row.iter_mut().zip(labels).for_each(|(y, label)| *y = 2.0 * f64::from(*label) - 1.0);
            body(&row);
        }),
        Targets::Values { width, values } => values.chunks_exact(width.max(1)).for_each(|values| {
            row.iter_mut().zip(values).for_each(|(y, value)| *y = f64::from(*value));
            body(&row);
        }),
        // No head that is solved is for them.
        Targets::Pairs { .. } => {}
    }
}
