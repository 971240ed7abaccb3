//! Class means, in one pass.

use super::inputs::of_classes;
use super::{Inputs, Solution, Task, Trial};
use crate::base::Result;
use crate::graph::op::L2Norm;
use crate::head::{Distance, NearestMean};

pub(super) fn solve(head: &NearestMean, inputs: &mut Inputs<'_>, task: &Task<'_>) -> Result<Solution> {
    let (width, outputs) = (inputs.width, task.outputs());
    let cosine = head.metric == Distance::Cosine;
    let (mut sums, mut counts) = (vec![0.0f64; outputs * width], vec![0usize; outputs]);
    let mut row = vec![0.0; width];
    inputs.each(task.data.train, &mut |values, targets| {
        for (x, class) in values.chunks_exact(width.max(1)).zip(of_classes(targets)?) {
            row.copy_from_slice(x);
            if cosine {
                L2Norm::row(&mut row);
            }
            let class = *class as usize;
            counts[class] += 1;
            sums[class * width..][..width].iter_mut().zip(&row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        Ok(())
    })?;
    let (mut weight, mut bias) = (Vec::with_capacity(sums.len()), Vec::with_capacity(outputs));
    for (sum, count) in sums.chunks_exact(width.max(1)).zip(&counts) {
        let mean: Vec<f64> = sum.iter().map(|x| x / (*count).max(1) as f64).collect();
        let square: f64 = mean.iter().map(|x| x * x).sum();
        let factor = match head.metric {
            Distance::Cosine if square > 0.0 => f64::from(NearestMean::SCALE) / square.sqrt(),
            Distance::Cosine => 0.0,
            Distance::L2 => 2.0,
        };
        weight.extend(mean.iter().map(|x| (x * factor) as f32));
        // A class without training rows is never the nearest.
        bias.push(if *count == 0 { -1e30 } else { -square as f32 });
    }
    let mut weights = inputs.weights.clone();
    weights.insert("head.weight", [outputs, width], weight);
    if !cosine {
        weights.insert("head.bias", [outputs], bias);
    }
    let what = format!("{outputs} means of {} rows", counts.iter().sum::<usize>());
    Ok(Solution { weights, trials: vec![Trial { what, score: None, iterations: None }], chosen: 0 })
}
