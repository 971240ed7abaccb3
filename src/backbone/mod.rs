//! Rank 2: the catalogue of backbones.
