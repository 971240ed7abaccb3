//! Rank 3: recipes, from YAML layers to a checked [`Recipe`].

pub mod layers;
pub mod tree;
pub mod types;
pub mod yaml;

pub use layers::Overrides;
pub use tree::{KeyPath, Segment};
pub use types::*;
