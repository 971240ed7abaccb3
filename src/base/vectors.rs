//! Loops for the widest vectors of the processor at hand.

use std::sync::LazyLock;

/// Runs a loop over numbers, compiled for the widest vectors of the processor at hand. That changes no bit: each
/// operation is rounded as it is without them, and sums keep their order.
///
/// The loop stands in the macro, and all that it calls must be inlined: what is not is compiled for any processor.
macro_rules! vectors {
    ($body:expr) => {
        $crate::base::vectors::dispatch(
            #[inline(always)]
            || $body,
        )
    };
}
pub(crate) use vectors;

/// Calls `body` where the widest vectors may be used; see `vectors!`.
#[inline(always)]
pub fn dispatch<R>(body: impl FnOnce() -> R) -> R {
    static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);
    ARCH.dispatch(body)
}
