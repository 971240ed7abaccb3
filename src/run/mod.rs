//! Rank 9: the interpreter: a plan becomes stages.

pub mod directory;
pub mod lock;
pub mod record;
