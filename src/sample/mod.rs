//! Rank 1: samples (where their bytes are, what they are) and the transforms that make network inputs of them.
