//! ONNX files: reading, writing and surgery on the protobuf.
//!
//! [`read`] maps a file and decodes it into [`proto`] messages without copying its weights; [`cut()`] keeps
//! what named tensors need and frees the batch dimension; [`write`] streams the result out. Which
//! tensors are cut and how they are reduced is an [`OutputSpec`] with a [`Select`].

pub mod proto;
mod select;

pub use select::{OutputSpec, Select};
