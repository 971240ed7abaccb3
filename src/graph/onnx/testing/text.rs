//! Text encoders.

use super::Builder;
use crate::graph::onnx::make::{self, Size};
use crate::graph::onnx::proto::{DataType, ModelProto};

/// Words that [`tiny_text`] knows, behind the special tokens; see [`tiny_tokenizer`].
const SPECIAL: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/// An encoder `input_ids`, `attention_mask`, `token_type_ids` [batch, tokens] → `last_hidden_state`
/// [batch, tokens, 8], for a vocabulary of 32 tokens. A token's row depends on the token and on which text of a
/// pair it is of.
pub fn tiny_text() -> ModelProto {
    let mut b = Builder::new("text", 13, 4);
    let size = || vec![Size::from("N"), "T".into()];
    let [ids, mask, types] =
        ["input_ids", "attention_mask", "token_type_ids"].map(|name| b.input_of(name, DataType::Int64, size()));
    let words = b.weight("embeddings.word", &[32, 8], 0.0, 1.0);
    let kinds = b.weight("embeddings.token_type", &[2, 8], 0.0, 0.5);
    let words = b.op("Gather", &[&words, &ids], Vec::new());
    let kinds = b.op("Gather", &[&kinds, &types], Vec::new());
    let sum = b.op("Add", &[&words, &kinds], Vec::new());
    let weight = b.weight("dense.weight", &[8, 8], 0.0, 0.4);
    let dense = b.op("MatMul", &[&sum, &weight], Vec::new());
    let hidden = b.op("Tanh", &[&dense], Vec::new());
    let last = b.ints(&[-1]);
    let mask = b.op("Cast", &[&mask], vec![make::int("to", i64::from(DataType::Float as i32))]);
    let mask = b.op("Unsqueeze", &[&mask, &last], Vec::new());
    let masked = b.op("Mul", &[&hidden, &mask], Vec::new());
    b.output(&masked, "last_hidden_state", vec![Size::from("N"), "T".into(), 8.into()]);
    b.finish()
}

/// A `tokenizer.json` of at most 28 words in lower case, with BERT's special tokens around a text or a pair.
pub fn tiny_tokenizer(words: &[&str]) -> String {
    use serde_json::{Map, Value, json};
    let all = SPECIAL.iter().chain(words).enumerate();
    let vocabulary: Map<String, Value> = all.map(|(id, word)| (word.to_string(), id.into())).collect();
    let token = |name: &str, id: u32| json!({"SpecialToken": {"id": name, "type_id": id}});
    let text = |name: &str, id: u32| json!({"Sequence": {"id": name, "type_id": id}});
    let added = |name: &str| json!({"id": name, "ids": [vocabulary[name]], "tokens": [name]});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "decoder": null,
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
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
