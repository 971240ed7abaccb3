//! What a cut takes from a tensor: the whole of it, or a reduction that is stored instead.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};

/// One output of a cut: a tensor of the source model, what is taken from it, and its name afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The output's name in the cut model, such as `cls`.
    pub name: String,
    /// The tensor's name in the source model, such as `/backbone/layernorm/Add_1_output_0`.
    pub tensor: String,
    /// What is taken from the tensor.
    #[serde(default)]
    pub select: Select,
}

/// What is taken from a tensor whose first axis is the batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Select {
    /// All of it, as it is.
    #[default]
    All,
    /// One token: `[batch, tokens, dim]` becomes `[batch, dim]`.
    Token {
        /// Which token; a negative index counts from the end.
        index: i64,
    },
    /// The tokens from one index on: `[batch, tokens, dim]` becomes `[batch, tokens - from, dim]`.
    Tokens {
        /// The first token taken; 1 leaves out a class token.
        from: u32,
    },
    /// The mean of the tokens from one index on: `[batch, tokens, dim]` becomes `[batch, dim]`.
    MeanTokens {
        /// The first token of the mean; 1 leaves out a class token.
        #[serde(default)]
        from: u32,
        /// The token before which the mean ends; without it, all that follow are taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u32>,
    },
    /// Global average pool: `[batch, channels, height, width]` becomes `[batch, channels]`.
    Gap,
    /// Global average pool of a channels-last map: `[batch, height, width, channels]` becomes
    /// `[batch, channels]`.
    GapLast,
    /// All axes but the batch as one: `[batch, channels, 1, 1]` becomes `[batch, channels]`.
    Flatten,
}

impl Select {
    /// The row shape (without the batch) of what is taken from a tensor of this row shape; `None` is a
    /// size that is not known.
    ///
    /// # Errors
    /// The tensor's rank does not fit, or it has too few tokens.
    pub fn row_shape(&self, row: &[Option<usize>]) -> Result<Vec<Option<usize>>> {
        let rank = |wanted: usize, axes: &str| {
            if row.len() == wanted {
                return Ok(());
            }
            let (kind, has) = (self.kind(), row.len() + 1);
            Err(Error::bad_input(format!("select `{kind}` needs a tensor {axes}, not one of {has} axes")))
        };
        let tokens = |needed: usize| match row.first() {
            Some(Some(have)) if *have < needed => {
                let kind = self.kind();
                Err(Error::bad_input(format!("select `{kind}` needs {needed} tokens, but the tensor has {have}")))
            }
            _ => Ok(()),
        };
        match *self {
            Self::All => Ok(row.to_vec()),
            Self::Token { index } => {
                rank(2, "[batch, tokens, dim]")?;
                let needed = if index < 0 { index.unsigned_abs() } else { index.unsigned_abs().saturating_add(1) };
                tokens(usize::try_from(needed).unwrap_or(usize::MAX))?;
                Ok(row[1..].to_vec())
            }
            Self::Tokens { from } => {
                rank(2, "[batch, tokens, dim]")?;
                tokens((from as usize).saturating_add(1))?;
                Ok(vec![row[0].map(|tokens| tokens - from as usize), row[1]])
            }
            Self::MeanTokens { from, to } => {
                rank(2, "[batch, tokens, dim]")?;
                if to.is_some_and(|to| to <= from) {
                    return Err(Error::bad_input("select `mean_tokens` has `to` not above `from`"));
                }
                tokens(to.map_or((from as usize).saturating_add(1), |to| to as usize))?;
                Ok(row[1..].to_vec())
            }
            Self::Gap => {
                rank(3, "[batch, channels, height, width]")?;
                Ok(vec![row[0]])
            }
            Self::GapLast => {
                rank(3, "[batch, height, width, channels]")?;
                Ok(vec![row[2]])
            }
            Self::Flatten => {
                let product = |all: Option<usize>, size: &Option<usize>| all?.checked_mul((*size)?);
                Ok(vec![row.iter().fold(Some(1), product)])
            }
        }
    }

    /// The kind's name, as it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Token { .. } => "token",
            Self::Tokens { .. } => "tokens",
            Self::MeanTokens { .. } => "mean_tokens",
            Self::Gap => "gap",
            Self::GapLast => "gap_last",
            Self::Flatten => "flatten",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_follow_the_kind() {
        let tokens = [Some(257), Some(384)];
        let shape = |select: Select, row: &[Option<usize>]| select.row_shape(row).map_err(|e| e.to_string());
        assert_eq!(shape(Select::Token { index: 0 }, &tokens), Ok(vec![Some(384)]));
        assert_eq!(shape(Select::Tokens { from: 1 }, &tokens), Ok(vec![Some(256), Some(384)]));
        assert_eq!(shape(Select::MeanTokens { from: 1, to: None }, &tokens), Ok(vec![Some(384)]));
        assert_eq!(shape(Select::Gap, &[Some(8), None, None]), Ok(vec![Some(8)]));
        assert_eq!(shape(Select::Flatten, &[Some(8), Some(7), Some(7)]), Ok(vec![Some(392)]));
        assert_eq!(shape(Select::Flatten, &[Some(8), None]), Ok(vec![None]));
        assert_eq!(
            shape(Select::Gap, &tokens),
            Err("select `gap` needs a tensor [batch, channels, height, width], not one of 3 axes".into())
        );
        assert_eq!(
            shape(Select::Token { index: 257 }, &tokens),
            Err("select `token` needs 258 tokens, but the tensor has 257".into())
        );
        assert!(shape(Select::MeanTokens { from: 3, to: Some(3) }, &tokens).is_err());
        assert!(shape(Select::Tokens { from: u32::MAX }, &tokens).is_err());
    }

    #[test]
    fn it_is_written_as_a_tagged_map() {
        let spec: OutputSpec = serde_json::from_str(
            r#"{"name": "patch_mean", "tensor": "x", "select": {"kind": "mean_tokens", "from": 1}}"#,
        )
        .unwrap();
        assert_eq!(spec.select, Select::MeanTokens { from: 1, to: None });
        assert_eq!(serde_json::to_string(&spec.select).unwrap(), r#"{"kind":"mean_tokens","from":1}"#);
        let plain: OutputSpec = serde_json::from_str(r#"{"name": "c5", "tensor": "x"}"#).unwrap();
        assert_eq!(plain.select, Select::All);
    }
}
