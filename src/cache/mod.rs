//! Rank 6: stored activations.
