//! Joining the outputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Joins several outputs of the cut, each made one-dimensional, into one: necks before it work on each output, those
/// after it on all together. A chain without it joins them at its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Concat {}
