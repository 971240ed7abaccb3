//! Rank 7: the training loop and the trainers.
