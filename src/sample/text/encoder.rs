//! From text to token ids, with a `tokenizer.json`.

use std::path::Path;
use std::sync::Arc;

use tokenizers::{EncodeInput, PaddingParams, Tokenizer, TruncationParams};

use super::TextPreprocess;
use crate::base::{Error, Result};

/// A larger file is no tokenizer.
const LARGEST: u64 = 256 << 20;

/// A tokenizer with the steps around it.
#[derive(Clone)]
pub struct Encoder {
    tokenizer: Arc<Tokenizer>,
    steps: TextPreprocess,
    pad_id: i64,
}

/// The tokens of one sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The ids.
    pub ids: Vec<i64>,
    /// Which text of a pair each is of.
    pub type_ids: Vec<i64>,
    /// How many of them are not padding.
    pub real: usize,
}

impl Encoder {
    /// Reads a tokenizer's file. What it says of truncation and padding is replaced by `steps`.
    ///
    /// # Errors
    /// The file is missing, too large or no tokenizer; the steps are impossible.
    pub fn open(path: &Path, steps: &TextPreprocess) -> Result<Self> {
        steps.check()?;
        let size = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        let shown = path.display();
        if size > LARGEST {
            return Err(Error::bad_input(format!("`{shown}` has {size} bytes, more than a tokenizer has")));
        }
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let bad =
            |cause| Error::bad_input(format!("`{shown}` is not a `tokenizer.json` that can be read")).because(cause);
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|cause: tokenizers::Error| bad(cause.to_string()))?;
        let pad_id = match tokenizer.get_padding() {
            Some(PaddingParams { pad_id, .. }) => i64::from(*pad_id),
            None => ["[PAD]", "<pad>"].iter().find_map(|pad| tokenizer.token_to_id(pad)).map_or(0, i64::from),
        };
        let added = if steps.special_tokens { tokenizer.get_post_processor().map_or(0, added) } else { 0 };
        let most = steps.max_tokens as usize;
        if most <= added {
            let what = format!("preprocess.max_tokens: {most} leaves no room beside {added} special tokens");
            return Err(Error::bad_input(what));
        }
        let truncation = TruncationParams { max_length: most, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|cause| bad(cause.to_string()))?.with_padding(None);
        Ok(Self { tokenizer: Arc::new(tokenizer), steps: steps.clone(), pad_id })
    }

    /// The steps around the tokenizer.
    pub fn steps(&self) -> &TextPreprocess {
        &self.steps
    }

    /// How many different tokens there are.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The tokens of a text, or of a pair.
    ///
    /// # Errors
    /// A text is not UTF-8; the tokenizer cannot encode it; nothing is left of it.
    pub fn encode(&self, text: &[u8], second: Option<&[u8]>) -> Result<Tokens> {
        let first = utf8(text)?;
        let input = match second {
            Some(second) => EncodeInput::Dual(first.into(), utf8(second)?.into()),
            None => EncodeInput::Single(first.into()),
        };
        let encoded = self
            .tokenizer
            .encode_fast(input, self.steps.special_tokens)
            .map_err(|cause| Error::bad_input("the tokenizer cannot encode the text").because(cause.to_string()))?;
        let wide = |ids: &[u32]| ids.iter().map(|id| i64::from(*id)).collect::<Vec<i64>>();
        let (mut ids, mut type_ids) = (wide(encoded.get_ids()), wide(encoded.get_type_ids()));
        if ids.is_empty() {
            return Err(Error::bad_input("the text has no tokens"));
        }
        let real = ids.len();
        if let Some(length) = self.steps.pad_to {
            ids.resize(length as usize, self.pad_id);
            type_ids.resize(length as usize, 0);
        }
        Ok(Tokens { ids, type_ids, real })
    }
}

/// The special tokens of the longer of a single text and a pair.
fn added(processor: &tokenizers::PostProcessorWrapper) -> usize {
    use tokenizers::PostProcessor;
    processor.added_tokens(false).max(processor.added_tokens(true))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|error| Error::bad_input(format!("the text is not UTF-8 at byte {}", error.valid_up_to())))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// Words with BERT's special tokens around them.
    pub fn tokenizer(words: &[&str]) -> String {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            special.iter().chain(words).enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
        let token = |name: &str, id: u32| json!({"SpecialToken": {"id": name, "type_id": id}});
        let text = |name: &str, id: u32| json!({"Sequence": {"id": name, "type_id": id}});
        let added = |name: &str| json!({"id": name, "ids": [vocabulary[name]], "tokens": [name]});
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)],
                "pair": [token("[CLS]", 0), text("A", 0), token("[SEP]", 0), text("B", 1), token("[SEP]", 1)],
                "special_tokens": {"[CLS]": added("[CLS]"), "[SEP]": added("[SEP]")}
            },
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
        })
        .to_string()
    }

    fn encoder(steps: &TextPreprocess) -> Result<Encoder> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, tokenizer(&["good", "bad", "film"])).unwrap();
        Encoder::open(&path, steps)
    }

    #[test]
    fn texts_and_pairs_become_ids() {
        let encoder = encoder(&TextPreprocess::at_most(16)).unwrap();
        let tokens = encoder.encode(b"Good film", None).unwrap();
        assert_eq!((tokens.ids.as_slice(), tokens.real), (&[2, 4, 6, 3][..], 4));
        let pair = encoder.encode(b"good", Some(b"bad movie")).unwrap();
        assert_eq!(pair.ids, [2, 4, 3, 5, 1, 3]);
        assert_eq!(pair.type_ids, [0, 0, 0, 1, 1, 1]);
        assert_eq!(encoder.vocabulary(), 7);
        let error = encoder.encode(b"a\xff", None).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("the text is not UTF-8 at byte 1", 2));
    }

    #[test]
    fn long_texts_are_cut_and_short_ones_padded_only_to_a_fixed_length() {
        let short = encoder(&TextPreprocess::at_most(4)).unwrap();
        assert_eq!(short.encode(b"good good good good", None).unwrap().ids, [2, 4, 4, 3]);
        let padded = encoder(&TextPreprocess { pad_to: Some(6), ..TextPreprocess::at_most(6) }).unwrap();
        let tokens = padded.encode(b"good", None).unwrap();
        assert_eq!((tokens.ids.as_slice(), tokens.real), (&[2, 4, 3, 0, 0, 0][..], 3));
        let bare = encoder(&TextPreprocess { special_tokens: false, ..TextPreprocess::at_most(4) }).unwrap();
        assert_eq!(bare.encode(b"bad", None).unwrap().ids, [5]);
        assert!(bare.encode(b" ", None).unwrap_err().to_string().contains("no tokens"));
        assert!(encoder(&TextPreprocess::at_most(3)).err().unwrap().to_string().contains("leaves no room"));
    }

    #[test]
    fn what_is_no_tokenizer_is_a_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.json");
        std::fs::write(&path, b"{}").unwrap();
        let error = Encoder::open(&path, &TextPreprocess::at_most(8)).err().unwrap();
        assert!(error.to_string().ends_with("t.json` is not a `tokenizer.json` that can be read"), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(Encoder::open(&folder.path().join("none"), &TextPreprocess::at_most(8)).is_err());
    }
}
