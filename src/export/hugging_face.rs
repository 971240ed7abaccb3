//! Hugging Face's files beside an exported model: from them optimum's ONNX pipelines load it.

use serde_json::{Map, Value, json};

use crate::graph::Task;
use crate::sample::Transform;
use crate::sample::image::{Filter, ImagePreprocess, ResizeMode};

/// The files, and what cannot be said in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// `config.json`.
    pub config: Value,
    /// `preprocessor_config.json` for pictures, `tokenizer_config.json` for texts; its name and what is in it.
    pub preprocessor: (&'static str, Value),
    /// The architecture's name at Hugging Face; without one optimum's pipelines do not load the model.
    pub model_type: Option<&'static str>,
    /// What the preprocessor's steps cannot say.
    pub notes: Vec<String>,
}

/// Hugging Face's name of a family of the catalogue, with the class that classifies pictures.
fn architecture(family: &str) -> Option<(&'static str, &'static str)> {
    let word = family.split([' ', '-']).next().unwrap_or(family);
    Some(match word {
        "ViT" => ("vit", "ViTForImageClassification"),
        "DINOv2" => ("dinov2", "Dinov2ForImageClassification"),
        "ConvNeXt" => ("convnext", "ConvNextForImageClassification"),
        "ResNet" => ("resnet", "ResNetForImageClassification"),
        "RegNet" => ("regnet", "RegNetForImageClassification"),
        "MobileViT" => ("mobilevit", "MobileViTForImageClassification"),
        "SegFormer" => ("segformer", "SegformerForImageClassification"),
        "CLIP" => ("clip", "CLIPForImageClassification"),
        _ => return None,
    })
}

/// Hugging Face's name of a text encoder, with the class that classifies texts, by a word that its family or its own
/// name has: sentence encoders are a family of several architectures.
fn text_architecture(family: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let (distilbert, roberta) = ("DistilBertForSequenceClassification", "RobertaForSequenceClassification");
    // What is a part of another word comes behind it.
    let known = [
        ("distilbert", ("distilbert", distilbert)),
        ("xlm", ("xlm-roberta", "XLMRobertaForSequenceClassification")),
        ("distilroberta", ("roberta", roberta)),
        ("roberta", ("roberta", roberta)),
        ("mpnet", ("mpnet", "MPNetForSequenceClassification")),
        ("minilm", ("bert", "BertForSequenceClassification")),
        ("bge", ("bert", "BertForSequenceClassification")),
        ("gte", ("bert", "BertForSequenceClassification")),
        ("e5", ("bert", "BertForSequenceClassification")),
        ("bert", ("bert", "BertForSequenceClassification")),
    ];
    let has = |text: &str, word: &str| {
        let text = text.to_ascii_lowercase();
        text.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == word)
    };
    let of = |text: &str| known.iter().find(|(word, _)| has(text, word)).map(|(_, architecture)| *architecture);
    of(family).or_else(|| of(name))
}

