//! Rank 2: necks, between the cut and the head, one file per kind; several form a chain.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};
use crate::graph::op::{Concat, Flatten};
use crate::graph::{Graph, ValueId};

mod bifpn;
mod fpn;
mod identity;
mod masked_mean;
mod norm;
mod pan;
mod pool;
mod pyramid;
mod standardize;

pub use bifpn::BiFpn;
pub use fpn::Fpn;
pub use identity::Identity;
pub use masked_mean::MaskedMean;
pub use norm::{L2Norm, LayerNorm};
pub use pan::Pan;
pub use pool::{ClsToken, Gap, Gem, Gmp};
pub use standardize::Standardize;

/// The end of the name of an input that says which tokens of another are real.
pub const MASK: &str = ".mask";

fn padded(output: &str, what: &str) -> Error {
    Error::bad_input(format!("samples have different numbers of tokens of `{output}`, and {what}"))
        .hint("begin with neck `masked_mean`")
}

/// What stands between the cut's outputs and the head. Each output passes through the neck on its own, but for
/// necks that join maps of several sizes; then several outputs are flattened and concatenated, in the order of
/// `outputs`.
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
}

/// The `neck` of a recipe: nothing, one neck, or a list of necks applied in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct NeckChain(pub Vec<NeckConfig>);

impl NeckChain {
    /// Whether it has parameters that gradients train.
    pub fn is_trained(&self) -> bool {
        self.0.iter().any(|neck| match neck {
            NeckConfig::Gem(gem) => gem.learn_p,
            NeckConfig::LayerNorm(_) | NeckConfig::Fpn(_) | NeckConfig::Pan(_) | NeckConfig::BiFpn(_) => true,
            NeckConfig::Identity(_)
            | NeckConfig::Standardize(_)
            | NeckConfig::Gap(_)
            | NeckConfig::Gmp(_)
            | NeckConfig::MaskedMean(_)
            | NeckConfig::ClsToken(_)
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
        let mask_of =
            |name: &str| names.iter().position(|other| *other == format!("{name}{MASK}")).map(|at| inputs[at]);
        let is_mask = |name: &str| name.strip_suffix(MASK).is_some_and(|base| names.iter().any(|name| name == base));
        let values = inputs.iter().zip(&names).filter(|(_, name)| !is_mask(name));
        let (inputs, names): (Vec<ValueId>, Vec<&String>) = values.map(|(input, name)| (*input, name)).unzip();
        let mut masks: Vec<Option<ValueId>> = names.iter().map(|name| mask_of(name)).collect();
        let mut ends = inputs.clone();
        for (i, neck) in self.0.iter().enumerate() {
            let masked = names.iter().zip(&masks).find(|(_, mask)| mask.is_some());
            if let Some((name, _)) = masked.filter(|_| !neck.minds_padding()) {
                return Err(padded(name, &format!("neck `{}` would take padding for tokens", neck.kind())));
            }
            if let Some(joined) = neck.join(graph, &ends, &format!("neck.{i}")) {
                ends = joined?;
                continue;
            }
            for ((end, mask), output) in ends.iter_mut().zip(&mut masks).zip(&names) {
                *end = neck.build(graph, *end, *mask, &format!("neck.{output}.{i}"))?;
                // A vector has no padding.
                *mask = mask.filter(|_| graph.shape(*end).dims.len() > 1);
            }
        }
        if let Some((name, _)) = names.iter().zip(&masks).find(|(_, mask)| mask.is_some()) {
            return Err(padded(name, "no neck makes a vector of its tokens"));
        }
        if let [one] = ends[..] {
            return Ok(one);
        }
        for (end, input) in ends.iter_mut().zip(&inputs) {
            if graph.shape(*end).dims.len() != 1 {
                let name = format!("neck.{}.flatten", graph.values()[input.index()].name);
                *end = graph.node(&name, Flatten, &[*end])?;
            }
        }
        graph.node("neck.concat", Concat { axis: 0 }, &ends)
    }
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

    /// Whether it treats each token by itself, or leaves padding out.
    fn minds_padding(&self) -> bool {
        let by_itself = matches!(self, Self::Identity(_) | Self::LayerNorm(_) | Self::L2Norm(_));
        by_itself || matches!(self, Self::ClsToken(_) | Self::MaskedMean(_))
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
            Self::Fpn(_) | Self::Pan(_) | Self::BiFpn(_) => Ok(x),
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
}
