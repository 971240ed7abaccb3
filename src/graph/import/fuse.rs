//! Operators that the file spells out in elementary ones.

use std::collections::{HashMap, HashSet};

use crate::graph::onnx::proto::NodeProto;
use crate::graph::op::{Activation, Gelu, Op};

/// One operator in place of several nodes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fused {
    /// A function of each element of `x`.
    Unary { x: String, op: Op },
    /// `(x − mean) / sqrt(variance + eps) · scale + bias` along the last axis.
    LayerNorm { x: String, scale: String, bias: String, eps: f32 },
    /// `x · weight + bias`.
    Linear { x: String, weight: String, bias: String },
    /// `softmax(scale · q · k + mask) · v`; the keys are columns.
    Attention { q: String, k: String, v: String, mask: Option<String>, scale: f32 },
}

/// What becomes one operator: by the node whose output it computes; and the nodes that vanish in it.
#[derive(Debug, Default)]
pub(super) struct FusePlan {
    pub fused: HashMap<usize, Fused>,
    pub absorbed: HashSet<usize>,
}

/// The dimensions of a constant, and whether it is a weight.
type Dims<'a> = dyn Fn(&str) -> Option<(Vec<usize>, bool)> + 'a;

/// Nodes by what they make and read.
struct Net<'a> {
    nodes: &'a [&'a NodeProto],
    makers: HashMap<&'a str, usize>,
    users: HashMap<&'a str, Vec<usize>>,
    kept: &'a HashSet<&'a str>,
    scalar: &'a dyn Fn(&str) -> Option<f32>,
    dims: &'a Dims<'a>,
    rank: &'a dyn Fn(&str) -> Option<usize>,
}

/// Finds what becomes one operator among the nodes `open`. `scalar` gives the only number of a constant, `dims` the
/// dimensions of a constant and whether it is a weight, `rank` the number of a tensor's axes.
pub(super) fn fuse(
    nodes: &[&NodeProto],
    open: &[usize],
    kept: &HashSet<&str>,
    scalar: &dyn Fn(&str) -> Option<f32>,
    dims: &Dims<'_>,
    rank: &dyn Fn(&str) -> Option<usize>,
) -> FusePlan {
    let mut net = Net { nodes, makers: HashMap::new(), users: HashMap::new(), kept, scalar, dims, rank };
    for i in open {
        net.makers.extend(nodes[*i].output.iter().map(|name| (name.as_str(), *i)));
        nodes[*i].input.iter().for_each(|name| net.users.entry(name).or_default().push(*i));
    }
    let mut plan = FusePlan::default();
    for i in open {
        let found = match nodes[*i].op_type.as_str() {
            "Div" => net.layer_norm(*i),
            "Erf" => net.gelu(*i),
            "Mul" => net.gated(*i),
            "Softmax" => net.attention(*i),
            "Add" => net.linear(*i),
            _ => None,
        };
        let Some((last, fused, inner)) = found else { continue };
        let free = |i: &usize| !plan.absorbed.contains(i) && !plan.fused.contains_key(i);
        // What vanishes must be of no use to others.
        let inside = |i: &usize| {
            let users = net.users.get(net.output(*i)).into_iter().flatten();
            !kept.contains(net.output(*i)) && users.into_iter().all(|user| *user == last || inner.contains(user))
        };
        if free(&last) && inner.iter().all(free) && inner.iter().all(inside) {
            plan.fused.insert(last, fused);
            plan.absorbed.extend(inner);
        }
    }
    plan
}

type Found = Option<(usize, Fused, Vec<usize>)>;

