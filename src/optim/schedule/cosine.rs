//! Half a cosine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Half a cosine from the optimiser's rate down to `min_lr` (Loshchilov and Hutter, 2017), after a linear
/// warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// Epochs (parts of one too) over which the rate rises linearly to the optimiser's.
    #[schemars(range(min = 0.0))]
    pub warmup_epochs: f64,
    /// The rate at the end.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
}
