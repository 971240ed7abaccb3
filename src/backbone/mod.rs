//! Rank 2: the catalogue of backbones, as data.
//!
//! An entry says where a network's weights are, what its input is, how pictures are made into it, and
//! which tensors are its named outputs. Entries are YAML files under `configs/backbones/`, one per
//! family, and are part of the program; adding one takes no Rust.

mod catalogue;
mod entry;

pub use catalogue::{Catalogue, catalogue};
pub use entry::{Entry, Export, Input, Output, Proof, Task, TrainSource, Weights};
