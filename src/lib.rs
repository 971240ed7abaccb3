//! caft, Cached-Activation Fine-Tuning: a frozen backbone runs once over the data in an inference
//! engine, its activations are stored, and everything above them is trained from the store.
//!
//! The modules by rank; each imports only from ranks above it in this table.
//!
//! | rank | modules |
//! | --- | --- |
//! | 0 | [`base`] |
//! | 1 | [`graph`], [`resource`], [`sample`] |
//! | 2 | [`neck`], [`head`], [`loss`], [`optim`], [`metric`], [`sampler`], [`data`], [`backbone`], [`sweep`] |
//! | 3 | [`recipe`] |
//! | 4 | [`plan`] |
//! | 5 | [`engine`] |
//! | 6 | [`cache`] |
//! | 7 | [`train`] |
//! | 8 | [`report`], [`track`] |
//! | 9 | [`run`] |
//! | 10 | [`cli`] |

pub mod backbone;
pub mod base;
pub mod cache;
pub mod cli;
pub mod data;
pub mod engine;
pub mod export;
pub mod graph;
pub mod head;
pub mod loss;
pub mod metric;
pub mod neck;
pub mod optim;
pub mod plan;
pub mod postprocess;
pub mod recipe;
pub mod report;
pub mod resource;
pub mod run;
pub mod sample;
pub mod sampler;
pub mod sweep;
pub mod track;
pub mod train;
