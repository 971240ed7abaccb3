//! Heads that are solved at once: which ones they are, and what their configs share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HeadConfig, Knn, Logistic, NearestMean, Ridge, flat};
use crate::base::Result;
use crate::graph::op::Gemm;
use crate::graph::{Graph, Init, ValueId, Weights};

/// The memory that solving a head may take by default.
pub(super) const MAX_MEMORY_GB: f64 = 4.0;

/// A head that is solved at once from the features, without epochs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Solved<'a> {
    /// Least squares with a penalty.
    Ridge(&'a Ridge),
    /// Logistic regression.
    Logistic(&'a Logistic),
    /// The nearest training rows.
    Knn(&'a Knn),
    /// The nearest class mean.
    NearestMean(&'a NearestMean),
}

impl Solved<'_> {
    /// The head's kind, as recipes name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ridge(_) => "ridge",
            Self::Logistic(_) => "logistic",
            Self::Knn(_) => "knn",
            Self::NearestMean(_) => "nearest_mean",
        }
    }
}

impl HeadConfig {
    /// What solves this head, if it is not trained by steps.
    pub fn solved(&self) -> Option<Solved<'_>> {
        match self {
            Self::Ridge(ridge) => Some(Solved::Ridge(ridge)),
            Self::Logistic(logistic) => Some(Solved::Logistic(logistic)),
            Self::Knn(knn) => Some(Solved::Knn(knn)),
            Self::NearestMean(mean) => Some(Solved::NearestMean(mean)),
            _ => None,
        }
    }

    /// How many training rows the weights of a head keep; 0 for heads that keep none.
    pub fn stored_rows(weights: &Weights) -> usize {
        weights.0.get("head.rows").and_then(|rows| rows.shape.first()).copied().unwrap_or(0)
    }
}

/// What near means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// A small angle: 1 minus the cosine.
    #[default]
    Cosine,
    /// A small Euclidean distance.
    L2,
}

/// One number, or a list of numbers to choose from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct OneOrPath(pub Vec<f64>);

/// How [`OneOrPath`] is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    One(f64),
    Path(Vec<f64>),
}

impl From<Written> for OneOrPath {
    fn from(written: Written) -> Self {
        match written {
            Written::One(value) => Self(vec![value]),
            Written::Path(values) => Self(values),
        }
    }
}

impl From<OneOrPath> for Written {
    fn from(OneOrPath(values): OneOrPath) -> Self {
        match values[..] {
            [value] => Self::One(value),
            _ => Self::Path(values),
        }
    }
}

impl JsonSchema for OneOrPath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OneOrPath".into()
    }

    /// Conditions on one schema rather than alternatives, so that a validator's pointer reaches the wrong number.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A positive number, or a list of them to choose from.",
            "type": ["number", "array"],
            "exclusiveMinimum": 0.0,
            "minItems": 1,
            "items": {"type": "number", "exclusiveMinimum": 0.0},
        })
    }
}

/// `logits = features · head.weightᵀ + head.bias`.
pub(super) fn weight_and_bias(graph: &mut Graph, features: ValueId, outputs: usize) -> Result<ValueId> {
    let features = flat(graph, features)?;
    let width = graph.shape(features).last();
    let weight = graph.parameter("head.weight", &[outputs, width], Init::Fill(0.0), true)?;
    let bias = graph.parameter("head.bias", &[outputs], Init::Fill(0.0), false)?;
    graph.node("head", Gemm, &[features, weight, bias])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_list_are_read_and_written_alike() {
        for text in ["0.5", "[0.1,1.0]"] {
            let read: OneOrPath = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    #[test]
    fn solved_heads_build_graphs() {
        let heads = [
            HeadConfig::Ridge(Ridge::default()),
            HeadConfig::Logistic(Logistic::default()),
            HeadConfig::Knn(Knn::default()),
            HeadConfig::Knn(Knn { metric: Distance::L2, ..Knn::default() }),
            HeadConfig::NearestMean(NearestMean::default()),
            HeadConfig::NearestMean(NearestMean { metric: Distance::L2 }),
        ];
        for head in heads {
            let mut graph = Graph::new();
            let x = graph.input("tokens", &[2, 3]).unwrap();
            let logits = head.build(&mut graph, x, 4, 20).unwrap();
            assert_eq!(graph.shape(logits).to_string(), "[batch, 4]", "{head:?}");
            assert!(head.solved().is_some());
        }
    }
}
