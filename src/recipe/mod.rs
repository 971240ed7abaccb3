//! Rank 3: recipes, from YAML layers to a checked [`Recipe`](types::Recipe).

pub mod tree;
pub mod yaml;
