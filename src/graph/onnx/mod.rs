//! ONNX files: reading, writing and surgery on the protobuf.
//!
//! [`read()`] maps a file and decodes it into [`proto`] messages without copying its weights; [`cut()`]
//! keeps what named tensors need; [`write()`] streams the result out, with its weights beside it once they
//! are too large for one message. Which tensors a cut takes and how they are reduced is an
//! [`OutputSpec`] with a [`Select`].

mod batch;
mod cut;
pub mod ends;
mod half;
pub mod inspect;
mod join;
pub mod make;
mod pool;
pub mod proto;
pub mod quantize;
mod read;
mod select;
pub mod shape;
mod size;
pub mod splice;
mod tensor;
#[doc(hidden)]
pub mod testing;
pub mod walk;
mod widen;
mod write;

pub use batch::free_batch;
pub use cut::{cut, default_opset, describe, parameters};
pub use half::to_half;
pub use join::{input_names, join};
pub use pool::steady_means;
pub use read::{LARGEST_FILE, external_files, external_locations, read};
pub use select::{OutputSpec, Select};
pub use size::set_image_size;
pub use widen::widen_inputs;
pub use write::{write, write_split};
