//! What a recipe may say about a picture's preprocess.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ImagePreprocess, Resize};
use crate::base::{Error, Result};

/// Which sides `resize.size` gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// The shorter side; the other keeps the proportions, rounded down, as torchvision's `Resize(size)`.
    #[default]
    Shortest,
    /// Both sides; the proportions change.
    Exact,
}

/// An interpolation filter, with Pillow's names and meanings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// The mean of the covered pixels.
    Box,
    /// A triangle of two pixels.
    #[default]
    Bilinear,
    /// A cubic of four pixels: a = −0.5 as Pillow with antialias, a = −0.75 as torch without.
    Bicubic,
    /// Lanczos' windowed sinc of six pixels.
    Lanczos,
}

/// The steps of a picture's preprocess that a recipe replaces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageSteps {
    /// Replaces keys of the resize; a backbone's entry without one needs at least `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<ResizeConfig>,
    /// Side of the square cut out of the centre; a smaller picture is padded with black.
    #[schemars(range(min = 1, max = 4096))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<u32>,
    /// What the 0…255 values are multiplied with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Subtracted per channel (red, green, blue) after scaling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f32; 3]>,
    /// Divided by per channel (red, green, blue) after subtracting the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f32; 3]>,
}

/// Keys of a resize that a recipe replaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResizeConfig {
    /// The new size in pixels of the side or sides that `mode` says.
    #[schemars(range(min = 1, max = 4096))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Which sides get that size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ResizeMode>,
    /// The interpolation filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Whether the filter widens when shrinking, as Pillow's does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub antialias: Option<bool>,
}

impl ImageSteps {
    /// The backbone's own preprocess with this recipe's steps in place of its.
    ///
    /// # Errors
    /// The result fails [`ImagePreprocess::check`], or a resize is described that has no size.
    pub fn resolve(&self, own: &ImagePreprocess) -> Result<ImagePreprocess> {
        let Self { resize, crop, scale, mean, std } = self;
        let resize = match (resize, &own.resize) {
            (None, own) => own.clone(),
            (Some(new), own) => {
                let size = new.size.or(own.as_ref().map(|own| own.size)).ok_or_else(|| {
                    Error::bad_input("data.preprocess.resize: the backbone has no resize, so `size` is needed")
                })?;
                let old = own.as_ref();
                Some(Resize {
                    size,
                    mode: new.mode.or(old.map(|old| old.mode)).unwrap_or_default(),
                    filter: new.filter.or(old.map(|old| old.filter)).unwrap_or_default(),
                    antialias: new.antialias.or(old.map(|old| old.antialias)).unwrap_or(true),
                })
            }
        };
        let resolved = ImagePreprocess {
            resize,
            crop: crop.or(own.crop),
            scale: scale.unwrap_or(own.scale),
            mean: mean.unwrap_or(own.mean),
            std: std.unwrap_or(own.std),
        };
        resolved.check()?;
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn own() -> ImagePreprocess {
        let resize = Resize { size: 256, mode: ResizeMode::Shortest, filter: Filter::Bicubic, antialias: true };
        ImagePreprocess { resize: Some(resize), crop: Some(224), scale: 1.0 / 255.0, mean: [0.5; 3], std: [0.5; 3] }
    }

    fn config(value: serde_json::Value) -> Result<ImageSteps, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn a_map_replaces_single_keys() {
        assert_eq!(config(json!({})).unwrap().resolve(&own()).unwrap(), own());
        let changed = config(json!({"resize": {"size": 248}, "mean": [0, 0.25, 1]})).unwrap();
        let resolved = changed.resolve(&own()).unwrap();
        assert_eq!(resolved.mean, [0.0, 0.25, 1.0]);
        assert_eq!(resolved.resize, Some(Resize { size: 248, ..own().resize.unwrap() }));
        assert_eq!(serde_json::to_value(&changed).unwrap(), json!({"resize": {"size": 248}, "mean": [0.0, 0.25, 1.0]}));
    }

    #[test]
    fn unknown_keys_and_impossible_sizes_are_errors() {
        assert!(config(json!({"resise": {}})).unwrap_err().to_string().contains("unknown field `resise`"));
        let bare = ImagePreprocess { resize: None, ..own() };
        assert!(config(json!({"resize": {"mode": "exact"}})).unwrap().resolve(&bare).is_err());
        assert!(config(json!({"crop": 0})).unwrap().resolve(&own()).is_err());
        assert!(config(json!({"std": [1, 0, 1]})).unwrap().resolve(&own()).is_err());
        let open = ImagePreprocess { crop: None, ..own() };
        let error = ImageSteps::default().resolve(&open).unwrap_err();
        assert!(error.hint_text().unwrap().contains("mode: exact"));
    }
}
