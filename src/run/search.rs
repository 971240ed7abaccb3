//! The nearest neighbours of embeddings among others, exactly.

use serde::Serialize;

use crate::base::{Error, Result};
use crate::export::embeddings::Embeddings;
use crate::graph::op::{L2Norm, nearest};
use crate::head::Distance;

/// Queries that are compared at a time.
const BLOCK: usize = 256;

/// One neighbour of a query.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The query.
    pub query: String,
    /// Its place among the query's neighbours, from 1.
    pub rank: usize,
    /// The neighbour.
    pub id: String,
    /// The neighbour's label, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The cosine, or the Euclidean distance.
    pub score: f32,
}

/// The `top` rows of `index` nearest to every row of `queries`; with `others` a row of the same name as the query
/// is passed over.
///
/// # Errors
/// The rows have other widths.
pub fn search(
    index: &Embeddings,
    queries: &Embeddings,
    metric: Distance,
    top: usize,
    others: bool,
) -> Result<Vec<Found>> {
    let width = index.width;
    if queries.width != width {
        let found = queries.width;
        return Err(Error::bad_input(format!("the queries have {found} numbers each, the index {width}"))
            .hint("embed both with the same run and the same `--layer`"));
    }
    let scaled = |values: &[f32]| {
        let mut values = values.to_vec();
        if metric == Distance::Cosine {
            values.chunks_exact_mut(width.max(1)).for_each(L2Norm::row);
        }
        values
    };
    let rows = scaled(&index.values);
    let asked = if others { top + 1 } else { top }.min(index.len());
    let mut found = Vec::with_capacity(queries.len() * top);
    for first in (0..queries.len()).step_by(BLOCK) {
        let last = (first + BLOCK).min(queries.len());
        let block = scaled(&queries.values[first * width..last * width]);
        let best = nearest(asked, &block, &rows, width);
        for (query, best) in (first..last).zip(&best) {
            let name = &queries.names.ids[query];
            let x = &block[(query - first) * width..][..width];
            let kept = best.iter().filter(|(_, row)| !others || index.names.ids[*row] != *name).take(top);
            found.extend(kept.zip(1..).map(|((_, row), rank)| Found {
                query: name.clone(),
                rank,
                id: index.names.ids[*row].clone(),
                label: index.names.labels.get(*row).cloned(),
                score: score(metric, x, &rows[row * width..][..width]),
            }));
        }
    }
    Ok(found)
}

/// The cosine of vectors of length one, or the distance.
fn score(metric: Distance, a: &[f32], b: &[f32]) -> f32 {
    match metric {
        Distance::Cosine => a.iter().zip(b).map(|(a, b)| a * b).sum(),
        Distance::L2 => a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::embeddings::Names;

    fn embeddings(ids: &[&str], values: &[f32]) -> Embeddings {
        let names = Names { ids: ids.iter().map(ToString::to_string).collect(), ..Names::default() };
        Embeddings { width: 2, values: values.to_vec(), names }
    }

    #[test]
    fn the_nearest_come_first_by_angle_or_distance() {
        let index = embeddings(&["a", "b", "c"], &[1.0, 0.0, 5.0, 5.0, 0.0, 2.0]);
        let query = embeddings(&["a"], &[1.0, 0.1]);
        let ids = |found: &[Found]| found.iter().map(|f| f.id.clone()).collect::<Vec<_>>();
        let found = search(&index, &query, Distance::Cosine, 2, false).unwrap();
        assert_eq!(ids(&found), ["a", "b"]);
        assert!((found[1].score - 1.1 / (2.0f32 * 1.01).sqrt()).abs() < 1e-6);
        let found = search(&index, &query, Distance::L2, 9, true).unwrap();
        assert_eq!(ids(&found), ["c", "b"]);
        assert!((found[0].score - (1.0f32 + 1.9 * 1.9).sqrt()).abs() < 1e-6);
        let other = Embeddings { width: 1, values: vec![1.0], names: query.names.clone() };
        assert!(search(&index, &other, Distance::L2, 1, false).is_err());
    }
}
