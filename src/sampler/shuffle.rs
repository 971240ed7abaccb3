//! Every row once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every training row once an epoch, in a random order. Features that do not fit in memory are shuffled by
/// blocks of neighbouring rows, then within a window of blocks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shuffle {}
