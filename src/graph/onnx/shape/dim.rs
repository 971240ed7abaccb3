//! Sizes that may be a multiple of the batch, and arithmetic on them.

/// The size of an axis, or an integer of shape arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// This number.
    Known(i64),
    /// So many times the batch.
    Batch(i64),
    /// Not known without running.
    Unknown,
}

use Dim::{Batch, Known, Unknown};

impl Dim {
    /// The number, if it is known and not negative.
    pub fn known(self) -> Option<usize> {
        match self {
            Known(size) => usize::try_from(size).ok(),
            _ => None,
        }
    }

    /// The number for a given batch.
    pub fn at(self, batch: i64) -> Option<i64> {
        match self {
            Known(value) => Some(value),
            Batch(times) => times.checked_mul(batch),
            Unknown => None,
        }
    }

    /// Whether it grows with the batch.
    pub fn is_batch(self) -> bool {
        matches!(self, Batch(_))
    }

    /// Sum.
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Known(a), Known(b)) => a.checked_add(b).map_or(Unknown, Known),
            (Batch(a), Batch(b)) => a.checked_add(b).map_or(Unknown, batch),
            (value, Known(0)) | (Known(0), value) => value,
            _ => Unknown,
        }
    }

    /// Product.
    pub fn times(self, other: Self) -> Self {
        match (self, other) {
            (Known(a), Known(b)) => a.checked_mul(b).map_or(Unknown, Known),
            (Batch(a), Known(b)) | (Known(b), Batch(a)) => a.checked_mul(b).map_or(Unknown, batch),
            _ => Unknown,
        }
    }

    /// Quotient, rounded towards zero; of batches only where it is exact.
    pub fn over(self, other: Self) -> Self {
        match (self, other) {
            (_, Known(0) | Batch(0)) => Unknown,
            (Known(a), Known(b)) => a.checked_div(b).map_or(Unknown, Known),
            (Batch(a), Known(b)) if a % b == 0 => batch(a / b),
            (Batch(a), Batch(b)) if a % b == 0 => Known(a / b),
            _ => Unknown,
        }
    }

    /// Whether two are the same number; `None` if that depends on the batch or is not known. A batch is
    /// at least 1.
    pub fn same(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Known(a), Known(b)) => Some(a == b),
            (Batch(a), Batch(b)) => Some(a == b),
            (Batch(times), Known(value)) | (Known(value), Batch(times)) if value < times.min(1) => Some(false),
            _ => None,
        }
    }

    /// The size of an axis where arrays of these sizes meet by NumPy's broadcasting.
    pub fn broadcast(self, other: Self) -> Self {
        match (self, other) {
            (Known(1), size) | (size, Known(1)) => size,
            (a, b) if a == b => a,
            // One of them may still be 1; a size above 1 wins.
            (Known(size), Unknown) | (Unknown, Known(size)) => Known(size),
            _ => Unknown,
        }
    }
}

fn batch(times: i64) -> Dim {
    if times == 0 { Known(0) } else { Batch(times) }
}

/// The product of sizes.
pub fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Known(1), |all, dim| all.times(*dim))
}

/// The shape where arrays meet by NumPy's broadcasting.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Vec<Dim> {
    let rank = a.len().max(b.len());
    let padded = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(Known(1), |i| dims[i]);
    (0..rank).map(|i| padded(a, i).broadcast(padded(b, i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_of_the_batch_are_counted() {
        assert_eq!(product(&[Batch(1), Known(12), Known(4)]), Batch(48));
        assert_eq!(Batch(48).over(Known(12)), Batch(4));
        assert_eq!(Batch(48).over(Batch(4)), Known(12));
        assert_eq!(Batch(1).times(Batch(1)), Unknown);
        assert_eq!(Batch(1).same(Known(-1)), Some(false));
        assert_eq!(Batch(1).same(Known(1)), None);
        assert_eq!(broadcast(&[Batch(1), Known(1), Known(8)], &[Known(5), Known(1)]), [Batch(1), Known(5), Known(8)]);
    }
}
