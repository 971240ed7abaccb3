//! Packed runs: one file that another machine uses without the backbone, without the data, or without both.
//!
//! A pack is a zip archive without compression. `pack.yaml`, its first file, names all others with their digests:
//!
//! | file | what it is |
//! | --- | --- |
//! | `run/…` | recipe, plan, lock, record, metrics and checkpoint of the run |
//! | `engine-N.caft-engine` | with the engines: those of the run, packed by themselves |
//! | `rows.json` | with the activations: of every row the digests of its samples, its target and its split |
//! | `tail.onnx` | with the activations, where a part of the backbone is trained: the model with the weights of that part |
//! | `masks/…` | with the activations, where masks are the targets: these, by their digests |
//! | `cache/1/…` | with the activations: the rows of the run's columns, in the cache's own format |
//!
//! Nothing inside is believed before it was checked: see [`open`]. The activations of a pack are never put among
//! those of this machine, whose keys say what produced them; they stay in the pack's own folder, `packs/` in caft's.

mod eval;
mod manifest;
mod open;
mod train;
mod write;

pub use eval::evaluate;
pub use manifest::{ENDING, Manifest, PackedColumn, PackedFile, PackedTargets, Rows};
pub use open::{Opened, is_pack, open};
pub use train::train;
pub use write::{PackRequest, pack};
