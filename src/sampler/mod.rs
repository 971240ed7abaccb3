//! Rank 2: samplers, which say which training rows an epoch visits and in what order; one file per kind.
//!
//! An order is a function of the rows, the seed and the epoch alone, so that a resumed run goes on with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::random::Stream;
use crate::base::{Error, Result};

mod class_balanced;
mod pk;
mod shuffle;
mod weighted;

pub use class_balanced::ClassBalanced;
pub use pk::Pk;
pub use shuffle::Shuffle;
pub use weighted::Weighted;

/// Which training rows an epoch visits, and in what order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SamplerConfig {
    /// Every row once, in a random order.
    Shuffle(Shuffle),
    /// Every class equally often.
    ClassBalanced(ClassBalanced),
    /// Rows at random, by the weight of their class or of their own.
    Weighted(Weighted),
    /// Batches of so many rows of each of some classes, as losses that compare rows need.
    Pk(Pk),
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self::Shuffle(Shuffle {})
    }
}

/// What a sampler draws from.
#[derive(Debug, Clone, Copy)]
pub struct Pool<'a> {
    /// The training rows.
    pub rows: &'a [u32],
    /// The class of every row of the dataset.
    pub class_of: &'a [u32],
    /// How likely every row of the dataset is to be drawn, where the data say so.
    pub weights: Option<&'a [f32]>,
    /// How many classes there are.
    pub classes: usize,
    /// Rows of a batch.
    pub batch_size: usize,
    /// The seed of the order.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u32,
}

impl SamplerConfig {
    /// Whether rows are drawn by their class, so that targets must be classes.
    pub fn needs_classes(&self) -> bool {
        match self {
            Self::Shuffle(_) => false,
            Self::Weighted(weighted) => !weighted.by_row(),
            Self::ClassBalanced(_) | Self::Pk(_) => true,
        }
    }

    /// Whether not just every row comes once.
    pub fn draws(&self) -> bool {
        !matches!(self, Self::Shuffle(_))
    }

    /// How many of some classes, given by their training rows, are never drawn though they have some.
    pub fn left_out(&self, rows_of_classes: &[usize]) -> usize {
        match self {
            Self::Pk(pk) => rows_of_classes.iter().filter(|rows| pk.leaves_out(**rows)).count(),
            Self::Shuffle(_) | Self::ClassBalanced(_) | Self::Weighted(_) => 0,
        }
    }

    /// The rows of an epoch in order; `None` for every row once at random, which the trainer does by blocks
    /// where the features are large.
    ///
    /// # Errors
    /// Settings that do not fit the classes.
    pub fn order(&self, pool: &Pool<'_>) -> Result<Option<Vec<u32>>> {
        match self {
            Self::Shuffle(_) => Ok(None),
            Self::ClassBalanced(_) => class_balanced::order(pool).map(Some),
            Self::Weighted(weighted) => weighted.order(pool).map(Some),
            Self::Pk(pk) => pk.order(pool).map(Some),
        }
    }
}

impl Pool<'_> {
    fn stream(&self, what: &str) -> Stream {
        Stream::named(self.seed, &format!("sampler/{what}/{}", self.epoch))
    }

    /// The rows of each class that has any.
    fn by_class(&self) -> Result<Vec<Vec<u32>>> {
        let mut all = vec![Vec::new(); self.classes];
        self.rows.iter().for_each(|row| all[self.class_of[*row as usize] as usize].push(*row));
        all.retain(|rows| !rows.is_empty());
        if all.is_empty() { Err(Error::bad_input("there are no training rows to sample")) } else { Ok(all) }
    }
}

/// Items that come round again, in another order each time.
struct Round<T> {
    items: Vec<T>,
    next: usize,
    stream: Stream,
    drawn: u64,
}

impl<T: Copy> Round<T> {
    fn new(items: Vec<T>, stream: Stream) -> Self {
        Self { next: items.len(), items, stream, drawn: 0 }
    }

