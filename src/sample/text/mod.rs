//! Text: what a network expects of it, and how token ids are made of it.
//!
//! A batch holds samples of one length in tokens, so nothing is padded to fit its batch mates: what a network
//! gives for a text cannot depend on them, and a mean over tokens is one over real tokens. Only a network of a
//! fixed length pads, every text to that length ([`TextPreprocess::pad_to`]).

mod batches;
mod config;
mod encoder;
mod input;

pub(super) use batches::{flow, probe};
pub use batches::{inputs_of, made_up};
pub use config::TextSteps;
pub use encoder::Encoder;
pub use input::TextInput;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Error, Result};

/// A number in the cache key of every activation of text: it goes up when the same text, tokenizer and
/// [`TextPreprocess`] give other token ids.
pub const TOKENS_VERSION: u32 = 1;

/// The longest input in tokens.
pub const MAX_TOKENS: u32 = 1 << 16;

/// How a text becomes token ids `[tokens]`, beside the tokenizer's own file: truncation and special tokens. A row
/// with two texts is encoded as a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextPreprocess {
    /// The most tokens, special ones included; longer texts lose their end, the longer one of a pair first.
    #[schemars(range(min = 1, max = 65536))]
    pub max_tokens: u32,
    /// Whether the tokenizer adds its special tokens, such as `[CLS]` and `[SEP]`.
    #[serde(default = "yes")]
    pub special_tokens: bool,
    /// The length to which every text is padded, for networks that take no other; `null` for none. Where a part of the
    /// network is trained it is that of `max_tokens` if none is given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65536))]
    pub pad_to: Option<u32>,
    /// The names of the network's inputs. Those that a network lacks are not given to it.
    #[serde(default)]
    pub inputs: TextInputs,
}

/// The names of a text network's inputs, each `[batch, tokens]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TextInputs {
    /// The ids of the tokens.
    pub ids: String,
    /// 1 for a token, 0 for padding.
    pub mask: String,
    /// Which text of a pair a token is of: 0 or 1.
    pub type_ids: String,
    /// The number of each token, from 0.
    pub positions: String,
}

impl Default for TextInputs {
    fn default() -> Self {
        Self {
            ids: "input_ids".into(),
            mask: "attention_mask".into(),
            type_ids: "token_type_ids".into(),
            positions: "position_ids".into(),
        }
    }
}

impl TextInputs {
    /// The name of the input that takes something.
    pub fn of(&self, input: TextInput) -> &str {
        match input {
            TextInput::Ids => &self.ids,
            TextInput::Mask => &self.mask,
            TextInput::TypeIds => &self.type_ids,
            TextInput::Positions => &self.positions,
        }
    }

    /// Gives the input that takes something another name.
    pub fn set(&mut self, input: TextInput, name: String) {
        *match input {
            TextInput::Ids => &mut self.ids,
            TextInput::Mask => &mut self.mask,
            TextInput::TypeIds => &mut self.type_ids,
            TextInput::Positions => &mut self.positions,
        } = name;
    }

    /// What the input of a name takes: as these names say, else as is usual.
    pub fn takes(&self, name: &str) -> Option<TextInput> {
        TextInput::ALL.into_iter().find(|input| self.of(*input) == name).or_else(|| TextInput::usual(name))
    }
}

fn yes() -> bool {
    true
}

impl TextPreprocess {
    /// Texts of at most so many tokens.
    pub fn at_most(max_tokens: u32) -> Self {
        Self { max_tokens, special_tokens: true, pad_to: None, inputs: TextInputs::default() }
    }

    /// What serde and the schema cannot see.
    ///
    /// # Errors
    /// A length is 0 or more than [`MAX_TOKENS`], or texts may be longer than they are padded to.
    pub fn check(&self) -> Result<()> {
        for (key, length) in [("max_tokens", Some(self.max_tokens)), ("pad_to", self.pad_to)] {
            if length.is_some_and(|length| length == 0 || length > MAX_TOKENS) {
                return Err(Error::bad_input(format!("preprocess.{key} is not from 1 to {MAX_TOKENS}")));
            }
        }
        if let Some(pad_to) = self.pad_to.filter(|pad_to| *pad_to < self.max_tokens) {
            let most = self.max_tokens;
            return Err(Error::bad_input(format!(
                "preprocess.pad_to: {pad_to} is less than the {most} of `max_tokens`"
            )));
        }
        Ok(())
    }
}
