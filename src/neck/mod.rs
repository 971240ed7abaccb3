//! Rank 2: necks, between the cut and the head, one file per kind; several form a chain.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::op::{Binary, BinaryKind, Concat as ConcatOp, Flatten, Reshape};
use crate::graph::{Graph, ValueId};

mod attention_pool;
mod batch_norm;
mod bifpn;
mod concat;
mod fpn;
mod identity;
mod masked_mean;
mod mlp;
mod norm;
mod pair;
mod pan;
mod pool;
mod pyramid;
mod standardize;
mod transformer;

pub use attention_pool::AttentionPool;
pub use batch_norm::BatchNorm;
pub use bifpn::BiFpn;
pub use concat::Concat;
pub use fpn::Fpn;
pub use identity::Identity;
pub use masked_mean::MaskedMean;
pub use mlp::Mlp;
pub use norm::{L2Norm, LayerNorm};
pub use pair::{Pair, Part};
pub use pan::Pan;
pub use pool::{ClsToken, Gap, Gem, Gmp};
pub use standardize::Standardize;
pub use transformer::Transformer;

pub use crate::graph::import::MASK;

fn padded(output: &str, what: &str) -> Error {
    Error::bad_input(format!("samples have different numbers of tokens of `{output}`, and {what}"))
        .hint("begin with neck `masked_mean`")
}

/// What stands between the cut's outputs and the head. Each output passes through the necks on its own, but for
/// necks that join maps of several sizes, up to a `concat` or the end; there several outputs are flattened and
/// concatenated, in the order of `outputs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NeckConfig {
    /// Passes features through unchanged.
    Identity(Identity),
    /// Subtracts the mean and divides by the standard deviation of each feature over the training rows.
    Standardize(Standardize),
    /// Global average pooling: the mean over tokens or places.
    Gap(Gap),
    /// The mean over the tokens of each sample, without padding.
    MaskedMean(MaskedMean),
    /// Global max pooling: the largest over tokens or places.
    Gmp(Gmp),
    /// Generalised-mean pooling: between the mean and the largest, with a trained power.
    Gem(Gem),
    /// Keeps the first token.
    ClsToken(ClsToken),
    /// Layer normalisation with a trained scale and bias.
    LayerNorm(LayerNorm),
    /// Divides by the Euclidean length.
    #[serde(rename = "l2_norm")]
    L2Norm(L2Norm),
    /// Feature pyramid network: joins several maps from the coarsest down.
    Fpn(Fpn),
    /// Path aggregation network: joins several maps from the coarsest down, then from the finest up.
    Pan(Pan),
    /// Weighted bidirectional feature pyramid network: goes both ways several times.
    #[serde(rename = "bifpn")]
    BiFpn(BiFpn),
    /// Pools tokens by learned attention.
    AttentionPool(AttentionPool),
    /// Batch normalisation without a trained scale.
    BatchNorm(BatchNorm),
    /// Fully connected layers.
    Mlp(Mlp),
    /// Transformer layers on tokens.
    Transformer(Transformer),
    /// Joins several outputs, so that what follows works on all together.
    Concat(Concat),
    /// Compares the two sides of a pair.
    Pair(Pair),
}

/// The `neck` of a recipe: nothing, one neck, or a list of necks applied in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct NeckChain(pub Vec<NeckConfig>);

impl NeckChain {
    /// Whether it has something that steps train.
    pub fn is_trained(&self) -> bool {
        self.0.iter().any(|neck| match neck {
            NeckConfig::Gem(gem) => gem.learn_p,
            NeckConfig::LayerNorm(_)
            | NeckConfig::Fpn(_)
            | NeckConfig::Pan(_)
            | NeckConfig::BiFpn(_)
            | NeckConfig::AttentionPool(_)
            | NeckConfig::Mlp(_)
            | NeckConfig::Transformer(_)
            // Its running statistics are those of steps.
            | NeckConfig::BatchNorm(_) => true,
            NeckConfig::Identity(_)
            | NeckConfig::Standardize(_)
            | NeckConfig::Gap(_)
            | NeckConfig::Gmp(_)
            | NeckConfig::MaskedMean(_)
            | NeckConfig::ClsToken(_)
            | NeckConfig::Concat(_)
            | NeckConfig::Pair(_)
            | NeckConfig::L2Norm(_) => false,
        })
    }

