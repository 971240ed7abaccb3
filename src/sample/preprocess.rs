//! What a recipe may say about preprocess: `auto`, or a map that replaces single steps of the backbone's own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::image::ImageSteps;
use super::text::TextSteps;
use super::transform::Transform;
use crate::base::{Error, Result};

/// Steps that replace those of a backbone's own preprocess; what is absent stays as the backbone's entry says.
/// None at all is written `auto`. Each modality has steps of its own, all in one map.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PreprocessConfig {
    /// Those of pictures.
    pub image: ImageSteps,
    /// Those of text.
    pub text: TextSteps,
}

impl PreprocessConfig {
    /// Whether nothing is replaced.
    pub fn is_auto(&self) -> bool {
        *self == Self::default()
    }

    /// A backbone's own preprocess with these steps in place of its, as far as they are of its modality.
    ///
    /// # Errors
    /// The result is impossible.
    pub fn resolve(&self, own: &Transform) -> Result<Transform> {
        match own {
            Transform::Image(own) => self.image.resolve(own).map(Transform::Image),
            Transform::Text(own) => self.text.resolve(own).map(Transform::Text),
        }
    }

    /// Steps of a modality that no backbone of a recipe has would do nothing.
    ///
    /// # Errors
    /// There are such steps.
    pub fn check_used(&self, transforms: &[&Transform]) -> Result<()> {
        let unused = |what: &str| Err(Error::bad_input(format!("has steps for {what}, which no backbone here takes")));
        let image = |transform: &&Transform| matches!(transform, Transform::Image(_));
        if self.image != ImageSteps::default() && !transforms.iter().any(image) {
            return unused("pictures");
        }
        if self.text != TextSteps::default() && transforms.iter().all(image) {
            return unused("text");
        }
        Ok(())
    }
}

const AUTO: &str = "auto";

impl Serialize for PreprocessConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        if self.is_auto() {
            return serializer.serialize_str(AUTO);
        }
        let mut all = Map::new();
        for steps in [serde_json::to_value(&self.image), serde_json::to_value(&self.text)] {
            if let Value::Object(steps) = steps.map_err(S::Error::custom)? {
                all.extend(steps);
            }
        }
        all.serialize(serializer)
    }
}

/// The keys of a modality's steps, taken out of a map.
fn take<T: DeserializeOwned + JsonSchema>(map: &mut Map<String, Value>) -> serde_json::Result<T> {
    let schema = T::json_schema(&mut SchemaGenerator::default());
    let keys = schema.get("properties").and_then(Value::as_object);
    let own = keys.into_iter().flat_map(Map::keys).filter_map(|key| map.shift_remove_entry(key)).collect();
    serde_json::from_value(Value::Object(own))
}

impl<'de> Deserialize<'de> for PreprocessConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match Value::deserialize(deserializer)? {
            Value::String(word) if word == AUTO => Ok(Self::default()),
            Value::Object(mut map) => {
                let text = take(&mut map).map_err(D::Error::custom)?;
                // What is no step at all is a picture's to complain of.
                let image = serde_json::from_value(Value::Object(map)).map_err(D::Error::custom)?;
                Ok(Self { image, text })
            }
            _ => Err(D::Error::custom("preprocess is `auto` or a map of steps")),
        }
    }
}

impl JsonSchema for PreprocessConfig {
    fn schema_name() -> Cow<'static, str> {
        "PreprocessConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut steps = ImageSteps::json_schema(generator);
        let text = TextSteps::json_schema(generator);
        if let (Some(all), Some(text)) = (
            steps.get_mut("properties").and_then(Value::as_object_mut),
            text.get("properties").and_then(Value::as_object),
        ) {
            all.extend(text.clone());
        }
        // `if` and not `anyOf`, so that a wrong key is reported as such.
        json_schema!({
            "description": "`auto` for the backbone's own preprocess, or a map of the steps to replace in it.",
            "type": ["string", "object"],
            "if": {"type": "object"},
            "then": steps,
            "else": {"const": AUTO}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::image::ImagePreprocess;
    use crate::sample::text::TextPreprocess;
    use serde_json::json;

    fn config(value: Value) -> Result<PreprocessConfig, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn steps_of_every_modality_stand_in_one_map() {
        let read = config(json!({"crop": 16, "max_tokens": 8})).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), json!({"crop": 16, "max_tokens": 8}));
        assert_eq!(serde_json::to_value(PreprocessConfig::default()).unwrap(), json!("auto"));
        assert_eq!(config(json!("auto")).unwrap(), PreprocessConfig::default());
        let (image, text) =
            (Transform::Image(ImagePreprocess::plain(32)), Transform::Text(TextPreprocess::at_most(256)));
        let Transform::Image(resolved) = read.resolve(&image).unwrap() else { panic!() };
        assert_eq!(resolved.crop, Some(16));
        assert_eq!(read.resolve(&text).unwrap(), Transform::Text(TextPreprocess::at_most(8)));
        assert!(read.check_used(&[&image, &text]).is_ok());
        assert!(read.check_used(&[&text]).unwrap_err().to_string().contains("steps for pictures"));
        assert!(read.check_used(&[&image]).unwrap_err().to_string().contains("steps for text"));
    }

    #[test]
    fn unknown_words_and_keys_are_errors() {
        assert!(config(json!("car")).unwrap_err().to_string().contains("`auto` or a map"));
        assert!(config(json!({"resise": {}})).unwrap_err().to_string().contains("unknown field `resise`"));
    }
}
