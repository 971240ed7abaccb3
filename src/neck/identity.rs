//! Nothing between the cut and the head.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Passes features through unchanged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {}