    fn draw(&mut self) -> T {
        if self.next == self.items.len() {
            self.next = 0;
            for i in (1..self.items.len()).rev() {
                self.items.swap(i, self.stream.below(self.drawn, i as u64 + 1) as usize);
                self.drawn += 1;
            }
        }
        self.next += 1;
        self.items[self.next - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 90 rows of class 0, 9 of class 1, 1 of class 2, none of class 3.
    fn pool(class_of: &[u32], rows: &[u32], epoch: u32, batch_size: usize) -> Result<Vec<Vec<u32>>> {
        let samplers = [
            SamplerConfig::ClassBalanced(ClassBalanced {}),
            SamplerConfig::Weighted(Weighted { weights: vec![1.0, 0.0, 99.0, 5.0] }),
            SamplerConfig::Pk(Pk { rows_per_class: 4 }),
        ];
        let pool = Pool { rows, class_of, weights: None, classes: 4, batch_size, seed: 3, epoch };
        samplers.iter().map(|sampler| Ok(sampler.order(&pool)?.unwrap())).collect()
    }

    #[test]
    fn classes_come_as_often_as_asked_for() {
        let class_of: Vec<u32> =
            (0..100).map(|i| if i < 90 { 0 } else { u32::from(i < 99) + 2 * u32::from(i == 99) }).collect();
        let rows: Vec<u32> = (0..100).collect();
        let orders = pool(&class_of, &rows, 0, 8).unwrap();
        let count = |order: &[u32], class| order.iter().filter(|row| class_of[**row as usize] == class).count();
        assert_eq!([0, 1, 2].map(|c| count(&orders[0], c)), [34, 33, 33]);
        // A class's rows all come before one comes again.
        let small: std::collections::HashSet<u32> =
            orders[0].iter().copied().filter(|r| class_of[*r as usize] == 1).collect();
        assert_eq!(small.len(), 9);
        let drawn = [0, 1, 2].map(|c| count(&orders[1], c));
        assert!(drawn[1] == 0 && drawn[0] > 30 && drawn[2] > 30 && drawn.iter().sum::<usize>() == 100, "{drawn:?}");
        assert_eq!(orders[2].len(), 96);
        for batch in orders[2].chunks(8) {
            let counts = [0, 1, 2].map(|c| count(batch, c));
            assert_eq!(counts.iter().filter(|n| **n == 4).count(), 2, "{counts:?}");
        }
        assert_eq!(orders, pool(&class_of, &rows, 0, 8).unwrap());
        let later = pool(&class_of, &rows, 1, 8).unwrap();
        assert!(orders.iter().zip(&later).all(|(a, b)| a != b));
        // The class of one row would only be compared with itself.
        assert_eq!(count(&orders[2], 2), 0);
        assert_eq!(SamplerConfig::Pk(Pk { rows_per_class: 4 }).left_out(&[90, 9, 1, 0]), 1);
        assert_eq!(SamplerConfig::Pk(Pk { rows_per_class: 1 }).left_out(&[90, 9, 1, 0]), 0);
        let error = pool(&class_of, &rows, 0, 16).unwrap_err();
        assert!(error.to_string().contains("4 classes"), "{error}");
        assert!(error.hint_text().unwrap().contains("1 of one row are left out"), "{error:?}");
        assert!(pool(&class_of, &rows, 0, 10).is_err());
    }

    #[test]
    fn rows_are_drawn_by_weights_of_their_own() {
        let weights: Vec<f32> = (0..40).map(|row| if row % 4 == 0 { 3.0 } else { f32::from(row % 2 == 0) }).collect();
        let rows: Vec<u32> = (0..40).collect();
        let pool =
            Pool { rows: &rows, class_of: &[], weights: Some(&weights), classes: 0, batch_size: 8, seed: 1, epoch: 0 };
        let sampler = SamplerConfig::Weighted(Weighted::default());
        assert!(sampler.draws() && !sampler.needs_classes());
        let drawn: Vec<u32> =
            (0..50).flat_map(|epoch| sampler.order(&Pool { epoch, ..pool }).unwrap().unwrap()).collect();
        let share = |of: u32| drawn.iter().filter(|row| **row % 4 == of).count() as f64 / drawn.len() as f64;
        assert_eq!((drawn.len(), share(1), share(3)), (2000, 0.0, 0.0));
        assert!((share(0) - 0.75).abs() < 0.04 && (share(2) - 0.25).abs() < 0.04, "{}", share(0));
        assert!(sampler.order(&Pool { weights: None, ..pool }).is_err());
    }
}
