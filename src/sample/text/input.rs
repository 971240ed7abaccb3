//! What each input of a text network takes.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::suggest::{did_you_mean, one_of};
use crate::base::{Error, Result};

/// What an input `[batch, tokens]` of a text network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextInput {
    /// The ids of the tokens.
    Ids,
    /// 1 for a token, 0 for padding.
    Mask,
    /// Which text of a pair a token is of: 0 or 1.
    TypeIds,
    /// The number of each token, from 0.
    Positions,
}

impl TextInput {
    /// Every one, in the order in which they are prepared.
    pub const ALL: [Self; 4] = [Self::Ids, Self::Mask, Self::TypeIds, Self::Positions];

    /// The name used in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Mask => "mask",
            Self::TypeIds => "type_ids",
            Self::Positions => "positions",
        }
    }

    /// What an input of a usual name takes: those of exports from PyTorch, TensorFlow and the CLIPs, with or without
    /// TensorFlow's `:0` behind them.
    pub fn usual(name: &str) -> Option<Self> {
        let plain = name.rsplit('/').next().unwrap_or(name);
        let plain = plain.split_once(':').map_or(plain, |(plain, _)| plain).to_lowercase();
        Some(match plain.as_str() {
            "input_ids" | "ids" | "token_ids" | "tokens" | "input_word_ids" | "text" | "text_input" => Self::Ids,
            "attention_mask" | "input_mask" | "mask" | "text_mask" => Self::Mask,
            "token_type_ids" | "segment_ids" | "type_ids" | "input_type_ids" | "token_types" => Self::TypeIds,
            "position_ids" | "positions" => Self::Positions,
            _ => return None,
        })
    }
}

impl FromStr for TextInput {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let names = || Self::ALL.into_iter().map(Self::name);
        Self::ALL.into_iter().find(|input| input.name() == word).ok_or_else(|| {
            let near = did_you_mean(word, names());
            Error::bad_input(format!("a text network takes {}, not `{word}`{near}", one_of(names())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_known_and_others_are_not() {
        assert_eq!(TextInput::usual("input_ids"), Some(TextInput::Ids));
        assert_eq!(TextInput::usual("serving/input_word_ids:0"), Some(TextInput::Ids));
        assert_eq!(TextInput::usual("Segment_Ids:0"), Some(TextInput::TypeIds));
        assert_eq!(TextInput::usual("pixel_values"), None);
        assert_eq!("mask".parse::<TextInput>().unwrap(), TextInput::Mask);
        assert!("musk".parse::<TextInput>().unwrap_err().to_string().contains("did you mean `mask`?"));
    }
}
