//! Rank 2: metrics, one file per kind.
