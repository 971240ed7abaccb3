//! The nearest neighbours of embeddings among others, exactly.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::base::{Error, Result};
use crate::export::embeddings::Embeddings;
use crate::graph::op::{L2Norm, nearest};
use crate::head::Distance;
use crate::metric::retrieval;

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
    let mut found = Vec::with_capacity(queries.len() * top);
    let asked = if others { top + 1 } else { top };
    blocks(index, queries, metric, asked, |query, best, score_of| {
        let name = &queries.names.ids[query];
        let kept = best.iter().filter(|row| !others || index.names.ids[**row] != *name).take(top);
        found.extend(kept.zip(1..).map(|(row, rank)| Found {
            query: name.clone(),
            rank,
            id: index.names.ids[*row].clone(),
            label: index.names.labels.get(*row).cloned(),
            score: score_of(*row),
        }));
    })?;
    Ok(found)
}

/// Calls `each` with every query, the `asked` rows nearest to it, nearest first, and what gives the score of a row.
fn blocks(
    index: &Embeddings,
    queries: &Embeddings,
    metric: Distance,
    asked: usize,
    mut each: impl FnMut(usize, &[usize], &dyn Fn(usize) -> f32),
) -> Result<()> {
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
    for first in (0..queries.len()).step_by(BLOCK) {
        let last = (first + BLOCK).min(queries.len());
        let block = scaled(&queries.values[first * width..last * width]);
        let best = nearest(asked.min(index.len()), &block, &rows, width);
        for (query, best) in (first..last).zip(&best) {
            let x = &block[(query - first) * width..][..width];
            let best: Vec<usize> = best.iter().map(|(_, row)| *row).collect();
            each(query, &best, &|row| score(metric, x, &rows[row * width..][..width]));
        }
    }
    Ok(())
}

/// How well queries find what belongs to them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Queries that have something to find.
    pub queries: usize,
    /// What belongs together: rows of one `label`, or of one `id`.
    pub by: &'static str,
    /// Recall at 1, 5 and 10, mean average precision at R, and the normalised discounted cumulative gain at 10.
    pub metrics: BTreeMap<&'static str, f64>,
}

/// Measures retrieval: each query looks for the rows of `index` with its label, or with its id where the two have no
/// labels. Without `queries` every row of the index looks for the others.
///
/// # Errors
/// The rows have other widths; nothing belongs together.
pub fn measure(index: &Embeddings, queries: Option<&Embeddings>, metric: Distance) -> Result<Measured> {
    let (asking, is_self) = (queries.unwrap_or(index), queries.is_none());
    let labelled = !index.names.labels.is_empty() && !asking.names.labels.is_empty();
    let by = if labelled { "label" } else { "id" };
    fn keys(embeddings: &Embeddings, labelled: bool) -> &[String] {
        if labelled { &embeddings.names.labels } else { &embeddings.names.ids }
    }
    let (rows, asking_keys) = (keys(index, labelled), keys(asking, labelled));
    let mut counts: HashMap<&str, usize> = HashMap::new();
    rows.iter().for_each(|key| *counts.entry(key.as_str()).or_default() += 1);
    let to_find = |query: usize| {
        counts.get(asking_keys[query].as_str()).copied().unwrap_or(0).saturating_sub(usize::from(is_self))
    };
    let deepest = (0..asking.len()).map(to_find).max().unwrap_or(0).max(10);
    let mut sums = [0.0; 5];
    let mut count = 0;
    blocks(index, asking, metric, deepest + usize::from(is_self), |query, best, _| {
        let wanted = to_find(query);
        if wanted == 0 {
            return;
        }
        let others = best.iter().filter(|row| !is_self || **row != query);
        let hits: Vec<bool> = others.map(|row| rows[*row] == asking_keys[query]).collect();
        let first = |depth: usize| &hits[..depth.min(hits.len())];
        let found = [
            retrieval::found(first(1), wanted),
            retrieval::found(first(5), wanted),
            retrieval::found(first(10), wanted),
            retrieval::map_at_r(first(wanted), wanted),
            retrieval::ndcg(first(10), wanted),
        ];
        sums.iter_mut().zip(found).for_each(|(sum, value)| *sum += value);
        count += 1;
    })?;
    if count == 0 {
        return Err(Error::bad_input("no query has anything to find: no two rows have one label or one id")
            .hint("embed labelled data with `caft embed RUN --data`"));
    }
    let names = ["recall_at_1", "recall_at_5", "recall_at_10", "map_at_r", "ndcg_at_10"];
    let metrics = names.into_iter().zip(sums.map(|sum| sum / count as f64)).collect();
    Ok(Measured { queries: count, by, metrics })
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

    #[test]
    fn queries_are_measured_by_label_or_by_id() {
        let mut index = embeddings(&["a", "b", "c", "d"], &[1.0, 0.0, 1.0, 0.1, 0.0, 1.0, 0.1, 1.0]);
        let ids = measure(&index, Some(&index.clone()), Distance::Cosine).unwrap();
        assert_eq!((ids.by, ids.queries, ids.metrics["recall_at_1"]), ("id", 4, 1.0));
        assert!(measure(&index, None, Distance::Cosine).is_err(), "no row has another of its id");
        index.names.labels = ["x", "x", "y", "x"].map(String::from).to_vec();
        let labels = measure(&index, None, Distance::Cosine).unwrap();
        // `a` and `b` find each other first; `d` finds `c` first and then `b`; `c` has nobody to find.
        assert_eq!((labels.by, labels.queries), ("label", 3));
        assert!((labels.metrics["recall_at_1"] - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(labels.metrics["recall_at_5"], 1.0);
        // Of `a`: b, d, c. Of `b`: a, d. Of `d`: c, b, a, of which the first two count.
        let expected = (1.0 + 1.0 + 0.25) / 3.0;
        assert!((labels.metrics["map_at_r"] - expected).abs() < 1e-9, "{labels:?}");
    }
}
