//! Walks over the elements of a row that read other tensors in strides.

/// The most dimensions of a row.
pub(super) const RANK: usize = 8;

/// A row of `sizes` in row-major order, with the distance in each of `N` tensors from one element to the next
/// along every dimension: 0 where one element is read for all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strided<const N: usize> {
    rank: usize,
    sizes: [usize; RANK],
    strides: [[usize; RANK]; N],
}

impl<const N: usize> Strided<N> {
    /// Nothing but one element.
    pub fn new() -> Self {
        Self { rank: 1, sizes: [1; RANK], strides: [[0; RANK]; N] }
    }

    /// Adds a last dimension. One that goes on where the one before ends becomes a part of it, so that runs
    /// are long.
    ///
    /// # Panics
    /// There are more than [`RANK`] that do not.
    pub fn push(&mut self, size: usize, strides: [usize; N]) {
        if size == 1 {
            return;
        }
        let last = self.rank - 1;
        let goes_on = |n: usize| self.strides[n][last] == strides[n] * size;
        if self.sizes[last] == 1 || (0..N).all(goes_on) {
            self.sizes[last] *= size;
        } else {
            self.rank += 1;
            self.sizes[self.rank - 1] = size;
        }
        let last = self.rank - 1;
        (0..N).for_each(|n| self.strides[n][last] = strides[n]);
    }

    /// Elements of a run along the last dimension, and their distances.
    pub fn run(&self) -> (usize, [usize; N]) {
        let last = self.rank - 1;
        (self.sizes[last], std::array::from_fn(|n| self.strides[n][last]))
    }

    /// How many runs a row has.
    pub fn runs(&self) -> usize {
        self.sizes[..self.rank - 1].iter().product()
    }

    /// Where a run begins in each tensor.
    pub fn offsets(&self, run: usize) -> [usize; N] {
        let (mut rest, mut offsets) = (run, [0; N]);
        for axis in (0..self.rank - 1).rev() {
            let at = rest % self.sizes[axis];
            rest /= self.sizes[axis];
            (0..N).for_each(|n| offsets[n] += at * self.strides[n][axis]);
        }
        offsets
    }
}

impl Strided<1> {
    /// Calls `body(offset in the row, count, offset in the tensor, stride)` for each run.
    pub fn each(&self, mut body: impl FnMut(usize, usize, usize, usize)) {
        let (count, [step]) = self.run();
        (0..self.runs()).for_each(|run| body(run * count, count, self.offsets(run)[0], step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_that_go_on_are_joined() {
        let mut walk = Strided::<2>::new();
        walk.push(4, [6, 1]);
        walk.push(1, [99, 99]);
        walk.push(2, [3, 0]);
        walk.push(3, [1, 0]);
        assert_eq!((walk.runs(), walk.run()), (4, (6, [1, 0])));
        assert_eq!(walk.offsets(3), [18, 3]);
        let mut walk = Strided::<1>::new();
        walk.push(2, [1]);
        walk.push(3, [2]);
        let mut seen = Vec::new();
        walk.each(|to, count, from, step| seen.push((to, count, from, step)));
        assert_eq!(seen, [(0, 3, 0, 2), (3, 3, 1, 2)]);
    }
}
