//! How samples become network inputs, whatever their modality. A new modality is a folder beside `image/` and
//! `text/`, a variant of [`Transform`] and one of [`Ready`].

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::Modality;
use super::image::augment::Augment;
use super::image::{ImagePreprocess, PIXELS_VERSION};
use super::tensor::{Tensor, Values};
use super::text::{self, Encoder, TOKENS_VERSION, TextPreprocess};
use crate::base::random::Stream;
use crate::base::{Digest, Error, Result};

/// How a network's input is made of a sample, with every step filled in. Its keys say which modality it is for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Transform {
    /// Of a picture.
    Image(ImagePreprocess),
    /// Of a text.
    Text(TextPreprocess),
}

impl Transform {
    /// What it takes.
    pub fn modality(&self) -> Modality {
        match self {
            Self::Image(_) => Modality::Image,
            Self::Text(_) => Modality::Text,
        }
    }

    /// The steps, if it is for pictures.
    pub fn image(&self) -> Option<&ImagePreprocess> {
        if let Self::Image(steps) = self { Some(steps) } else { None }
    }

    /// The steps, if it is for texts.
    pub fn text(&self) -> Option<&TextPreprocess> {
        if let Self::Text(steps) = self { Some(steps) } else { None }
    }

    /// What serde and the schema cannot see.
    ///
    /// # Errors
    /// Those of the modality's own check.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Image(steps) => steps.check(),
            Self::Text(steps) => steps.check(),
        }
    }

    /// What it adds to the key of stored activations, given its tokenizer's digest if it has one.
    pub fn key(&self, tokenizer: Option<Digest>) -> Value {
        match self {
            Self::Image(steps) => json!({"image": steps, "pixels_version": PIXELS_VERSION}),
            Self::Text(steps) => json!({"text": steps, "tokenizer": tokenizer, "tokens_version": TOKENS_VERSION}),
        }
    }

    /// Ready to work, with the file of a tokenizer where it needs one.
    ///
    /// # Errors
    /// The steps are impossible; the tokenizer is missing or cannot be read.
    pub fn ready(&self, tokenizer: Option<&Path>) -> Result<Ready> {
        match (self, tokenizer) {
            (Self::Image(steps), _) => {
                steps.check()?;
                Ok(Ready::Image(steps.clone()))
            }
            (Self::Text(steps), Some(path)) => Encoder::open(path, steps).map(Ready::Text),
            (Self::Text(_), None) => Err(Error::bad_input("text needs a tokenizer")),
        }
    }
}

impl<'de> Deserialize<'de> for Transform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = Value::deserialize(deserializer)?;
        let is_text = value.get(TEXT_KEY).is_some();
        let read = if is_text {
            serde_json::from_value(value).map(Self::Text)
        } else {
            serde_json::from_value(value).map(Self::Image)
        };
        read.map_err(D::Error::custom)
    }
}

/// The key that every text's steps have, and no picture's.
const TEXT_KEY: &str = "max_tokens";

impl JsonSchema for Transform {
    fn schema_name() -> Cow<'static, str> {
        "Transform".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (image, text) = (generator.subschema_for::<ImagePreprocess>(), generator.subschema_for::<TextPreprocess>());
        json_schema!({
            "description": "How a network's input is made of a sample: of a text if there is `max_tokens`, else of a picture.",
            "type": "object",
            "if": {"required": [TEXT_KEY]},
            "then": text,
            "else": image,
        })
    }
}

/// A transform with the files it needs.
#[derive(Clone)]
pub enum Ready {
    /// For pictures.
    Image(ImagePreprocess),
    /// For one view of each picture, by its number.
    View(ImagePreprocess, Augment, u32),
    /// For texts.
    Text(Encoder),
}

/// How many tokens a made-up text has, by its number.
const PROBE_TOKENS: [usize; 2] = [11, 7];

impl Ready {
    /// The inputs of one made-up sample: the same for the same `seed`, of another size for another `size` where
    /// sizes vary.
    pub fn probe(&self, seed: u64, size: usize) -> Vec<Tensor> {
        let stream = Stream::new(seed, 0x766_572);
        match self {
            Self::Image(steps) | Self::View(steps, ..) => {
                let [channels, height, width] = steps.output_shape();
                let values = (0..(channels * height * width) as u64).map(|i| stream.normal(i)).collect();
                let shape = vec![1, channels, height, width];
                vec![Tensor { name: String::new(), shape, data: Values::F32(values) }]
            }
            Self::Text(encoder) => text::probe(encoder, &stream, PROBE_TOKENS[size % PROBE_TOKENS.len()]),
        }
    }

    /// The same for a view of each sample; `None` for what has no views.
    pub fn view(&self, augment: &Augment, number: u32) -> Option<Self> {
        match self {
            Self::Image(steps) | Self::View(steps, ..) => Some(Self::View(steps.clone(), augment.clone(), number)),
            Self::Text(_) => None,
        }
    }

    /// Whether samples have inputs of different sizes.
    pub fn varies(&self) -> bool {
        matches!(self, Self::Text(encoder) if encoder.steps().pad_to.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_say_what_a_transform_is_for() {
        let back = |transform: &Transform| {
            let value = serde_json::to_value(transform).unwrap();
            serde_json::from_value::<Transform>(value).unwrap() == *transform
        };
        let (image, text) = (Transform::Image(ImagePreprocess::plain(8)), Transform::Text(TextPreprocess::at_most(8)));
        assert!(back(&image) && back(&text));
        assert_eq!((image.modality(), text.modality()), (Modality::Image, Modality::Text));
        assert_ne!(text.key(Some(Digest::of(b"a"))), text.key(Some(Digest::of(b"b"))));
        assert!(text.ready(None).err().unwrap().to_string().contains("needs a tokenizer"));
        let wrong = serde_json::from_value::<Transform>(json!({"max_tokens": 8, "crop": 8})).unwrap_err();
        assert!(wrong.to_string().contains("unknown field `crop`"), "{wrong}");
    }

    #[test]
    fn probes_are_the_same_for_a_seed() {
        let ready = Transform::Image(ImagePreprocess::plain(4)).ready(None).unwrap();
        assert_eq!(ready.probe(1, 0), ready.probe(1, 1));
        assert_ne!(ready.probe(1, 0), ready.probe(2, 0));
        assert_eq!(ready.probe(1, 0)[0].shape, [1, 3, 4, 4]);
    }
}