/// The files for a model of such outputs above a backbone of the catalogue (its family and its name), with the names of
/// the classes, labels or values. For texts the contents of
/// `tokenizer.json`, which belongs beside them, say how short texts are padded.
pub fn files(
    backbone: Option<(&str, &str)>,
    (classes, task): (&[String], Task),
    transform: &Transform,
    tokenizer: Option<&str>,
) -> Files {
    // The pipelines that load an architecture are those of classification.
    let backbone = backbone.filter(|_| task != Task::Embedding);
    let family = backbone.map(|(family, _)| family);
    match transform {
        Transform::Image(steps) => {
            let mut config = config((classes, task), family.and_then(architecture));
            config["image_size"] = json!(steps.output_shape()[1]);
            config["num_channels"] = json!(3);
            let (preprocessor, notes) = preprocessor(steps);
            let model_type = family.and_then(architecture).map(|(model_type, _)| model_type);
            Files { config, preprocessor: ("preprocessor_config.json", preprocessor), model_type, notes }
        }
        Transform::Text(steps) => {
            let architecture = backbone.and_then(|(family, name)| text_architecture(family, name));
            let mut notes = Vec::new();
            let padding = tokenizer.and_then(padding_token);
            let mut tokenizer =
                json!({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": steps.max_tokens});
            match padding {
                Some(token) => tokenizer["pad_token"] = json!(token),
                None => notes.push("the tokenizer names no padding; pipelines take one text at a time".into()),
            }
            Files {
                config: config((classes, task), architecture),
                preprocessor: ("tokenizer_config.json", tokenizer),
                model_type: architecture.map(|(model_type, _)| model_type),
                notes,
            }
        }
    }
}

/// The token that a `tokenizer.json` pads with: the one it says, or one of the usual names.
fn padding_token(tokenizer: &str) -> Option<String> {
    let tokenizer: Value = serde_json::from_str(tokenizer).ok()?;
    if let Some(token) = tokenizer["padding"]["pad_token"].as_str() {
        return Some(token.into());
    }
    let vocabulary = &tokenizer["model"]["vocab"];
    let added = |token: &str| tokenizer["added_tokens"].as_array()?.iter().find(|added| added["content"] == token);
    let known = |token: &&str| vocabulary.get(*token).is_some() || added(token).is_some();
    ["[PAD]", "<pad>", "<|endoftext|>"].into_iter().find(known).map(String::from)
}

fn config((classes, task): (&[String], Task), architecture: Option<(&'static str, &'static str)>) -> Value {
    let ids: Map<String, Value> = classes.iter().enumerate().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let labels: Map<String, Value> = classes.iter().enumerate().map(|(i, name)| (name.clone(), json!(i))).collect();
    let mut config = json!({
        "id2label": ids,
        "label2id": labels,
    });
    let problem = match task {
        Task::Classes => Some("single_label_classification"),
        Task::MultiLabel => Some("multi_label_classification"),
        Task::Values => Some("regression"),
        Task::Embedding => None,
    };
    if let Some(problem) = problem {
        config["problem_type"] = json!(problem);
    }
    if let Some((model_type, class)) = architecture {
        config["model_type"] = json!(model_type);
        config["architectures"] = json!([class]);
    }
    config
}

/// `preprocessor_config.json`: `BitImageProcessor` resizes the shorter side and crops, `ViTImageProcessor` resizes
/// both sides.
fn preprocessor(steps: &ImagePreprocess) -> (Value, Vec<String>) {
    let mut notes = Vec::new();
    let exact = steps.resize.as_ref().is_none_or(|resize| resize.mode == ResizeMode::Exact) && steps.crop.is_none();
    let mut config = json!({
        "image_processor_type": if exact { "ViTImageProcessor" } else { "BitImageProcessor" },
        "do_resize": steps.resize.is_some(),
        "do_rescale": true,
        "rescale_factor": shortest(steps.scale),
        "do_normalize": true,
        "image_mean": steps.mean.map(shortest),
        "image_std": steps.std.map(shortest),
        "do_convert_rgb": true,
    });
    if let Some(resize) = &steps.resize {
        config["resample"] = json!(match resize.filter {
            Filter::Nearest => 0,
            Filter::Lanczos => 1,
            Filter::Bilinear => 2,
            Filter::Bicubic => 3,
            Filter::Box => 4,
        });
        config["size"] = match resize.mode {
            ResizeMode::Exact => json!({"height": resize.size, "width": resize.size}),
            ResizeMode::Shortest => json!({"shortest_edge": resize.size}),
        };
        if resize.mode == ResizeMode::Exact && !exact {
            notes.push("`preprocessor_config.json` cannot say an exact resize before a crop".into());
        }
        if !resize.antialias && resize.filter != Filter::Nearest {
            notes.push("the network's resize has no antialias, which Hugging Face's processors cannot do".into());
        }
    }
    if !exact {
        let side = steps.output_shape()[1];
        config["do_center_crop"] = json!(steps.crop.is_some());
        config["crop_size"] = json!({"height": side, "width": side});
    }
    (config, notes)
}

/// The f64 with the fewest digits that is this f32: 0.485 and not 0.48500001430511475.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::image::Resize;
    use crate::sample::text::TextPreprocess;

    #[test]
    fn steps_are_said_in_hugging_faces_words() {
        let resize = Resize { size: 256, mode: ResizeMode::Shortest, filter: Filter::Bicubic, antialias: true };
        let steps = ImagePreprocess {
            resize: Some(resize.clone()),
            crop: Some(224),
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        };
        let names = ["cat".to_string(), "dog".into()];
        let made = files(Some(("DINOv2", "dinov2")), (&names, Task::Classes), &Transform::Image(steps.clone()), None);
        assert_eq!(made.config["id2label"], json!({"0": "cat", "1": "dog"}));
        assert_eq!((made.model_type, made.config["model_type"].as_str()), (Some("dinov2"), Some("dinov2")));
        assert_eq!(made.preprocessor.1["image_mean"], json!([0.485, 0.456, 0.406]));
        assert_eq!(made.preprocessor.1["size"], json!({"shortest_edge": 256}));
        assert_eq!(made.preprocessor.1["crop_size"], json!({"height": 224, "width": 224}));
        assert_eq!(made.preprocessor.1["resample"], 3);
        let exact = Resize { size: 28, mode: ResizeMode::Exact, antialias: false, ..resize };
        let steps = ImagePreprocess { resize: Some(exact), crop: None, ..steps };
        let made = files(
            Some(("EfficientNet-Lite", "efficientnet_lite")),
            (&[], Task::Values),
            &Transform::Image(steps),
            None,
        );
        assert_eq!(made.model_type, None);
        assert_eq!(made.preprocessor.1["size"], json!({"height": 28, "width": 28}));
        assert_eq!(made.notes.len(), 1);
        assert_eq!(made.config["problem_type"], "regression");
        let text = Transform::Text(TextPreprocess::at_most(8));
        let tokenizer = r#"{"padding": null, "model": {"vocab": {"[PAD]": 0}}}"#;
        let made =
            files(Some(("sentence encoders", "minilm_l6_int8")), (&names, Task::MultiLabel), &text, Some(tokenizer));
        assert_eq!((made.model_type, made.notes.len()), (Some("bert"), 0));
        let named = |family, name| text_architecture(family, name).map(|(model_type, _)| model_type);
        assert_eq!(named("sentence encoders", "msmarco_distilbert_base_v4"), Some("distilbert"));
        assert_eq!((named("XLM-R", "xlm_roberta_base"), named("RoBERTa", "x")), (Some("xlm-roberta"), Some("roberta")));
        assert_eq!((named("BERT", "x"), named("sentence encoders", "robertable")), (Some("bert"), None));
        assert_eq!(made.preprocessor.1["pad_token"], "[PAD]");
        let made = files(Some(("MiniLM-L6", "minilm_l6")), (&names, Task::Embedding), &text, None);
        assert_eq!((made.model_type, made.notes.len()), (None, 1));
    }
}
