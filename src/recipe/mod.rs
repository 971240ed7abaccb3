//! Rank 3: recipes, from YAML layers to a checked [`Recipe`].
//!
//! [`load()`] reads a file and what it extends into [trees](tree) that keep places ([`yaml`]), merges the
//! [`layers`], checks the result against the [`schema`] (whose complaints [`check`] puts in words), and
//! reads it into the [types](Recipe). Rules that span several keys are the plan's.

pub mod calibration;
pub mod check;
mod feature_augment;
pub mod foreign;
mod gather;
pub mod layers;
mod load;
mod ludwig;
mod paths;
pub mod reference;
pub mod schema;
pub mod shipped;
pub mod sweep_file;
mod train;
pub mod tree;
mod types;
pub mod yaml;

pub use calibration::{CalibrationConfig, CalibrationMethod};
pub use feature_augment::{FeatureAugment, FeatureDropout, Mixup, Noise, Scale};
pub use layers::Overrides;
pub use load::{Checked, Loaded, Provenance, Varied, check_file, load};
pub use train::{Backend, Device, TrainConfig, loss_of};
pub use tree::{KeyPath, Segment};
pub use types::*;
