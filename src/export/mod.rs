//! Rank 8: what leaves caft: one ONNX file of the whole network, with what others need to use it.
//!
//! [`merge()`] splices the cut backbone and the graph above the cut into one model, [`metadata`] says in it
//! what it is, and [`hugging_face`] makes the files beside it from which Hugging Face's pipelines load it.

pub mod embeddings;
pub mod hugging_face;
pub mod merge;
pub mod metadata;

pub use merge::{Above, Activation, Frozen, Input, merge};
pub use metadata::Metadata;
