//! The tails of networks that `caft bench train` measures, built here so that no file is needed.

use crate::base::Result;
use crate::graph::op::{
    Attention, Binary, BinaryKind, Conv, Gelu, Gemm, LayerNorm, Reduce, ReduceKind, Relu, Reshape, Slice, Token,
    Transpose, Window,
};
use crate::graph::{Graph, Init, Op, ValueId};

/// A part of a network with a linear head.
pub(super) struct Tail {
    /// Its name in the table, and for the PyTorch script.
    pub name: &'static str,
    /// The shape of a row of what enters it.
    pub shape: &'static [usize],
    build: fn(&mut Builder<'_>, ValueId) -> Result<ValueId>,
}

/// The last stage of ResNet-18 with its batch norms folded, and the last block of ViT-B/16.
pub(super) const TAILS: [Tail; 2] = [
    Tail { name: "resnet18 layer4", shape: &[256, 14, 14], build: resnet },
    Tail { name: "vit_base blocks.11", shape: &[197, 768], build: vit },
];

impl Tail {
    /// The graph from `features` to the logits of some classes.
    pub fn graph(&self, classes: usize) -> Result<Graph> {
        let mut graph = Graph::new();
        let x = graph.input("features", self.shape)?;
        let mut builder = Builder { graph: &mut graph };
        let pooled = (self.build)(&mut builder, x)?;
        let logits = builder.linear("head", pooled, classes)?;
        graph.output("logits", logits);
        Ok(graph)
    }
}

struct Builder<'a> {
    graph: &'a mut Graph,
}

impl Builder<'_> {
    fn op(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        let name = self.graph.fresh_name("value");
        self.graph.node(&name, op, inputs)
    }

    fn weights(&mut self, name: &str, shape: &[usize]) -> Result<[ValueId; 2]> {
        let fan_in = shape[1..].iter().product();
        let weight = self.graph.parameter(&format!("{name}.weight"), shape, Init::fan_in(fan_in), true)?;
        Ok([weight, self.graph.parameter(&format!("{name}.bias"), &shape[..1], Init::Fill(0.0), false)?])
    }

    fn linear(&mut self, name: &str, x: ValueId, width: usize) -> Result<ValueId> {
        let from = self.graph.shape(x).last();
        let [weight, bias] = self.weights(name, &[width, from])?;
        self.op(Gemm, &[x, weight, bias])
    }

    fn conv(&mut self, name: &str, x: ValueId, width: usize, kernel: usize, stride: usize) -> Result<ValueId> {
        let from = self.graph.shape(x).dims[0];
        let [weight, bias] = self.weights(name, &[width, from, kernel, kernel])?;
        let window = Window { strides: [stride; 2], pads: [kernel / 2; 4], ..Window::new([kernel; 2]) };
        self.op(Conv { window, groups: 1 }, &[x, weight, bias])
    }

    fn norm(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        let width = [self.graph.shape(x).last()];
        let scale = self.graph.parameter(&format!("{name}.weight"), &width, Init::Fill(1.0), false)?;
        let bias = self.graph.parameter(&format!("{name}.bias"), &width, Init::Fill(0.0), false)?;
        self.op(LayerNorm { eps: 1e-6 }, &[x, scale, bias])
    }

    fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(Binary(BinaryKind::Add), &[a, b])
    }
}

fn resnet(b: &mut Builder<'_>, mut x: ValueId) -> Result<ValueId> {
    for (name, stride) in [("0", 2), ("1", 1)] {
        let y = b.conv(&format!("{name}.conv1"), x, 512, 3, stride)?;
        let y = b.op(Relu, &[y])?;
        let y = b.conv(&format!("{name}.conv2"), y, 512, 3, 1)?;
        let shortcut = if stride == 2 { b.conv(&format!("{name}.downsample"), x, 512, 1, 2)? } else { x };
        let sum = b.add(y, shortcut)?;
        x = b.op(Relu, &[sum])?;
    }
    b.op(Reduce { kind: ReduceKind::Mean, start: 1, end: 3 }, &[x])
}

fn vit(b: &mut Builder<'_>, x: ValueId) -> Result<ValueId> {
    const HEADS: usize = 12;
    let [tokens, dim] = [197, 768];
    let y = b.norm("norm1", x)?;
    let y = b.linear("attn.qkv", y, 3 * dim)?;
    let y = b.op(Reshape { dims: vec![tokens, 3, HEADS, dim / HEADS] }, &[y])?;
    let y = b.op(Transpose { order: vec![1, 2, 0, 3] }, &[y])?;
    let mut parts = Vec::new();
    for i in 0..3 {
        let part = b.op(Slice { axis: 0, start: i, end: i + 1, step: 1 }, &[y])?;
        parts.push(b.op(Reshape { dims: vec![HEADS, tokens, dim / HEADS] }, &[part])?);
    }
    let y = b.op(Attention { scale: (HEADS as f32 / dim as f32).sqrt() }, &parts)?;
    let y = b.op(Transpose { order: vec![1, 0, 2] }, &[y])?;
    let y = b.op(Reshape { dims: vec![tokens, dim] }, &[y])?;
    let y = b.linear("attn.proj", y, dim)?;
    let x = b.add(x, y)?;
    let y = b.norm("norm2", x)?;
    let y = b.linear("mlp.fc1", y, 4 * dim)?;
    let y = b.op(Gelu, &[y])?;
    let y = b.linear("mlp.fc2", y, dim)?;
    let x = b.add(x, y)?;
    let x = b.norm("norm", x)?;
    b.op(Token { index: 0 }, &[x])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_have_the_weights_of_their_networks() {
        let counts: Vec<usize> = TAILS.iter().map(|tail| tail.graph(10).unwrap().parameter_count()).collect();
        // PyTorch's `layer4` without its batch norms but with biases, and a block with the last norm; and heads.
        assert_eq!(counts, [8_396_298, 7_097_098]);
    }
}
