//! Rank 8: what a run gives away: files that other programs read.