    /// Adds the nodes of all necks to each of the inputs, and joins several into one. Names begin with
    /// `neck`. An input `NAME.mask` `[tokens]` says which tokens of the input `NAME` are real; it is not joined.
    ///
    /// # Errors
    /// A neck cannot take its input's shape, would take padding for tokens, or there is no input.
    pub fn build(&self, graph: &mut Graph, inputs: &[ValueId]) -> Result<ValueId> {
        let names: Vec<String> = inputs.iter().map(|input| graph.values()[input.index()].name.clone()).collect();
        self.build_named(graph, inputs, &names)
    }

    /// [`Self::build`] with other names for the inputs than those that they have.
    ///
    /// # Errors
    /// Those of [`Self::build`].
    pub fn build_named(&self, graph: &mut Graph, inputs: &[ValueId], names: &[String]) -> Result<ValueId> {
        let mask_of =
            |name: &str| names.iter().position(|other| *other == format!("{name}{MASK}")).map(|at| inputs[at]);
        let is_mask = |name: &str| name.strip_suffix(MASK).is_some_and(|base| names.iter().any(|name| name == base));
        let values = inputs.iter().zip(names).filter(|(_, name)| !is_mask(name));
        let (mut ends, mut labels): (Vec<ValueId>, Vec<String>) =
            values.map(|(input, name)| (*input, name.clone())).unzip();
        let mut masks: Vec<Option<ValueId>> = labels.iter().map(|name| mask_of(name)).collect();
        for (i, neck) in self.0.iter().enumerate() {
            let masked = labels.iter().zip(&masks).find(|(_, mask)| mask.is_some());
            if let Some((name, _)) = masked.filter(|_| !neck.minds_padding()) {
                return Err(padded(name, &format!("neck `{}` would take padding for tokens", neck.kind())));
            }
            let all = match neck {
                NeckConfig::Concat(_) => Some(join(graph, &labels, ends.clone())?),
                NeckConfig::Pair(pair) => Some(pair.build(graph, &ends, &format!("neck.{i}"))?),
                _ => None,
            };
            if let Some(all) = all {
                (ends, labels, masks) = (vec![all], vec!["all".into()], vec![None]);
            } else if let Some(joined) = neck.join(graph, &ends, &format!("neck.{i}")) {
                ends = joined?;
            } else {
                for ((end, mask), output) in ends.iter_mut().zip(&mut masks).zip(&labels) {
                    *end = neck.build(graph, *end, *mask, &format!("neck.{output}.{i}"))?;
                    // A vector has no padding.
                    *mask = mask.filter(|_| graph.shape(*end).dims.len() > 1);
                }
            }
        }
        if let Some((name, _)) = labels.iter().zip(&masks).find(|(_, mask)| mask.is_some()) {
            return Err(padded(name, "no neck makes a vector of its tokens"));
        }
        join(graph, &labels, ends)
    }
}

/// What is added to scores of tokens so that padding gets none of their softmax: 0 for a token, else a number that
/// is far below all scores and within f16. `mask` `[tokens]` becomes `dims`.
fn penalty(graph: &mut Graph, mask: ValueId, dims: Vec<usize>, name: &str) -> Result<ValueId> {
    let one = graph.constant(&format!("{name}.one"), &[], vec![1.0])?;
    let large = graph.constant(&format!("{name}.large"), &[], vec![30_000.0])?;
    let below = graph.node(&format!("{name}.below"), Binary(BinaryKind::Sub), &[mask, one])?;
    let scaled = graph.node(&format!("{name}.scaled"), Binary(BinaryKind::Mul), &[below, large])?;
    graph.node(name, Reshape { dims }, &[scaled])
}

