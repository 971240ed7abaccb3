//! What a recipe may say about a text's preprocess.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TextInputs, TextPreprocess};
use crate::base::Result;

/// The steps of a text's preprocess that a recipe replaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextSteps {
    /// The most tokens of a text, special ones included; what is longer loses its end.
    #[schemars(range(min = 1, max = 65536))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Whether the tokenizer adds its special tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special_tokens: Option<bool>,
    /// The length to which every text is padded, for networks that take no other. Where a part of the network is trained
    /// it is that of `max_tokens` if none is given: short ones make it quick.
    #[schemars(range(min = 1, max = 65536))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_to: Option<u32>,
    /// The names of the network's inputs, where they are not the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<TextInputs>,
}

impl TextSteps {
    /// A backbone's own preprocess with these steps in place of its.
    ///
    /// # Errors
    /// The result fails [`TextPreprocess::check`].
    pub fn resolve(&self, own: &TextPreprocess) -> Result<TextPreprocess> {
        let resolved = TextPreprocess {
            max_tokens: self.max_tokens.unwrap_or(own.max_tokens),
            special_tokens: self.special_tokens.unwrap_or(own.special_tokens),
            pad_to: self.pad_to.or(own.pad_to),
            inputs: self.inputs.clone().unwrap_or_else(|| own.inputs.clone()),
        };
        resolved.check()?;
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_replace_those_of_the_backbone() {
        let steps = TextSteps { max_tokens: Some(16), ..TextSteps::default() };
        let own = TextPreprocess::at_most(256);
        assert_eq!(steps.resolve(&own).unwrap(), TextPreprocess::at_most(16));
        assert!(TextSteps { pad_to: Some(8), ..steps.clone() }.resolve(&own).is_err());
        assert!(TextSteps { max_tokens: Some(0), ..steps }.resolve(&own).is_err());
    }
}
