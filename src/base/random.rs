//! Counter-based random numbers: a number is a function of (seed, stream, counter), so it does not
//! depend on the order of calls, on threads, or on the trainer that draws it.
//!
//! The generator is Philox 4×32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011): the key is the seed, the counter is (index, stream).

const MULTIPLIERS: (u64, u64) = (0xD251_1F53, 0xCD9E_8D57);
const WEYL: (u32, u32) = (0x9E37_79B9, 0xBB67_AE85);

/// One Philox 4×32-10 block.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let a = MULTIPLIERS.0 * u64::from(c[0]);
        let b = MULTIPLIERS.1 * u64::from(c[2]);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(WEYL.0), k[1].wrapping_add(WEYL.1)];
    }
    c
}

/// A stream of random numbers, named by a seed and a stream number.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: [u32; 2],
    stream: [u32; 2],
}

impl Stream {
    /// The stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { key: split(seed), stream: split(stream) }
    }

    /// A stream named by words, such as `("weights", "head.weight")`.
    pub fn named(seed: u64, name: &str) -> Self {
        let digest = blake3::hash(name.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.as_bytes()[..8]);
        Self::new(seed, u64::from_le_bytes(bytes))
    }

    /// The block at an index: four independent 32-bit numbers.
    pub fn block(&self, index: u64) -> [u32; 4] {
        let [low, high] = split(index);
        philox([low, high, self.stream[0], self.stream[1]], self.key)
    }

    /// The 64-bit number at an index.
    pub fn u64(&self, index: u64) -> u64 {
        let block = self.block(index);
        u64::from(block[0]) | u64::from(block[1]) << 32
    }

    /// Uniform in [0, 1), with 24 random bits.
    pub fn uniform(&self, index: u64) -> f32 {
        (self.block(index)[0] >> 8) as f32 / (1u32 << 24) as f32
    }

    /// Standard normal, by Box and Muller's transform in f64.
    pub fn normal(&self, index: u64) -> f32 {
        let block = self.block(index);
        let unit = |bits: u32| (f64::from(bits) + 0.5) / 4_294_967_296.0;
        let radius = (-2.0 * unit(block[0]).ln()).sqrt();
        (radius * (std::f64::consts::TAU * unit(block[1])).cos()) as f32
    }

    /// Uniform in `0..bound`, without bias worth speaking of (64-bit multiply-shift; the bias is below
    /// `bound` / 2⁶⁴).
    pub fn below(&self, index: u64, bound: u64) -> u64 {
        ((u128::from(self.u64(index)) * u128::from(bound)) >> 64) as u64
    }

    /// Shuffles in place (Fisher and Yates), a function of the stream alone.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64, i as u64 + 1) as usize);
        }
    }

    /// A random order of `0..n`.
    pub fn permutation(&self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

fn split(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of Random123's `kat_vectors` for philox4x32-10.
    #[test]
    fn philox_gives_the_published_numbers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = u32::MAX;
        assert_eq!(philox([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn numbers_have_the_right_moments() {
        let stream = Stream::named(7, "test");
        let n = 20_000;
        let normals: Vec<f64> = (0..n).map(|i| f64::from(stream.normal(i))).collect();
        let mean = normals.iter().sum::<f64>() / n as f64;
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / n as f64 - mean * mean;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let mean = (0..n).map(|i| f64::from(stream.uniform(i))).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn a_permutation_is_one_and_depends_on_the_seed() {
        let order = Stream::new(1, 0).permutation(100);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(order, Stream::new(2, 0).permutation(100));
        assert_eq!(order, Stream::new(1, 0).permutation(100));
    }
}
