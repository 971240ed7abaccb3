//! A block of a product, by what the processor has.

use std::sync::OnceLock;

use super::{BLOCK, STEP};

/// Rows or columns of a tile.
const TILE: usize = 16;

/// What computes a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// Advanced Matrix Extensions: tiles of 16 × 16.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// Dot products of AVX-512 BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Plain arithmetic.
    Plain,
}

impl Units {
    /// The quickest that this processor has.
    pub fn here() -> Self {
        static FOUND: OnceLock<Units> = OnceLock::new();
        *FOUND.get_or_init(|| Self::all()[0])
    }

    /// All that this processor has, the quickest first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if amx::is_here() {
                all.push(Self::Amx);
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
                all.push(Self::Avx512);
            }
        }
        all.push(Self::Plain);
        all
    }

    /// The name that shows what computes.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => "amx_bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512_bf16",
            Self::Plain => "none",
        }
    }

    /// Computes a block of 32 by 32 from packed blocks of both factors.
    ///
    /// # Safety
    /// `out` has room for the block with `stride` numbers from row to row, nobody else uses it, and this is one of
    /// [`Units::all`].
    pub unsafe fn block(self, a: &[u16], b: &[u16], out: *mut f32, stride: usize, accumulate: bool) {
        debug_assert!(a.len() == b.len() && a.len().is_multiple_of(BLOCK * STEP));
        // SAFETY: by the caller's promise; the factors have whole steps.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Amx => amx::block(a, b, out, stride, accumulate),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512::block(a, b, out, stride, accumulate),
                Self::Plain => plain(a, b, out, stride, accumulate),
            }
        }
    }
}

