//! Rank 2: optimisers and learning-rate schedules, one file per kind.
