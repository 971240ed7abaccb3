//! Keeps the training rows.

use super::{Inputs, Solution, Task, Trial, check_memory};
use crate::base::{Error, Result};
use crate::graph::op::L2Norm;
use crate::head::{Distance, Kept, Knn};

/// Bytes of the rows that are kept.
pub(super) fn bytes(rows: usize, width: usize) -> f64 {
    rows as f64 * width as f64 * 4.0
}

pub(super) fn solve(head: &Knn, inputs: &mut Inputs<'_>, task: &Task<'_>) -> Result<Solution> {
    let rows = task.data.train;
    let bytes = bytes(rows.len(), inputs.width);
    let what = format!("keeping {} rows of {} features", rows.len(), inputs.width);
    check_memory(&what, bytes, head.max_memory_gb, "take fewer rows (`data.subset`) or features, or raise the limit")?;
    // Class numbers are kept as f32, which is exact up to here.
    if task.outputs() > 1 << 24 {
        return Err(Error::bad_input(format!("{} classes are too many for `knn`", task.outputs())));
    }
    let (mut values, (name, shape, kept)) = if head.keeps == Kept::Values {
        let (features, values) = inputs.collect_values(rows)?;
        (features, ("head.values", vec![rows.len(), task.outputs()], values))
    } else {
        let (features, classes) = inputs.collect(rows)?;
        (features, ("head.classes", vec![rows.len()], classes.iter().map(|class| *class as f32).collect()))
    };
    if head.metric == Distance::Cosine {
        values.chunks_exact_mut(inputs.width.max(1)).for_each(L2Norm::row);
    }
    let mut weights = inputs.weights.clone();
    weights.insert("head.rows", [rows.len(), inputs.width], values);
    weights.insert(name, shape, kept);
    let what = format!("{} neighbours of {} rows kept", head.k, rows.len());
    Ok(Solution { weights, trials: vec![Trial { what, score: None, iterations: None }], chosen: 0 })
}
