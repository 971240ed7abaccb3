//! Rank 4: the plan, cross-field rules, and the cache key.

pub mod key;
