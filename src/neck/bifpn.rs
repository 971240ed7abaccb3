//! Weighted bidirectional feature pyramid network.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pyramid::Pyramid;
use crate::base::Result;
use crate::graph::op::{Activation, Binary, BinaryKind, Pool, PoolKind, Relu, Window};
use crate::graph::{Graph, ValueId};

/// Weighted bidirectional feature pyramid network (Tan, Pang and Le, 2020), without its batch norms: paths down and up
/// the maps, several times, whose sums are weighted by trained numbers that add up to one, each followed by SiLU and
/// a depthwise and a 1 × 1 convolution. It takes several outputs of the backbone, the finest first, and gives as
/// many maps; `gap` behind it makes vectors of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BiFpn {
    /// Channels of every map that comes out.
    #[schemars(range(min = 1, max = 65536))]
    pub channels: usize,
    /// How often the paths are gone.
    #[schemars(range(min = 1, max = 32))]
    pub layers: usize,
}

impl Default for BiFpn {
    fn default() -> Self {
        Self { channels: 64, layers: 2 }
    }
}

/// Added to the sum of the weights, as in the paper.
const EPS: f32 = 1e-4;

impl BiFpn {
    pub(super) fn build(&self, graph: &mut Graph, inputs: &[ValueId], name: &str) -> Result<Vec<ValueId>> {
        let mut pyramid = Pyramid::new(graph, inputs, "bifpn", name)?;
        let mut levels = Vec::new();
        for (i, x) in inputs.iter().enumerate() {
            levels.push(pyramid.conv(&format!("lateral{i}"), *x, self.channels, 1, 1)?);
        }
        for layer in 0..self.layers {
            levels = self.layer(&mut pyramid, &levels, layer)?;
        }
        Ok(levels)
    }

    fn layer(&self, pyramid: &mut Pyramid<'_>, levels: &[ValueId], layer: usize) -> Result<Vec<ValueId>> {
        let last = levels.len() - 1;
        let mut middle = levels.to_vec();
        for i in (0..last).rev() {
            let name = format!("layer{layer}.down{i}");
            let above = pyramid.sized(&format!("{name}.sized"), middle[i + 1], levels[i])?;
            middle[i] = self.fuse(pyramid, &name, &[levels[i], above])?;
        }
        let mut out = vec![middle[0]];
        for i in 1..=last {
            let name = format!("layer{layer}.up{i}");
            let window = Window { strides: [2, 2], pads: [1; 4], ..Window::new([3, 3]) };
            let below = pyramid.op(&format!("{name}.pool"), Pool { kind: PoolKind::Max, window }, &[out[i - 1]])?;
            let below = pyramid.sized(&format!("{name}.sized"), below, levels[i])?;
            let parts = [levels[i], middle[i], below];
            let parts = if i < last { &parts[..] } else { &[levels[i], below][..] };
            out.push(self.fuse(pyramid, &name, parts)?);
        }
        Ok(out)
    }

    /// `Σ wᵢ xᵢ / (Σ wᵢ + eps)` with weights that are not negative, and the convolutions behind it.
    fn fuse(&self, pyramid: &mut Pyramid<'_>, name: &str, parts: &[ValueId]) -> Result<ValueId> {
        let mut total = pyramid.constant(&format!("{name}.eps"), EPS)?;
        let mut sum = None;
        for (i, part) in parts.iter().enumerate() {
            let weight = pyramid.number(&format!("{name}.weight{i}"), 1.0)?;
            let weight = pyramid.op(&format!("{name}.relu{i}"), Relu, &[weight])?;
            total = pyramid.add(&format!("{name}.total{i}"), total, weight)?;
            let part = pyramid.op(&format!("{name}.part{i}"), Binary(BinaryKind::Mul), &[*part, weight])?;
            sum = Some(match sum {
                None => part,
                Some(sum) => pyramid.add(&format!("{name}.sum{i}"), sum, part)?,
            });
        }
        let sum = sum.unwrap_or(parts[0]);
        let mean = pyramid.op(&format!("{name}.mean"), Binary(BinaryKind::Div), &[sum, total])?;
        let x = pyramid.op(&format!("{name}.silu"), Activation::Silu, &[mean])?;
        let x = pyramid.depthwise(&format!("{name}.depthwise"), x, 3)?;
        pyramid.conv(&format!("{name}.pointwise"), x, self.channels, 1, 1)
    }
}
