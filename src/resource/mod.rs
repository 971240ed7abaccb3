//! Rank 1: addresses of files (a path, `hf:`, `https:`, `pip:`, `git+…`) and the fetcher that makes each a local file once.

pub mod address;
pub mod archive;
pub mod digests;
pub mod fetch;
pub mod git;
mod http;
mod hub;
mod lock;
mod named;
mod path;
mod pattern;
pub mod pip;
mod publish;
pub mod settings;
pub mod sha256;
mod store;
mod transfer;
mod tree;
pub mod unpack;
mod url;
mod web;

pub use address::Address;
pub use digests::DigestTable;
pub use fetch::{Fetched, Fetcher};
pub use named::Resource;
pub use pip::{Build, Wheel};
pub use settings::Settings;
pub use sha256::Sha256;
pub use store::StoredFile;
pub use url::is_inward;
