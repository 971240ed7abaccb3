//! Rank 2: dataset formats, one file per kind.
