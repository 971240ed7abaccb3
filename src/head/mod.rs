//! Rank 2: heads, one file per kind.
