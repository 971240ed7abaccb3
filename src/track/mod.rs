//! Rank 8: TensorBoard events and the JSON-lines log.