/// One value of what became of each input.
fn join(graph: &mut Graph, names: &[String], mut ends: Vec<ValueId>) -> Result<ValueId> {
    if let [one] = ends[..] {
        return Ok(one);
    }
    for (end, name) in ends.iter_mut().zip(names) {
        if graph.shape(*end).dims.len() != 1 {
            *end = graph.node(&format!("neck.{name}.flatten"), Flatten, &[*end])?;
        }
    }
    graph.node("neck.concat", ConcatOp { axis: 0 }, &ends)
}

impl NeckConfig {
    /// Adds a neck that takes all maps at once and gives as many; `None` for the others.
    fn join(&self, graph: &mut Graph, inputs: &[ValueId], name: &str) -> Option<Result<Vec<ValueId>>> {
        match self {
            Self::Fpn(fpn) => Some(fpn.build(graph, inputs, name)),
            Self::Pan(pan) => Some(pan.build(graph, inputs, name)),
            Self::BiFpn(bifpn) => Some(bifpn.build(graph, inputs, name)),
            _ => None,
        }
    }

    /// Whether it leaves padding out by its mask.
    fn pools_by_mask(&self) -> bool {
        matches!(self, Self::MaskedMean(_) | Self::AttentionPool(_) | Self::Transformer(_))
    }

    /// Whether it treats each token by itself, or leaves padding out.
    fn minds_padding(&self) -> bool {
        let by_itself = matches!(self, Self::Identity(_) | Self::LayerNorm(_) | Self::L2Norm(_));
        by_itself || self.pools_by_mask() || matches!(self, Self::ClsToken(_) | Self::Mlp(_))
    }

    /// The name of the kind.
    fn kind(&self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        json["kind"].as_str().unwrap_or_default().to_string()
    }

    fn build(&self, graph: &mut Graph, x: ValueId, mask: Option<ValueId>, name: &str) -> Result<ValueId> {
        match self {
            Self::Identity(_) => Ok(x),
            Self::MaskedMean(mean) => mean.build(graph, x, mask, name),
            Self::Standardize(standardize) => standardize.build(graph, x, name),
            Self::Gap(gap) => gap.build(graph, x, name),
            Self::Gmp(gmp) => gmp.build(graph, x, name),
            Self::Gem(gem) => gem.build(graph, x, name),
            Self::ClsToken(token) => token.build(graph, x, name),
            Self::LayerNorm(norm) => norm.build(graph, x, name),
            Self::L2Norm(norm) => norm.build(graph, x, name),
            // These join their inputs instead.
            Self::Fpn(_) | Self::Pan(_) | Self::BiFpn(_) | Self::Concat(_) | Self::Pair(_) => Ok(x),
            Self::AttentionPool(pool) => pool.build(graph, x, mask, name),
            Self::BatchNorm(norm) => norm.build(graph, x, name),
            Self::Mlp(mlp) => mlp.build(graph, x, name),
            Self::Transformer(transformer) => transformer.build(graph, x, mask, name),
        }
    }
}

