//! Rank 2: data sets: rows with samples, targets and splits, read from what a recipe's `data:` names.
//!
//! A kind of data set is one file here with its config, its reading and its tests, plus its `mod` line
//! and its line in [`Format`]. It reads one set at a time; fractions, folds, subsets and the joining of
//! class names are common to all ([`load()`]). Rows never hold pixels: a sample says where its bytes are, in a
//! file of its own, in a shard, or in a column that is unpacked once to the home.

mod bad;
mod cifar10;
mod cifar100;
mod columns;
mod config;
mod csv;
mod fields;
mod image_folder;
mod jsonl;
mod label;
mod labels;
mod listing;
mod load;
mod mnist;
mod parquet;
mod parquet_file;
mod renumber;
mod segmentation;
mod split;
mod table;
mod tar;
mod targets;
mod text_table;
mod tsv;
mod webdataset;

pub use columns::Columns;
pub use config::{Common, DataConfig, Fold, Marked, OnError, SetConfig, TrainSet};
pub use image_folder::is_picture;
pub use label::LabelConfig;
pub use load::{LoadContext, load};
pub use table::Delimiter;
pub use targets::{Mask, TargetKind, Targets};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Problems;
use crate::sample::{Modality, Origin, Samples};

/// Declares [`Format`] with one variant per kind.
macro_rules! formats {
    ($($module:ident::$kind:ident = $name:literal,)*) => {
        /// The kinds of data sets.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind")]
        #[expect(missing_docs, reason = "each kind is described by its config struct")]
        pub enum Format {
            $(#[serde(rename = $name)] $kind($module::$kind),)*
        }

        impl Format {
            /// The name of the kind, as `kind:` has it.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$kind(_) => $name,)* }
            }

            fn reader(&self) -> &dyn load::Read {
                match self { $(Self::$kind(format) => format,)* }
            }

            fn check(&self, problems: &mut Problems) {
                self.reader().check(problems);
            }
        }
    };
}

formats! {
    cifar10::Cifar10 = "cifar10",
    cifar100::Cifar100 = "cifar100",
    csv::Csv = "csv",
    image_folder::ImageFolder = "image_folder",
    jsonl::Jsonl = "jsonl",
    mnist::Mnist = "mnist",
    parquet::Parquet = "parquet",
    segmentation::Segmentation = "segmentation",
    tsv::Tsv = "tsv",
    webdataset::Webdataset = "webdataset",
}

/// A data set: rows in a fixed order that does not depend on the file system.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// What each row has.
    pub fields: Vec<Field>,
    /// The rows of all splits.
    pub rows: Vec<Row>,
    /// What the rows are labelled with.
    pub targets: Targets,
    /// Which rows are for what.
    pub splits: Splits,
    /// What was left out with `on_error: skip`.
    pub left_out: Vec<LeftOut>,
    /// How likely each row is to be drawn, where a column says so; 1 of rows that are not trained on.
    pub weights: Option<Vec<f32>>,
}

/// A row that tables list and that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it comes from, as [`Row::origin`].
    pub origin: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A named input of every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name, such as `image`.
    pub name: String,
    /// What kind of thing it is.
    pub modality: Modality,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// One sample per field.
    pub samples: Samples,
    /// Where the row comes from, for messages: `labels.csv:17`, `train/cat/1.jpg`.
    pub origin: Origin,
}

/// Row numbers, each split in ascending order; no row is in two splits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Splits {
    /// Rows to train on.
    pub train: Vec<u32>,
    /// Rows that guide training; may be none.
    pub valid: Vec<u32>,
    /// Rows to evaluate on in the end; may be none.
    pub test: Vec<u32>,
}
