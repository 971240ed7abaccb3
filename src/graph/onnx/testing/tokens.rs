//! Building blocks of transformers, in the nodes that PyTorch's exporter writes for them.

use super::blocks::{Act, Axis, Map, Net};
use super::vit::{expansion, layer_norm, linear};
use crate::graph::onnx::make;

/// Tokens `[batch × times, count, dim]`.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub tensor: String,
    pub times: usize,
    pub count: usize,
    pub dim: usize,
}

impl Net {
    /// Makes tokens an output of this name.
    pub fn give_tokens(&mut self, x: &mut Tokens, name: &str) {
        let row = [x.count, x.dim];
        self.give(&mut x.tensor, name, &row);
    }

    /// The places of a map as tokens.
    pub fn tokens(&mut self, x: &Map) -> Tokens {
        let flat = self.reshape(&x.tensor, &[Axis::Batch(1), Axis::Of(x.channels), Axis::Rest]);
        let tensor = self.transpose(&flat, &[0, 2, 1]);
        Tokens { tensor, times: 1, count: x.side * x.side, dim: x.channels }
    }

    /// Tokens as a map again.
    pub fn map(&mut self, x: &Tokens, side: usize) -> Map {
        let last = self.transpose(&x.tensor, &[0, 2, 1]);
        let axes = [Axis::Batch(x.times), Axis::Of(x.dim), Axis::Of(side), Axis::Of(side)];
        Map { tensor: self.reshape(&last, &axes), channels: x.dim, side }
    }

    /// LayerNorm over the last axis: one node since version 17 of the operators, nine before.
    pub fn layer_norm(&mut self, x: &str, dim: usize) -> String {
        if self.b.opset < 17 {
            return layer_norm(&mut self.b, x, dim);
        }
        let (weight, bias) = (self.b.weight("weight", &[dim], 1.0, 0.1), self.b.weight("bias", &[dim], 0.0, 0.1));
        let attributes = vec![make::int("axis", -1), make::float("epsilon", 1e-6)];
        self.op("LayerNormalization", &[x, &weight, &bias], attributes)
    }

    pub fn linear(&mut self, x: &str, from: usize, to: usize) -> String {
        linear(&mut self.b, x, from, to)
    }

    /// A learnt constant that is added, such as a position embedding.
    pub fn add_weight(&mut self, x: &str, name: &str, shape: &[usize]) -> String {
        let weight = self.b.weight(name, shape, 0.0, 0.5);
        self.op("Add", &[x, &weight], Vec::new())
    }

    /// A class token before the others.
    pub fn with_class(&mut self, x: &Tokens) -> Tokens {
        let class = match self.batch {
            // The exporter folds the expansion into a constant.
            Some(batch) => self.b.weight("cls_token", &[batch, 1, x.dim], 0.0, 0.5),
            None => {
                let class = self.b.weight("cls_token", &[1, 1, x.dim], 0.0, 0.5);
                let target = expansion(&mut self.b, &self.image);
                self.op("Expand", &[&class, &target], Vec::new())
            }
        };
        let tensor = self.op("Concat", &[&class, &x.tensor], vec![make::int("axis", 1)]);
        Tokens { tensor, count: x.count + 1, ..x.clone() }
    }

    /// Attention of `x` over `other`.
    pub fn attention(&mut self, x: &Tokens, other: &Tokens, heads: usize) -> Tokens {
        let mut part = |name: &str, from: &Tokens, order: &[i64]| {
            let projected = self.scope(name, |n| n.linear(&from.tensor, from.dim, x.dim));
            let axes = [Axis::Batch(from.times), Axis::Of(from.count), Axis::Of(heads), Axis::Of(x.dim / heads)];
            let split = self.reshape(&projected, &axes);
            self.transpose(&split, order)
        };
        let query = part("q", x, &[0, 2, 1, 3]);
        let key = part("k", other, &[0, 2, 3, 1]);
        let value = part("v", other, &[0, 2, 1, 3]);
        self.mix(x, heads, [&query, &key, &value], |_, scores| scores)
    }

