//! Sizes that may be a multiple of the batch, and arithmetic on them.

/// The size of an axis, or an integer of shape arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// This number.
    Known(i64),
    /// The batch as a factor: `outer` × batch × `inner`. Where axes were merged in row-major order, `outer`
    /// are the axes before the batch and `inner` those behind it.
    Batch(i64, i64),
    /// Not known without running.
    Unknown,
}

use Dim::{Batch, Known, Unknown};

impl Dim {
    /// The batch itself.
    pub const BATCH: Self = Batch(1, 1);

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
            Batch(outer, inner) => outer.checked_mul(inner)?.checked_mul(batch),
            Unknown => None,
        }
    }

    /// Whether it grows with the batch.
    pub fn is_batch(self) -> bool {
        matches!(self, Batch(..))
    }

    /// Sum.
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Known(a), Known(b)) => a.checked_add(b).map_or(Unknown, Known),
            (Batch(a, i), Batch(b, j)) if i == j => a.checked_add(b).map_or(Unknown, |outer| batch(outer, i)),
            (value, Known(0)) | (Known(0), value) => value,
            _ => Unknown,
        }
    }

    /// Product, as of two axes that are merged: what stands on the left is the outer one.
    pub fn times(self, other: Self) -> Self {
        match (self, other) {
            (Known(a), Known(b)) => a.checked_mul(b).map_or(Unknown, Known),
            (Known(a), Batch(outer, inner)) => a.checked_mul(outer).map_or(Unknown, |outer| batch(outer, inner)),
            (Batch(outer, inner), Known(b)) => inner.checked_mul(b).map_or(Unknown, |inner| batch(outer, inner)),
            _ => Unknown,
        }
    }

    /// Quotient, rounded towards zero; of batches only where it is exact.
    pub fn over(self, other: Self) -> Self {
        match (self, other) {
            (_, Known(0)) => Unknown,
            (Known(a), Known(b)) => a.checked_div(b).map_or(Unknown, Known),
            (Batch(outer, inner), Known(b)) if inner % b == 0 => batch(outer, inner / b),
            (Batch(outer, inner), Known(b)) if outer % b == 0 => batch(outer / b, inner),
            (Batch(a, i), Batch(b, j)) if (a * i) % (b * j) == 0 => Known((a * i) / (b * j)),
            _ => Unknown,
        }
    }

    /// Whether two are the same number; `None` if that depends on the batch or is not known. A batch is
    /// at least 1.
    pub fn same(self, other: Self) -> Option<bool> {
        match (self, other) {
            (Known(a), Known(b)) => Some(a == b),
            (Batch(a, i), Batch(b, j)) => Some(a.saturating_mul(i) == b.saturating_mul(j)),
            (Batch(..), Known(value)) | (Known(value), Batch(..)) if value < 1 => Some(false),
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

fn batch(outer: i64, inner: i64) -> Dim {
    match outer.checked_mul(inner) {
        Some(0) => Known(0),
        // Sizes are not negative; the products that `over` and `at` take must exist.
        Some(times) if times > 0 => Batch(outer, inner),
        _ => Unknown,
    }
}

/// The product of sizes.
pub fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Known(1), |all, dim| all.times(*dim))
}

/// The size at `open` of a shape whose other sizes are known, for a number of elements. A batch keeps its place
/// in row-major order where that is possible.
pub fn rest_of(total: Dim, dims: &[Dim], open: usize) -> Dim {
    let (before, after) = (product(&dims[..open]), product(&dims[open + 1..]));
    if let (Batch(outer, inner), Known(before), Known(after)) = (total, before, after)
        && before > 0
        && after > 0
        && outer % before == 0
        && inner % after == 0
    {
        return batch(outer / before, inner / after);
    }
    total.over(before.times(after))
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
        assert_eq!(product(&[Dim::BATCH, Known(12), Known(4)]), Batch(1, 48));
        assert_eq!(product(&[Known(50), Dim::BATCH, Known(4)]), Batch(50, 4));
        assert_eq!(Batch(1, 48).over(Known(12)), Batch(1, 4));
        assert_eq!(Batch(1, 48).over(Batch(1, 4)), Known(12));
        assert_eq!(Dim::BATCH.times(Dim::BATCH), Unknown);
        assert_eq!(Dim::BATCH.same(Known(-1)), Some(false));
        assert_eq!(Dim::BATCH.same(Known(1)), None);
        assert_eq!(Dim::BATCH.times(Known(-1)), Unknown);
        assert_eq!(
            broadcast(&[Dim::BATCH, Known(1), Known(8)], &[Known(5), Known(1)]),
            [Dim::BATCH, Known(5), Known(8)]
        );
    }
}
