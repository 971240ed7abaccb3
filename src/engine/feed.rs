//! What an engine's inputs take, and made-up samples for them.

use super::manifest::{EngineInput, Manifest};
use super::samples::{Samples, random_tensor};
use crate::base::random::Stream;
use crate::base::suggest::one_of;
use crate::base::{Error, Result};
use crate::graph::onnx::inspect::vocabulary;
use crate::graph::onnx::proto::ModelProto;
use crate::sample::text::{TextInput, TextInputs, made_up};
use crate::sample::{Tensor, Values};

/// What an engine is fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// Its only input takes numbers, such as pixels, in rows of this shape.
    Numbers(Vec<usize>),
    /// Its inputs take the tokens of a text.
    Text {
        /// The inputs' names.
        names: TextInputs,
        /// How many different tokens there are.
        vocabulary: usize,
        /// The number of tokens, where it is fixed.
        length: Option<usize>,
        /// The shape of an input's row of a made-up text.
        row: [usize; 1],
    },
}

/// How many tokens a made-up text has, and what is assumed of a vocabulary that cannot be told.
const TOKENS: usize = 12;
const SMALL_VOCABULARY: usize = 100;

impl Feed {
    /// What the engine of a manifest is fed; `model` is its own, and `size` fills the sizes that a picture's input leaves
    /// open.
    ///
    /// # Errors
    /// There are several inputs, or one of integers, and what one takes is not known; a picture's size is open.
    pub fn of(manifest: &Manifest, model: &ModelProto, size: Option<usize>) -> Result<Self> {
        if let Some(text) = Self::text(manifest, model)? {
            return Ok(text);
        }
        let input = manifest.only_input()?;
        if input.dtype == "i64" {
            return Err(unknown(manifest, std::slice::from_ref(&input)));
        }
        let open = || {
            size.ok_or_else(|| {
                Error::bad_input("the model leaves the size of its input open").hint("give it with `--image-size`")
            })
        };
        let row = match input.shape[..] {
            [channels, height, width] if height.is_none() || width.is_none() => {
                vec![channels.unwrap_or(3), height.map_or_else(open, Ok)?, width.map_or_else(open, Ok)?]
            }
            _ => input.shape.iter().map(|size| size.map_or_else(open, Ok)).collect::<Result<_>>()?,
        };
        Ok(Self::Numbers(row))
    }

    /// That of a text network; `None` for what takes no text.
    fn text(manifest: &Manifest, model: &ModelProto) -> Result<Option<Self>> {
        let inputs = &manifest.inputs;
        if inputs.iter().all(|input| input.takes.is_none()) {
            return Ok(None);
        }
        let strange: Vec<&EngineInput> = inputs.iter().filter(|input| input.takes.is_none()).collect();
        if !strange.is_empty() {
            return Err(unknown(manifest, &strange));
        }
        let mut names = TextInputs::default();
        let (mut known, mut length) = (None, None);
        for input in inputs {
            let Some(takes) = input.takes else { continue };
            if inputs.iter().any(|other| other.takes == Some(takes) && other.name != input.name) {
                let what = format!("two inputs of `{}` take the {} of a text", manifest.name, takes.name());
                return Err(Error::bad_input(what).hint("say which one does with `--input ids=NAME`"));
            }
            names.set(takes, input.name.clone());
            match input.shape[..] {
                [tokens] => length = length.or(tokens),
                _ => return Err(unknown(manifest, &[input])),
            }
            if takes == TextInput::Ids {
                known = vocabulary(model, &input.name)?;
            }
        }
        let row = [length.unwrap_or(TOKENS)];
        Ok(Some(Self::Text { names, vocabulary: known.unwrap_or(SMALL_VOCABULARY), length, row }))
    }

    /// The shape of an input's row, of a made-up text where texts differ.
    pub fn row(&self) -> &[usize] {
        match self {
            Self::Numbers(row) => row,
            Self::Text { row, .. } => row,
        }
    }

    /// The number of tokens that every text has, where it is fixed.
    pub fn length(&self) -> Option<usize> {
        if let Self::Text { length, .. } = self { *length } else { None }
    }

    /// The inputs of a made-up sample: the same for the same `seed`, and of one shape for all.
    pub fn probe(&self, seed: u64) -> Vec<Tensor> {
        self.sample(seed, self.row()[0])
    }

    /// Made-up samples; texts have different lengths, or as much padding where the length is fixed.
    pub fn samples(&self, count: usize) -> Samples {
        let inputs = (0..count.max(1) as u64).map(|seed| self.sample(seed, TOKENS + 7 * seed as usize)).collect();
        let of = if matches!(self, Self::Text { .. }) { "random tokens" } else { "random numbers" };
        Samples { inputs, of: of.into() }
    }

    fn sample(&self, seed: u64, tokens: usize) -> Vec<Tensor> {
        match self {
            Self::Numbers(row) => vec![random_tensor(row, seed)],
            Self::Text { names, vocabulary, length, .. } => {
                let tokens = length.map_or(tokens, |length| tokens.min(length));
                let stream = Stream::new(seed, 0x766_572);
                made_up(names, &stream, *vocabulary, (tokens, length.unwrap_or(tokens)))
            }
        }
    }

    /// Ready inputs as an engine takes them: of rows of numbers.
    pub fn numbers(&self, rows: Vec<Vec<f32>>) -> Vec<Vec<Tensor>> {
        let shape: Vec<usize> = std::iter::once(1).chain(self.row().iter().copied()).collect();
        let tensor = |data| vec![Tensor { name: String::new(), shape: shape.clone(), data: Values::F32(data) }];
        rows.into_iter().map(tensor).collect()
    }
}

/// What is said of inputs that nothing is known to be made for.
fn unknown(manifest: &Manifest, inputs: &[&EngineInput]) -> Error {
    let names = one_of(inputs.iter().map(|input| input.name.as_str()));
    let word = if inputs.len() == 1 { "takes" } else { "take" };
    Error::bad_input(format!("what {names} of `{}` {word} is not known", manifest.name)).hint(
        "of a text network say which input takes what with `--input ids=NAME`, and so for `mask`, `type_ids` and `positions`",
    )
}
