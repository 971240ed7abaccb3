//! The order in which an epoch visits the rows: a function of the order seed and the epoch alone.
//!
//! Features that fit in memory are shuffled freely. Larger ones are shuffled by blocks, so that reading
//! stays near sequential speed: runs of neighbouring rows are put into a random order, and then the rows
//! within each window of [`WINDOW`] blocks are.

use super::{Data, TrainConfig};
use crate::base::random::Stream;
use crate::base::{Error, Result};
use crate::graph::Targets;
use crate::sampler::Pool;

/// Blocks whose rows are mixed with each other.
pub const WINDOW: usize = 16;

/// The rows of an epoch in order, as the config's sampler draws them.
///
/// # Errors
/// The sampler does not fit the classes.
pub(super) fn epoch_order(data: &Data<'_>, config: &TrainConfig, epoch: u32) -> Result<Vec<u32>> {
    let sampler = &config.recipe.sampler;
    if sampler.draws() {
        let class_of: &[u32] = match data.targets {
            Targets::Classes(class_of) => class_of,
            _ if sampler.needs_classes() => {
                return Err(Error::bad_input("`train.sampler` draws rows by their class, and there are no classes"));
            }
            _ => &[],
        };
        let classes = class_of.iter().max().map_or(0, |class| *class as usize + 1);
        let pool = Pool {
            rows: data.train,
            class_of,
            weights: data.weights,
            classes,
            batch_size: config.batch_size(),
            seed: config.order_seed,
            epoch,
        };
        if let Some(order) = sampler.order(&pool)? {
            return Ok(order);
        }
    }
    let mut order = shuffled(data.pool, config.order_seed, epoch, data.features.block_rows());
    if data.pool.len() != data.train.len() {
        let trained = Mask::new(data.train);
        order.retain(|row| trained.has(*row));
    }
    Ok(order)
}

/// The rows that [`epoch_order`] puts in order before it leaves some out.
pub(super) fn pool<'a>(data: &Data<'a>, config: &TrainConfig) -> &'a [u32] {
    if config.recipe.sampler.draws() { data.train } else { data.pool }
}

/// Some rows, to be asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mask(Vec<bool>);

impl Mask {
    pub fn new(rows: &[u32]) -> Self {
        let mut mask = vec![false; rows.iter().max().map_or(0, |last| *last as usize + 1)];
        rows.iter().for_each(|row| mask[*row as usize] = true);
        Self(mask)
    }

    pub fn has(&self, row: u32) -> bool {
        self.0.get(row as usize).is_some_and(|has| *has)
    }
}

/// Every row once. `block_rows` is [`Features::block_rows`](super::Features::block_rows).
pub fn shuffled(rows: &[u32], order_seed: u64, epoch: u32, block_rows: Option<usize>) -> Vec<u32> {
    let Some(block_rows) = block_rows.map(|rows| rows.max(1)) else {
        let mut order = rows.to_vec();
        Stream::named(order_seed, &format!("order/{epoch}")).shuffle(&mut order);
        return order;
    };
    // Neighbours in the dataset are neighbours on disk; a split may name them in another order.
    let mut sorted = std::borrow::Cow::Borrowed(rows);
    if !rows.is_sorted() {
        sorted.to_mut().sort_unstable();
    }
    let mut blocks: Vec<&[u32]> = sorted.chunks(block_rows).collect();
    Stream::named(order_seed, &format!("blocks/{epoch}")).shuffle(&mut blocks);
    let mut order = blocks.concat();
    for (number, window) in order.chunks_mut(block_rows * WINDOW).enumerate() {
        Stream::named(order_seed, &format!("window/{epoch}/{number}")).shuffle(window);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_in_another_order_each_epoch() {
        let rows: Vec<u32> = (0..1000).rev().collect();
        for block_rows in [None, Some(1), Some(7), Some(100), Some(5000)] {
            let order = shuffled(&rows, 3, 0, block_rows);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..1000).collect::<Vec<_>>(), "{block_rows:?}");
            assert_eq!(order, shuffled(&rows, 3, 0, block_rows));
            assert_ne!(order, shuffled(&rows, 3, 1, block_rows));
            assert_ne!(order, shuffled(&rows, 4, 0, block_rows));
        }
    }

    #[test]
    fn parts_of_the_same_rows_visit_theirs_in_one_order() {
        let features = crate::train::InMemory::new(100).with("cls", &[1], vec![0.0; 100]).unwrap();
        let (all, some): (Vec<u32>, Vec<u32>) = ((0..100).collect(), (0..100).filter(|row| row % 3 > 0).collect());
        let recipe = crate::recipe::TrainConfig::default();
        let config = TrainConfig { recipe, metrics: Vec::new(), order_seed: 5, seed: 0 };
        let order = |train: &[u32]| {
            let targets = Targets::Classes(&[]);
            epoch_order(
                &Data { features: &features, targets, train, valid: &[], pool: &all, weights: None },
                &config,
                2,
            )
            .unwrap()
        };
        let mut whole = order(&all);
        whole.retain(|row| row % 3 > 0);
        assert_eq!(order(&some), whole);
    }

    #[test]
    fn a_window_reads_few_blocks_and_mixes_them() {
        let rows: Vec<u32> = (0..100_000).collect();
        let order = shuffled(&rows, 1, 0, Some(500));
        let blocks = |rows: &[u32]| rows.iter().map(|row| row / 500).collect::<std::collections::HashSet<_>>().len();
        assert_eq!(blocks(&order[..500 * WINDOW]), WINDOW);
        // A batch of 256 draws from nearly all 16 blocks of its window.
        assert!(order.chunks(256).take(30).all(|batch| blocks(batch) >= WINDOW - 2));
    }
}
