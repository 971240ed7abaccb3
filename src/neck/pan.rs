//! Path aggregation network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fpn::top_down;
use super::pyramid::Pyramid;
use crate::base::Result;
use crate::graph::op::Relu;
use crate::graph::{Graph, ValueId};

/// Path aggregation network (Liu et al., 2018): a feature pyramid network, and behind it a second path from the
/// finest map up, in which each map is halved by a convolution, added to the next one and smoothed. It takes several
/// outputs of the backbone, the finest first, and gives as many maps; `gap` behind it makes vectors of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pan {
    /// Channels of every map that comes out.
    #[schemars(range(min = 1, max = 65536))]
    pub channels: usize,
}

impl Default for Pan {
    fn default() -> Self {
        Self { channels: 256 }
    }
}

impl Pan {
    pub(super) fn build(&self, graph: &mut Graph, inputs: &[ValueId], name: &str) -> Result<Vec<ValueId>> {
        let mut pyramid = Pyramid::new(graph, inputs, "pan", name)?;
        let levels = top_down(&mut pyramid, inputs, self.channels)?;
        let mut out = vec![pyramid.conv("output0", levels[0], self.channels, 3, 1)?];
        for (i, level) in levels.iter().enumerate().skip(1) {
            let down = pyramid.conv(&format!("down{i}"), out[i - 1], self.channels, 3, 2)?;
            let down = pyramid.op(&format!("down{i}.relu"), Relu, &[down])?;
            let down = pyramid.sized(&format!("down{i}.sized"), down, *level)?;
            let sum = pyramid.add(&format!("path{i}"), *level, down)?;
            out.push(pyramid.conv(&format!("output{i}"), sum, self.channels, 3, 1)?);
        }
        Ok(out)
    }
}