impl<'a> Net<'a> {
    fn input(&self, node: usize, place: usize) -> Option<&'a str> {
        self.nodes[node].input_name(place)
    }

    fn output(&self, node: usize) -> &'a str {
        self.nodes[node].output.first().map_or("", String::as_str)
    }

    /// The node that makes a tensor, if it is of this operator.
    fn made_by(&self, name: &str, op_type: &str) -> Option<usize> {
        self.makers.get(name).copied().filter(|i| self.nodes[*i].is(op_type))
    }

    /// The only node that reads a node's output, which nothing else asks for.
    fn only_user(&self, node: usize) -> Option<usize> {
        let name = self.output(node);
        match self.users.get(name)?[..] {
            [user] if !self.kept.contains(name) => Some(user),
            _ => None,
        }
    }

    /// Of a node with two inputs, the other one.
    fn other(&self, node: usize, name: &str) -> Option<&'a str> {
        match (self.input(node, 0)?, self.input(node, 1)?) {
            (a, b) if a == name => Some(b),
            (a, b) if b == name => Some(a),
            _ => None,
        }
    }

    /// Of a node with two inputs, one that is a constant number, and the other.
    fn number(&self, node: usize) -> Option<(&'a str, f32)> {
        let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
        match ((self.scalar)(a), (self.scalar)(b)) {
            (None, Some(value)) => Some((a, value)),
            (Some(value), None) => Some((b, value)),
            _ => None,
        }
    }

    /// `Sub(x, ReduceMean(x))`: x, and the two nodes.
    fn centred(&self, name: &str) -> Option<(&'a str, [usize; 2])> {
        let sub = self.made_by(name, "Sub")?;
        let x = self.input(sub, 0)?;
        let mean = self.mean(self.input(sub, 1)?)?;
        (self.input(mean, 0)? == x).then_some((x, [sub, mean]))
    }

    /// A mean over the last axis that stays.
    fn mean(&self, name: &str) -> Option<usize> {
        let mean = self.made_by(name, "ReduceMean")?;
        let node = self.nodes[mean];
        let axes = node.ints("axes").map(<[i64]>::to_vec);
        let axes = axes.or_else(|| Some(vec![(self.scalar)(self.input(mean, 1)?)? as i64]))?;
        let last = (self.rank)(self.input(mean, 0)?)? as i64 - 1;
        (node.int_or("keepdims", 1) != 0 && (axes == [-1] || axes == [last])).then_some(mean)
    }

    fn layer_norm(&self, div: usize) -> Found {
        let (x, centring) = self.centred(self.input(div, 0)?)?;
        let sqrt = self.made_by(self.input(div, 1)?, "Sqrt")?;
        let add = self.made_by(self.input(sqrt, 0)?, "Add")?;
        let (variance, eps) = self.number(add)?;
        let mean = self.mean(variance)?;
        let squared = self.input(mean, 0)?;
        let (square, base) = match (self.made_by(squared, "Pow"), self.made_by(squared, "Mul")) {
            (Some(pow), _) if self.number(pow)?.1 == 2.0 => (pow, self.input(pow, 0)?),
            (_, Some(mul)) if self.input(mul, 0) == self.input(mul, 1) => (mul, self.input(mul, 0)?),
            _ => return None,
        };
        let (again, centring_again) = self.centred(base)?;
        let mul = self.only_user(div).filter(|i| self.nodes[*i].is("Mul"))?;
        let scale = self.other(mul, self.output(div))?;
        let last = self.only_user(mul).filter(|i| self.nodes[*i].is("Add"))?;
        let bias = self.other(last, self.output(mul))?;
        let vector = |name: &str| (self.dims)(name).is_some_and(|(dims, _)| dims.len() == 1);
        if again != x || !vector(scale) || !vector(bias) {
            return None;
        }
        let mut inner = vec![div, sqrt, add, mean, square, mul];
        inner.extend(centring.into_iter().chain(centring_again));
        inner.sort_unstable();
        inner.dedup();
        let fused = Fused::LayerNorm { x: x.into(), scale: scale.into(), bias: bias.into(), eps };
        Some((last, fused, inner))
    }

    /// `x · (1 + erf(x / √2)) / 2`, the half anywhere.
    fn gelu(&self, erf: usize) -> Found {
        let inside = *self.makers.get(self.input(erf, 0)?)?;
        let (x, factor) = self.number(inside)?;
        let root = match self.nodes[inside].op_type.as_str() {
            "Div" => factor,
            "Mul" => 1.0 / factor,
            _ => return None,
        };
        let add = self.only_user(erf).filter(|i| self.nodes[*i].is("Add"))?;
        if (root - std::f32::consts::SQRT_2).abs() > 1e-3 || self.number(add)?.1 != 1.0 {
            return None;
        }
        let mul = self.only_user(add).filter(|i| self.nodes[*i].is("Mul"))?;
        let factor = self.other(mul, self.output(add))?;
        let halved = |i: usize| self.nodes[i].is("Mul").then(|| self.number(i)).flatten().filter(|(_, h)| *h == 0.5);
        let (last, mut inner) = if factor == x {
            let last = self.only_user(mul).filter(|i| halved(*i).is_some())?;
            (last, vec![mul])
        } else {
            let half = self.made_by(factor, "Mul").filter(|i| halved(*i).is_some_and(|(of, _)| of == x))?;
            (mul, vec![half])
        };
        inner.extend([inside, erf, add]);
        Some((last, Fused::Unary { x: x.into(), op: Gelu.into() }, inner))
    }

    /// `x · gate(x)`: SiLU, hard swish, CLIP's GELU.
    fn gated(&self, mul: usize) -> Found {
        let (a, b) = (self.input(mul, 0)?, self.input(mul, 1)?);
        for (x, gate) in [(a, b), (b, a)] {
            let Some(gate) = self.makers.get(gate).copied().filter(|i| self.only_user(*i) == Some(mul)) else {
                continue;
            };
            let node = self.nodes[gate];
            let from = self.input(gate, 0)?;
            let found = |op: Activation, inner| Some((mul, Fused::Unary { x: x.into(), op: op.into() }, inner));
            if node.is("Sigmoid") && from == x {
                return found(Activation::Silu, vec![gate]);
            }
            let third = (node.float("alpha").unwrap_or(0.2) - 1.0 / 6.0).abs() < 1e-6;
            if node.is("HardSigmoid") && from == x && third && node.float("beta").unwrap_or(0.5) == 0.5 {
                return found(Activation::HardSwish, vec![gate]);
            }
            if node.is("Sigmoid")
                && let Some(scaled) = self.made_by(from, "Mul").filter(|i| self.only_user(*i) == Some(gate))
                && self.number(scaled).is_some_and(|(of, factor)| of == x && (factor - 1.702).abs() < 1e-6)
            {
                return found(Activation::QuickGelu, vec![gate, scaled]);
            }
        }
        None
    }

    fn linear(&self, add: usize) -> Found {
        let (a, b) = (self.input(add, 0)?, self.input(add, 1)?);
        for (product, bias) in [(a, b), (b, a)] {
            let Some(product) = self.made_by(product, "MatMul").filter(|i| self.only_user(*i) == Some(add)) else {
                continue;
            };
            let (x, weight) = (self.input(product, 0)?, self.input(product, 1)?);
            if let (Some((weight_dims, _)), Some((bias_dims, _)), None) =
                ((self.dims)(weight), (self.dims)(bias), (self.dims)(x))
                && let [_, out] = weight_dims[..]
                && bias_dims == [out]
            {
                let fused = Fused::Linear { x: x.into(), weight: weight.into(), bias: bias.into() };
                return Some((add, fused, vec![product]));
            }
        }
        None
    }

    fn attention(&self, softmax: usize) -> Found {
        let mut inner = vec![softmax];
        // What the softmax reads: a product, perhaps scaled, perhaps masked.
        let mut name = self.input(softmax, 0)?;
        let rank = (self.rank)(name)?;
        let axis = self.nodes[softmax].int_or("axis", -1);
        let (mut mask, mut scale) = (None, 1.0);
        let scores = loop {
            let maker = *self.makers.get(name)?;
            self.only_user(maker)?;
            let node = self.nodes[maker];
            match node.op_type.as_str() {
                "MatMul" => break maker,
                "Mul" | "Div" => {
                    let (of, factor) = self.number(maker)?;
                    scale *= if node.is("Mul") { factor } else { 1.0 / factor };
                    name = of;
                }
                "Add" if mask.is_none() && scale == 1.0 => {
                    let (a, b) = (self.input(maker, 0)?, self.input(maker, 1)?);
                    let (of, by) = if self.leads_to_product(a) { (a, b) } else { (b, a) };
                    mask = Some(by);
                    name = of;
                }
                _ => return None,
            }
            inner.push(maker);
        };
        let product = self.only_user(softmax).filter(|i| self.nodes[*i].is("MatMul"))?;
        let (q, k) = (self.input(scores, 0)?, self.input(scores, 1)?);
        let (probabilities, v) = (self.input(product, 0)?, self.input(product, 1)?);
        let computed = |name: &str| (self.dims)(name).is_none() && (self.rank)(name) == Some(rank);
        let masked = match mask.map(|mask| ((self.dims)(mask), (self.rank)(mask))) {
            None => true,
            Some((Some((dims, weight)), _)) => {
                !weight && (dims.len() < 4 || dims.len() == 4 && dims[0] == 1) && (rank == 4 || dims.len() < 3)
            }
            Some((None, of)) => rank == 4 && of == Some(4),
        };
        let last_axis = axis == -1 || axis == rank as i64 - 1;
        if probabilities != self.output(softmax)
            || ![q, k, v].into_iter().all(computed)
            || !masked
            || !last_axis
            || rank < 3
        {
            return None;
        }
        inner.push(scores);
        let [q, k, v] = [q, k, v].map(String::from);
        Some((product, Fused::Attention { q, k, v, mask: mask.map(Into::into), scale }, inner))
    }

    fn leads_to_product(&self, name: &str) -> bool {
        self.makers.get(name).is_some_and(|i| match self.nodes[*i].op_type.as_str() {
            "MatMul" => true,
            "Mul" | "Div" => self.number(*i).is_some_and(|(of, _)| self.leads_to_product(of)),
            _ => false,
        })
    }
}