/// # Safety
/// As [`Units::block`].
unsafe fn plain(a: &[u16], b: &[u16], out: *mut f32, stride: usize, accumulate: bool) {
    let wide = |x: u16| f32::from_bits(u32::from(x) << 16);
    for row in 0..BLOCK {
        // SAFETY: a row of the block.
        let out = unsafe { std::slice::from_raw_parts_mut(out.add(row * stride), BLOCK) };
        let mut sums = [0.0f32; BLOCK];
        if accumulate {
            sums.copy_from_slice(out);
        }
        for (a, b) in a.chunks_exact(BLOCK * STEP).zip(b.chunks_exact(BLOCK * STEP)) {
            let terms = &a[row * STEP..][..STEP];
            for (b, sums) in b.chunks_exact(TILE * STEP).zip(sums.chunks_exact_mut(TILE)) {
                for (pair, b) in terms.chunks_exact(2).zip(b.chunks_exact(2 * TILE)) {
                    let (x, y) = (wide(pair[0]), wide(pair[1]));
                    for (sum, b) in sums.iter_mut().zip(b.chunks_exact(2)) {
                        *sum += x * wide(b[0]) + y * wide(b[1]);
                    }
                }
            }
        }
        out.copy_from_slice(&sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };
    use std::mem::transmute;

    use super::{BLOCK, STEP, TILE};

    /// Rows whose sums stay in registers, for both tiles of columns.
    const ROWS: usize = 8;

    /// # Safety
    /// As [`super::Units::block`]; the processor has AVX-512 BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn block(a: &[u16], b: &[u16], out: *mut f32, stride: usize, accumulate: bool) {
        for rows in (0..BLOCK).step_by(ROWS) {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            // SAFETY: numbers of the block.
            let at = |row: usize, tile: usize| unsafe { out.add((rows + row) * stride + tile * TILE) };
            if accumulate {
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: 16 numbers of the block.
                    *sums = unsafe { [_mm512_loadu_ps(at(row, 0)), _mm512_loadu_ps(at(row, 1))] };
                }
            }
            for (a, b) in a.chunks_exact(BLOCK * STEP).zip(b.chunks_exact(BLOCK * STEP)) {
                for pair in 0..STEP / 2 {
                    // SAFETY: 32 numbers of the block; every register of 512 bits is one of 32 bf16.
                    let load = |tile: usize| unsafe {
                        let numbers = b[tile * TILE * STEP + pair * 2 * TILE..].as_ptr();
                        transmute::<__m512i, __m512bh>(_mm512_loadu_si512(numbers.cast()))
                    };
                    let columns = [load(0), load(1)];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let terms = &a[(rows + row) * STEP + 2 * pair..][..2];
                        let both = i32::from(terms[0]) | i32::from(terms[1]) << 16;
                        // SAFETY: as above.
                        let terms = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(both)) };
                        for (sum, columns) in sums.iter_mut().zip(columns) {
                            *sum = _mm512_dpbf16_ps(*sum, terms, columns);
                        }
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (tile, sum) in sums.iter().enumerate() {
                    // SAFETY: 16 numbers of the block.
                    unsafe { _mm512_storeu_ps(at(row, tile), *sum) };
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    use super::{BLOCK, STEP};

    /// Palette 1: eight tiles of 16 rows of 64 bytes.
    #[repr(align(64))]
    struct Configuration([u8; 64]);

    static CONFIGURATION: Configuration = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Configuration(bytes)
    };

    /// Whether the processor has tiles with bf16, and the system lets this process use them.
    pub fn is_here() -> bool {
        let has = |bit: u32| __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (1 << bit) != 0;
        has(22) && has(24) && is_permitted()
    }

    /// Asks Linux for the tiles' state, which it saves only for processes that ask (`ARCH_REQ_XCOMP_PERM`).
    #[cfg(target_os = "linux")]
    fn is_permitted() -> bool {
        let result: i64;
        // SAFETY: `arch_prctl(0x1023, 18)` changes nothing but what this process may use.
        unsafe {
            asm!("syscall", inlateout("rax") 158i64 => result, in("rdi") 0x1023i64, in("rsi") 18i64,
                out("rcx") _, out("r11") _, options(nostack));
        }
        result == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn is_permitted() -> bool {
        false
    }

    /// # Safety
    /// As [`super::Units::block`]; [`is_here`] holds.
    pub unsafe fn block(a: &[u16], b: &[u16], out: *mut f32, stride: usize, accumulate: bool) {
        let steps = a.len() / (BLOCK * STEP);
        let stride = 4 * stride;
        // Tiles 0 to 3 are the block's sums, 4 and 5 two tiles of rows, 6 and 7 two of columns.
        //
        // SAFETY: the configuration is valid; tiles are read from whole steps of `a` and `b`, of 2,048 bytes each, and
        // written to 32 rows of 128 bytes of `out`. Nothing else uses tiles between their configuration and release.
        unsafe {
            let lower = out.cast::<u8>().add(16 * stride);
            asm!(
                "ldtilecfg [{configuration}]",
                "test {accumulate:e}, {accumulate:e}",
                "jz 3f",
                "tileloadd tmm0, [{out} + {stride}*1]",
                "tileloadd tmm1, [{out} + {stride}*1 + 64]",
                "tileloadd tmm2, [{lower} + {stride}*1]",
                "tileloadd tmm3, [{lower} + {stride}*1 + 64]",
                "jmp 4f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "4:",
                "test {steps}, {steps}",
                "jz 5f",
                "2:",
                "tileloadd tmm4, [{a} + {line}*1]",
                "tileloadd tmm6, [{b} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a} + {line}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{b} + {line}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 2048",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "5:",
                "tilestored [{out} + {stride}*1], tmm0",
                "tilestored [{out} + {stride}*1 + 64], tmm1",
                "tilestored [{lower} + {stride}*1], tmm2",
                "tilestored [{lower} + {stride}*1 + 64], tmm3",
                "tilerelease",
                configuration = in(reg) CONFIGURATION.0.as_ptr(),
                accumulate = in(reg) u32::from(accumulate),
                out = in(reg) out,
                lower = in(reg) lower,
                stride = in(reg) stride,
                a = inout(reg) a.as_ptr() => _,
                b = inout(reg) b.as_ptr() => _,
                line = in(reg) 64usize,
                steps = inout(reg) steps => _,
                options(nostack),
            );
        }
    }
}
