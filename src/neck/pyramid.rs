//! What the necks that join maps of several sizes have in common.

use crate::base::{Error, Result};
use crate::graph::op::{Binary, BinaryKind, Conv, Coordinates, Resize, ResizeMode, Window};
use crate::graph::{Graph, Init, Op, ValueId};

/// Adds nodes to a graph, by names that begin with the neck's.
pub(super) struct Pyramid<'a> {
    graph: &'a mut Graph,
    name: &'a str,
}

impl<'a> Pyramid<'a> {
    /// Checks that the inputs are several maps, the finest first.
    ///
    /// # Errors
    /// They are not.
    pub fn new(graph: &'a mut Graph, inputs: &[ValueId], kind: &str, name: &'a str) -> Result<Self> {
        let sizes: Option<Vec<[usize; 2]>> = inputs.iter().map(|id| size(graph, *id)).collect();
        let finer = |pair: &[[usize; 2]]| pair[0][0] >= pair[1][0] && pair[0][1] >= pair[1][1];
        if inputs.len() < 2 || !sizes.is_some_and(|sizes| sizes.windows(2).all(finer)) {
            let shapes: Vec<String> = inputs.iter().map(|id| format!("`{}`", graph.shape(*id))).collect();
            let what = format!("neck `{kind}` cannot join {}", shapes.join(" and "));
            return Err(Error::bad_input(what)
                .hint("it takes two or more outputs `[batch, channels, height, width]`, the finest first: `outputs: [c3, c4, c5]`"));
        }
        Ok(Self { graph, name })
    }

    pub fn op(&mut self, name: &str, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId> {
        self.graph.node(&format!("{}.{name}", self.name), op, inputs)
    }

    /// A trained number.
    pub fn number(&mut self, name: &str, value: f32) -> Result<ValueId> {
        self.graph.parameter(&format!("{}.{name}", self.name), &[], Init::Fill(value), false)
    }

    /// A number that stays.
    pub fn constant(&mut self, name: &str, value: f32) -> Result<ValueId> {
        self.graph.constant(&format!("{}.{name}", self.name), &[], vec![value])
    }

    /// A convolution with a bias that keeps the size, or halves it with a stride of 2.
    pub fn conv(&mut self, name: &str, x: ValueId, out: usize, kernel: usize, stride: usize) -> Result<ValueId> {
        self.grouped(name, x, out, kernel, stride, 1)
    }

    /// A convolution of each channel on its own.
    pub fn depthwise(&mut self, name: &str, x: ValueId, kernel: usize) -> Result<ValueId> {
        let channels = self.graph.shape(x).dims[0];
        self.grouped(name, x, channels, kernel, 1, channels)
    }

    fn grouped(
        &mut self,
        name: &str,
        x: ValueId,
        out: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
    ) -> Result<ValueId> {
        let of_group = self.graph.shape(x).dims[0] / groups;
        let shape = [out, of_group, kernel, kernel];
        let name = format!("{}.{name}", self.name);
        let weight =
            self.graph.parameter(&format!("{name}.weight"), &shape, Init::fan_in(of_group * kernel * kernel), true)?;
        let bias = self.graph.parameter(&format!("{name}.bias"), &[out], Init::Fill(0.0), false)?;
        let window = Window { strides: [stride; 2], pads: [kernel / 2; 4], ..Window::new([kernel; 2]) };
        self.graph.node(&name, Conv { window, groups }, &[x, weight, bias])
    }

    /// `x` with the height and width of `like`, by its nearest places.
    pub fn sized(&mut self, name: &str, x: ValueId, like: ValueId) -> Result<ValueId> {
        let (from, to) = (size(self.graph, x), size(self.graph, like));
        match to.filter(|to| Some(*to) != from) {
            None => Ok(x),
            Some(size) => {
                let op = Resize { size, mode: ResizeMode::Nearest, coordinates: Coordinates::Asymmetric };
                self.op(name, op, &[x])
            }
        }
    }

    pub fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(name, Binary(BinaryKind::Add), &[a, b])
    }
}

fn size(graph: &Graph, id: ValueId) -> Option<[usize; 2]> {
    match graph.shape(id).dims[..] {
        [_, height, width] => Some([height, width]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BiFpn, Fpn, NeckChain, NeckConfig, Pan};
    use super::*;
    use crate::graph::execution::{Execution, Pass};

    fn graph(neck: NeckConfig, sizes: &[usize]) -> Result<(Graph, ValueId)> {
        let mut graph = Graph::new();
        let mut inputs = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            inputs.push(graph.input(&format!("c{}", i + 3), &[2 + i, *size, *size])?);
        }
        let chain = NeckChain(vec![neck, NeckConfig::Gap(Default::default())]);
        let out = chain.build(&mut graph, &inputs)?;
        graph.output("out", out);
        Ok((graph, out))
    }

    fn necks() -> [NeckConfig; 3] {
        [
            NeckConfig::Fpn(Fpn { channels: 4 }),
            NeckConfig::Pan(Pan { channels: 4 }),
            NeckConfig::BiFpn(BiFpn { channels: 4, layers: 2 }),
        ]
    }

    #[test]
    fn maps_of_odd_sizes_are_joined_and_every_weight_gets_a_gradient() {
        for neck in necks() {
            let (graph, out) = graph(neck, &[7, 4, 2]).unwrap();
            assert_eq!(graph.shape(out).to_string(), "[batch, 12]");
            let mut run: Execution<f64> = Execution::new(&graph, &graph.initial_weights(3), 2, true).unwrap();
            for id in graph.inputs().to_vec() {
                run.value_mut(id).iter_mut().enumerate().for_each(|(i, x)| *x = (i * 7 % 11) as f64 / 5.0 - 1.0);
            }
            run.forward(2, Pass { training: true, seed: 0, step: 1, ..Pass::EVALUATION });
            run.value_and_grad_mut(out).1.iter_mut().enumerate().for_each(|(i, g)| *g = 1.0 - 0.1 * i as f64);
            run.backward(&[out]);
            for id in run.parameters() {
                let name = &graph.values()[id.index()].name;
                assert!(run.grad(*id).iter().any(|g| *g != 0.0), "{name}");
            }
        }
    }

    #[test]
    fn one_map_or_an_order_from_coarse_to_fine_is_refused() {
        for neck in necks() {
            assert!(graph(neck.clone(), &[4]).unwrap_err().to_string().contains("cannot join"));
            assert!(graph(neck, &[4, 7]).is_err());
        }
    }
}
