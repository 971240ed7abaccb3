//! Rank 0: what every other module builds on and that knows nothing of models or data.
//!
//! Errors and [problems](problem), [shapes and dtypes](tensor), [digests](digest) and stable keys,
//! [atomic files](mod@file), [progress events](progress), [counter-based random numbers](random),
//! [cancellation](cancel), [text](visible()) of others made safe to show, [loops](vectors) for wide vectors, and the
//! [folders](home) caft keeps things in.

pub mod cancel;
mod cubic;
pub mod digest;
pub mod error;
pub mod file;
pub mod home;
pub mod memory;
pub mod problem;
pub mod progress;
pub mod random;
pub mod suggest;
pub mod tensor;
pub mod vectors;
mod visible;

pub use cancel::Cancel;
pub use cubic::cubic;
pub use digest::{Digest, KeyWriter};
pub use error::{Error, Result};
pub use home::Home;
pub use problem::{Place, Problem, Problems};
pub use progress::{Event, Progress};
pub use tensor::DType;
pub(crate) use vectors::vectors;
pub use visible::{is_unseen, visible, visible_line};
