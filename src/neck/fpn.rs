//! Feature pyramid network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pyramid::Pyramid;
use crate::base::Result;
use crate::graph::{Graph, ValueId};

/// Feature pyramid network (Lin et al., 2017): each map gets as many channels by a 1 × 1 convolution, what is seen in
/// coarser maps is added to finer ones from the top down, and a 3 × 3 convolution smooths each sum. It takes several
/// outputs of the backbone, the finest first, and gives as many maps; `gap` behind it makes vectors of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fpn {
    /// Channels of every map that comes out.
    #[schemars(range(min = 1, max = 65536))]
    pub channels: usize,
}

impl Default for Fpn {
    fn default() -> Self {
        Self { channels: 256 }
    }
}

impl Fpn {
    pub(super) fn build(&self, graph: &mut Graph, inputs: &[ValueId], name: &str) -> Result<Vec<ValueId>> {
        let mut pyramid = Pyramid::new(graph, inputs, "fpn", name)?;
        let levels = top_down(&mut pyramid, inputs, self.channels)?;
        let smooth = |(i, x): (usize, &ValueId)| pyramid.conv(&format!("output{i}"), *x, self.channels, 3, 1);
        levels.iter().enumerate().map(smooth).collect()
    }
}

/// The lateral convolutions and the sums from the top down.
pub(super) fn top_down(pyramid: &mut Pyramid<'_>, inputs: &[ValueId], channels: usize) -> Result<Vec<ValueId>> {
    let mut levels = Vec::new();
    for (i, x) in inputs.iter().enumerate() {
        levels.push(pyramid.conv(&format!("lateral{i}"), *x, channels, 1, 1)?);
    }
    for i in (0..levels.len() - 1).rev() {
        let above = pyramid.sized(&format!("up{i}"), levels[i + 1], levels[i])?;
        levels[i] = pyramid.add(&format!("sum{i}"), levels[i], above)?;
    }
    Ok(levels)
}
