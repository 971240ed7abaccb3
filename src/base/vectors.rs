//! Loops for the widest vectors of the processor at hand.

use std::sync::LazyLock;

/// Runs a loop over numbers, compiled for the widest vectors of the processor at hand. That changes no bit: each
/// operation is rounded as it is without them, and sums keep their order.
#[inline(always)]
pub fn vectors<R>(body: impl FnOnce() -> R) -> R {
    static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);
    ARCH.dispatch(body)
}
