//! Batches of texts of one length.

use super::encoder::{Encoder, Tokens};
use super::{TextInput, TextInputs};
use crate::base::random::Stream;
use crate::base::{Digest, Error, Result};
use crate::sample::pipeline::{Batch, Flow, Item, Options, in_parallel, unit_digest, with_origin};
use crate::sample::tensor::{Tensor, Values};

/// Texts that are encoded and sorted by their length at once: many, so that batches of one length are full.
const WINDOW: usize = 1 << 14;

/// As [`crate::sample::pipeline::flow`], but within each window of items in the order of their lengths.
pub fn flow<'a>(flow: &mut impl Flow<'a>, encoder: &Encoder, options: &Options<'_>) -> Result<()> {
    while let Some(items) = flow.items()? {
        items.chunks(WINDOW).try_for_each(|window| self::window(window, flow, encoder, options))?;
    }
    Ok(())
}

fn window<'a>(window: &[Item<'a>], flow: &mut impl Flow<'a>, encoder: &Encoder, options: &Options<'_>) -> Result<()> {
    let encoded = in_parallel(window, options.threads, options.cancel, |item, buffer| {
        encode(item, encoder, buffer).map_err(|error| with_origin(error, item))
    })?;
    let (mut good, mut failed) = (Vec::with_capacity(window.len()), Vec::new());
    for (item, encoded) in window.iter().zip(encoded) {
        match encoded {
            Ok((digest, tokens)) => good.push((item.index, digest, tokens)),
            Err(error) if options.skip_bad => failed.push((item.index, error)),
            Err(error) => return Err(error),
        }
    }
    if !failed.is_empty() {
        flow.take(Batch { indices: Vec::new(), digests: Vec::new(), inputs: Vec::new(), failed })?;
    }
    // The longest first, so that memory is short early or never.
    good.sort_by_key(|(_, _, tokens)| std::cmp::Reverse(tokens.ids.len()));
    for same in good.chunk_by(|a, b| a.2.ids.len() == b.2.ids.len()) {
        for chunk in same.chunks(options.batch_size.max(1)) {
            options.cancel.check()?;
            let inputs = tensors(chunk.iter().map(|(_, _, tokens)| tokens), &encoder.steps().inputs);
            flow.take(Batch {
                indices: chunk.iter().map(|(index, _, _)| *index).collect(),
                digests: chunk.iter().map(|(_, digest, _)| *digest).collect(),
                inputs,
                failed: Vec::new(),
            })?;
        }
    }
    Ok(())
}

fn encode(item: &Item<'_>, encoder: &Encoder, buffer: &mut Vec<u8>) -> Result<(Digest, Tokens)> {
    let mut second = Vec::new();
    let (text, pair) = match item.samples {
        [text] => (text, None),
        [text, pair] => (text, Some(pair)),
        others => return Err(Error::failed(format!("{} texts, where one or a pair is encoded", others.len()))),
    };
    text.read(buffer)?;
    if let Some(pair) = pair {
        pair.read(&mut second)?;
    }
    let digests: Vec<Digest> =
        std::iter::once(text.digest(buffer)).chain(pair.map(|pair| pair.digest(&second))).collect();
    Ok((unit_digest(&digests), encoder.encode(buffer, pair.map(|_| second.as_slice()))?))
}

/// The inputs of texts of one length.
fn tensors<'a>(texts: impl Iterator<Item = &'a Tokens>, names: &TextInputs) -> Vec<Tensor> {
    let (mut ids, mut mask, mut type_ids, mut positions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut count, mut length) = (0, 0);
    for tokens in texts {
        (count, length) = (count + 1, tokens.ids.len());
        ids.extend_from_slice(&tokens.ids);
        type_ids.extend_from_slice(&tokens.type_ids);
        mask.extend((0..length).map(|at| i64::from(at < tokens.real)));
        positions.extend(0..length as i64);
    }
    let values = [ids, mask, type_ids, positions];
    let tensor = |(input, values): (TextInput, Vec<i64>)| Tensor {
        name: names.of(input).into(),
        shape: vec![count, length],
        data: Values::I64(values),
    };
    TextInput::ALL.into_iter().zip(values).map(tensor).collect()
}

/// The inputs of a text by itself.
///
/// # Errors
/// Those of the encoder.
pub fn inputs_of(encoder: &Encoder, text: &str) -> Result<Vec<Tensor>> {
    let tokens = encoder.encode(text.as_bytes(), None)?;
    Ok(tensors(std::iter::once(&tokens), &encoder.steps().inputs))
}

/// The inputs of a made-up text of so many tokens, or of the fixed number.
pub fn probe(encoder: &Encoder, stream: &Stream, tokens: usize) -> Vec<Tensor> {
    let length = encoder.steps().pad_to.map_or(tokens, |length| length as usize);
    made_up(&encoder.steps().inputs, stream, encoder.vocabulary(), (length, length))
}

/// The inputs of a made-up text of `length` tokens of a vocabulary, of which those behind the first `real` are padding.
pub fn made_up(names: &TextInputs, stream: &Stream, vocabulary: usize, (real, length): (usize, usize)) -> Vec<Tensor> {
    let id = |at: u64| if at < real as u64 { stream.below(at, vocabulary.max(1) as u64) as i64 } else { 0 };
    let tokens = Tokens { ids: (0..length as u64).map(id).collect(), type_ids: vec![0; length], real };
    tensors(std::iter::once(&tokens), names)
}