    /// Self-attention with one product for query, key and value, as timm's transformers have it; `bias` changes
    /// the scores `[batch × times, heads, count, count]`.
    pub fn fused_attention(
        &mut self,
        x: &Tokens,
        heads: usize,
        bias: impl FnOnce(&mut Self, String) -> String,
    ) -> Tokens {
        let all = self.scope("qkv", |n| n.linear(&x.tensor, x.dim, 3 * x.dim));
        let axes = [Axis::Batch(x.times), Axis::Of(x.count), Axis::Of(3), Axis::Of(heads), Axis::Of(x.dim / heads)];
        let split = self.reshape(&all, &axes);
        let split = self.transpose(&split, &[2, 0, 3, 1, 4]);
        let [query, key, value] = [0, 1, 2].map(|place| {
            let place = self.b.int(place);
            self.op("Gather", &[&split, &place], vec![make::int("axis", 0)])
        });
        let key = self.transpose(&key, &[0, 1, 3, 2]);
        self.mix(x, heads, [&query, &key, &value], bias)
    }

    fn mix(
        &mut self,
        x: &Tokens,
        heads: usize,
        [query, key, value]: [&str; 3],
        bias: impl FnOnce(&mut Self, String) -> String,
    ) -> Tokens {
        let scale = self.b.float(((x.dim / heads) as f32).powf(-0.5));
        let query = self.op("Mul", &[query, &scale], Vec::new());
        let scores = self.op("MatMul", &[&query, key], Vec::new());
        let scores = bias(self, scores);
        let weights = self.op("Softmax", &[&scores], vec![make::int("axis", -1)]);
        let mixed = self.op("MatMul", &[&weights, value], Vec::new());
        let mixed = self.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = self.reshape(&mixed, &[Axis::Batch(x.times), Axis::Of(x.count), Axis::Of(x.dim)]);
        Tokens { tensor: self.scope("proj", |n| n.linear(&mixed, x.dim, x.dim)), ..x.clone() }
    }

    /// `x + body(norm(x))`, the second summand perhaps times a learnt factor.
    pub fn residual(
        &mut self,
        x: &Tokens,
        name: &str,
        scaled: bool,
        body: impl FnOnce(&mut Self, Tokens) -> Tokens,
    ) -> Tokens {
        let mut y = self.scope(name, |n| {
            let tensor = n.scope("norm", |n| n.layer_norm(&x.tensor, x.dim));
            body(n, Tokens { tensor, ..x.clone() })
        });
        if scaled {
            let gamma = self.b.weight(&format!("{name}.gamma"), &[x.dim], 0.5, 0.1);
            y.tensor = self.op("Mul", &[&y.tensor, &gamma], Vec::new());
        }
        Tokens { tensor: self.op("Add", &[&x.tensor, &y.tensor], Vec::new()), ..x.clone() }
    }

    /// Self-attention of `[count, batch, dim]`, as PyTorch's own layer computes it: heads are merged with the batch.
    pub fn sequence_first_attention(&mut self, x: &Tokens, heads: usize) -> Tokens {
        let per_head = x.dim / heads;
        let mut part = |name: &str, order: &[i64]| {
            let projected = self.scope(name, |n| n.linear(&x.tensor, x.dim, x.dim));
            let split = self.reshape(&projected, &[Axis::Of(x.count), Axis::Batch(heads), Axis::Of(per_head)]);
            self.transpose(&split, order)
        };
        let (query, key, value) = (part("q", &[1, 0, 2]), part("k", &[1, 2, 0]), part("v", &[1, 0, 2]));
        let scale = self.b.float((per_head as f32).powf(-0.5));
        let query = self.op("Mul", &[&query, &scale], Vec::new());
        let scores = self.op("MatMul", &[&query, &key], Vec::new());
        let weights = self.op("Softmax", &[&scores], vec![make::int("axis", -1)]);
        let mixed = self.op("MatMul", &[&weights, &value], Vec::new());
        let mixed = self.transpose(&mixed, &[1, 0, 2]);
        let mixed = self.reshape(&mixed, &[Axis::Of(x.count), Axis::Batch(1), Axis::Of(x.dim)]);
        Tokens { tensor: self.scope("out_proj", |n| n.linear(&mixed, x.dim, x.dim)), ..x.clone() }
    }

    /// Two linear layers with an activation between.
    pub fn mlp(&mut self, x: &Tokens, act: Act) -> Tokens {
        let hidden = self.scope("fc1", |n| n.linear(&x.tensor, x.dim, 2 * x.dim));
        let hidden = self.act(&hidden, act);
        Tokens { tensor: self.scope("fc2", |n| n.linear(&hidden, 2 * x.dim, x.dim)), ..x.clone() }
    }

    /// A transformer's block, norms first.
    pub fn block(&mut self, x: &Tokens, heads: usize, act: Act, scaled: bool) -> Tokens {
        let x = self.residual(x, "attn", scaled, |n, x| n.fused_attention(&x, heads, |_, scores| scores));
        self.residual(&x, "mlp", scaled, |n, x| n.mlp(&x, act))
    }
}
