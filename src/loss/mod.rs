//! Rank 2: losses, one file per kind.