impl<'de> Deserialize<'de> for NeckChain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = NeckChain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a neck, a list of necks, or nothing")
            }

            fn visit_unit<E>(self) -> Result<NeckChain, E> {
                Ok(NeckChain::default())
            }

            fn visit_none<E>(self) -> Result<NeckChain, E> {
                Ok(NeckChain::default())
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<NeckChain, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NeckChain, A::Error> {
                NeckConfig::deserialize(MapAccessDeserializer::new(map)).map(|neck| NeckChain(vec![neck]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<NeckChain, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(NeckChain)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for NeckChain {
    fn schema_name() -> Cow<'static, str> {
        "NeckChain".into()
    }

    /// Conditions rather than alternatives, so that a validator's pointer reaches the wrong key.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<NeckConfig>();
        json_schema!({
            "description": "The neck: nothing, one neck, or a list of necks applied in order.",
            "type": ["null", "object", "array"],
            "if": {"type": "array"},
            "then": {"items": one},
            "else": {"if": {"type": "object"}, "then": one},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Stream;
    use crate::graph::execution::{Execution, Pass};
    use crate::graph::op::check::compare;
    use crate::graph::{Init, Weights};

    #[test]
    fn a_chain_is_nothing_one_or_many() {
        let read = |json: &str| serde_json::from_str::<NeckChain>(json);
        assert_eq!(read("null").unwrap(), NeckChain::default());
        let one = NeckConfig::Standardize(Standardize::default());
        assert_eq!(read(r#"{"kind": "standardize"}"#).unwrap(), NeckChain(vec![one.clone()]));
        let two = read(r#"[{"kind": "identity"}, {"kind": "standardize"}]"#).unwrap();
        assert_eq!(two, NeckChain(vec![NeckConfig::Identity(Identity::default()), one]));
        let wrong = read(r#"{"kind": "standardize", "epps": 1}"#).unwrap_err().to_string();
        assert!(wrong.contains("unknown field `epps`"), "{wrong}");
        assert!(read(r#"{"kind": "standardise"}"#).is_err());
    }

    /// The gradients of every neck's parameters, and of what it reads, held to central differences in f64.
    #[test]
    fn gradients_of_whole_necks_agree_with_finite_differences() {
        const VECTOR: &[&[usize]] = &[&[6]];
        const TOKENS: &[&[usize]] = &[&[4, 6]];
        const MAPS: &[&[usize]] = &[&[2, 4, 4], &[3, 2, 2]];
        let necks: [(&str, &[&[usize]]); 21] = [
            (r#"{"kind": "identity"}"#, VECTOR),
            (r#"{"kind": "standardize"}"#, VECTOR),
            (r#"{"kind": "layer_norm"}"#, TOKENS),
            (r#"{"kind": "l2_norm"}"#, VECTOR),
            (r#"{"kind": "batch_norm"}"#, VECTOR),
            (r#"{"kind": "mlp", "widths": [5, 3], "dropout": 0.3}"#, VECTOR),
            (r#"{"kind": "gap"}"#, TOKENS),
            (r#"{"kind": "gap"}"#, &[&[2, 3, 2]]),
            (r#"{"kind": "gmp"}"#, TOKENS),
            (r#"{"kind": "gem"}"#, TOKENS),
            (r#"{"kind": "gem", "learn_p": false}"#, &[&[2, 3, 2]]),
            (r#"{"kind": "masked_mean"}"#, TOKENS),
            (r#"{"kind": "cls_token"}"#, TOKENS),
            (r#"{"kind": "attention_pool", "heads": 2}"#, TOKENS),
            (r#"{"kind": "transformer", "layers": 2, "heads": 2, "mlp_ratio": 1.0}"#, TOKENS),
            (r#"{"kind": "concat"}"#, &[&[3], &[2, 2]]),
            (r#"[{"kind": "concat"}, {"kind": "mlp", "widths": [4]}]"#, &[&[3], &[2, 2]]),
            (r#"{"kind": "fpn", "channels": 3}"#, MAPS),
            (r#"{"kind": "pan", "channels": 3}"#, MAPS),
            (r#"{"kind": "bifpn", "channels": 2, "layers": 2}"#, MAPS),
            (r#"[{"kind": "fpn", "channels": 2}, {"kind": "gap"}]"#, MAPS),
        ];
        for (json, shapes) in necks {
            let chain: NeckChain = serde_json::from_str(json).unwrap();
            // With a mask too, where a neck has a use for one.
            let masked: &[bool] =
                if chain.0.iter().any(|neck| neck.pools_by_mask()) { &[false, true] } else { &[false] };
            for masked in masked {
                let mut graph = Graph::new();
                let mut inputs = Vec::new();
                for (i, dims) in shapes.iter().enumerate() {
                    let x = graph.input(&format!("x{i}"), dims).unwrap();
                    let read = graph.parameter(&format!("p{i}"), dims, Init::Uniform(0.8), true).unwrap();
                    inputs.push(graph.node(&format!("in{i}"), Binary(BinaryKind::Add), &[x, read]).unwrap());
                }
                if *masked {
                    let real = graph.constant("real", &[4], vec![1.0, 1.0, 1.0, 0.0]).unwrap();
                    let zero = graph.input("zero", &[4]).unwrap();
                    let none = graph.constant("none", &[], vec![0.0]).unwrap();
                    let zero = graph.node("nothing", Binary(BinaryKind::Mul), &[zero, none]).unwrap();
                    inputs.push(graph.node("in0.mask", Binary(BinaryKind::Add), &[zero, real]).unwrap());
                }
                let chain = match masked {
                    true if matches!(chain.0[..], [NeckConfig::Transformer(_)]) => {
                        NeckChain(chain.0.iter().cloned().chain([NeckConfig::ClsToken(ClsToken {})]).collect())
                    }
                    _ => chain.clone(),
                };
                let out = chain.build(&mut graph, &inputs).unwrap();
                let mut weights = graph.initial_weights(7);
                // Scales of 1 and biases of 0 would hide much.
                for (name, tensor) in &mut weights.0 {
                    let noise = Stream::named(3, name);
                    let move_by = |(i, x): (usize, &mut f32)| *x += 0.3 * noise.uniform(i as u64);
                    tensor.values.iter_mut().enumerate().for_each(move_by);
                }
                let gem = json.contains("gem");
                let pass = Pass { training: true, seed: 1, step: 1, ..Pass::EVALUATION };
                compare(&graph, out, &weights, pass, |x| if gem { x.abs() + 1.5 } else { x });
            }
        }
    }

    const TOKENS: usize = 5;
    const DIM: usize = 6;

    /// Numbers in −1..1 as `tests/reference/necks.py` makes them.
    fn numbers(n: usize, factor: usize, modulus: usize) -> Vec<f32> {
        let number = |i: usize| ((i * factor + i * i % 97 * 5) % modulus) as f32 / (modulus / 2) as f32 - 1.0;
        (0..n).map(number).collect()
    }

    /// What a neck makes of two rows, with some parameters set.
    fn run(
        neck: NeckConfig,
        dims: &[usize],
        rows: &[f32],
        parameters: &[(&str, usize)],
        training: bool,
    ) -> (Vec<f32>, Weights) {
        let mut graph = Graph::new();
        let x = graph.input("x", dims).unwrap();
        let y = NeckChain(vec![neck]).build(&mut graph, &[x]).unwrap();
        let mut weights = graph.initial_weights(0);
        for (name, factor) in parameters {
            let tensor = weights.0.get_mut(*name).unwrap_or_else(|| panic!("no parameter `{name}`"));
            tensor.values = numbers(tensor.values.len(), *factor, 211).iter().map(|x| 0.5 * x).collect();
        }
        let mut run: Execution<f32> = Execution::new(&graph, &weights, 2, true).unwrap();
        run.value_mut(x).copy_from_slice(rows);
        run.forward(2, Pass { training, seed: 0, step: 1, ..Pass::EVALUATION });
        (run.value(y).to_vec(), run.weights())
    }

    /// `tests/reference/necks.py` wrote PyTorch's values.
    #[test]
    fn values_are_pytorchs() {
        let reference: std::collections::BTreeMap<String, Vec<f32>> =
            serde_json::from_str(include_str!("../../tests/reference/necks.json")).unwrap();
        let near = |ours: &[f32], name: &str| {
            let theirs = &reference[name];
            assert_eq!(ours.len(), theirs.len(), "{name}");
            for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                assert!((ours - theirs).abs() < 1e-4, "{name}[{i}]: {ours}, not {theirs}");
            }
        };
        let tokens = numbers(2 * TOKENS * DIM, 367, 1009);
        let at = |part: &str| format!("neck.x.0.layers.0.{part}");
        let factors =
            [("q", 17, 29), ("k", 19, 31), ("v", 23, 37), ("projection", 41, 53), ("up", 43, 55), ("down", 47, 59)];
        let names: Vec<(String, usize)> = factors
            .iter()
            .flat_map(|(part, weight, bias)| {
                [(at(&format!("{part}.weight")), *weight), (at(&format!("{part}.bias")), *bias)]
            })
            .collect();
        let names: Vec<(&str, usize)> = names.iter().map(|(name, factor)| (name.as_str(), *factor)).collect();
        let transformer = Transformer { heads: 2, mlp_ratio: 2.0, ..Transformer::default() };
        near(&run(NeckConfig::Transformer(transformer), &[TOKENS, DIM], &tokens, &names, true).0, "transformer");
        let pool = NeckConfig::AttentionPool(AttentionPool { heads: 2 });
        near(&run(pool, &[TOKENS, DIM], &tokens, &[("neck.x.0.query", 53)], true).0, "attention_pool");
        let first: Vec<f32> = tokens.chunks(TOKENS * DIM).flat_map(|row| row[..DIM].to_vec()).collect();
        let (normal, weights) = run(NeckConfig::BatchNorm(BatchNorm::default()), &[DIM], &first, &[], true);
        near(&normal, "batch_norm");
        near(weights.get("neck.x.0.running_mean", &[DIM]).unwrap(), "running_mean");
        near(weights.get("neck.x.0.running_variance", &[DIM]).unwrap(), "running_variance");
    }

    #[test]
    fn padding_changes_nothing() {
        let necks = [
            NeckConfig::AttentionPool(AttentionPool { heads: 2 }),
            NeckConfig::Transformer(Transformer { heads: 2, ..Transformer::default() }),
        ];
        for neck in necks {
            let chain = NeckChain(vec![neck, NeckConfig::MaskedMean(MaskedMean {})]);
            let run = |padding: f32| {
                let mut graph = Graph::new();
                let x = graph.input("x", &[TOKENS, DIM]).unwrap();
                let mask = graph.input("x.mask", &[TOKENS]).unwrap();
                let y = chain.build(&mut graph, &[x, mask]).unwrap();
                let mut run: Execution<f32> = Execution::new(&graph, &graph.initial_weights(0), 1, false).unwrap();
                let mut rows = numbers(TOKENS * DIM, 367, 1009);
                rows[3 * DIM..].fill(padding);
                run.value_mut(x).copy_from_slice(&rows);
                run.value_mut(mask).copy_from_slice(&[1.0, 1.0, 1.0, 0.0, 0.0]);
                run.forward(1, Pass::EVALUATION);
                run.value(y).to_vec()
            };
            assert_eq!(run(0.0), run(5.0), "{chain:?}");
        }
    }

    #[test]
    fn what_follows_a_concat_works_on_all_outputs() {
        let chain = NeckChain(vec![
            NeckConfig::Gap(Gap {}),
            NeckConfig::Concat(Concat {}),
            NeckConfig::Mlp(Mlp { widths: vec![7], dropout: 0.1 }),
        ]);
        let mut graph = Graph::new();
        let inputs = [graph.input("a", &[3, 4]).unwrap(), graph.input("b", &[2, 2, 2]).unwrap()];
        let y = chain.build(&mut graph, &inputs).unwrap();
        assert_eq!(graph.shape(y).to_string(), "[batch, 7]");
        assert_eq!(graph.parameter_count(), (4 + 2) * 7 + 7);
        let transformer = NeckChain(vec![NeckConfig::Transformer(Transformer { heads: 3, ..Transformer::default() })]);
        let error = transformer.build(&mut graph, &inputs[..1]).unwrap_err();
        assert!(error.to_string().contains("cannot give 3 heads equal parts of 4 features"), "{error}");
        assert!(
            NeckChain(vec![NeckConfig::AttentionPool(AttentionPool::default())])
                .build(&mut graph, &inputs[1..])
                .is_err()
        );
    }
}
