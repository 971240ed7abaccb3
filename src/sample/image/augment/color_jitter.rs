//! Random brightness, contrast, saturation and hue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Draw, Pixels, colour};
use crate::base::{Error, Result};

/// Changes brightness, contrast, saturation and hue by random factors, in random order (torchvision's
/// `ColorJitter`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// The factor of brightness is drawn from 1 ± this, but not below 0.
    #[schemars(range(min = 0.0))]
    pub brightness: f64,
    /// The factor of contrast is drawn from 1 ± this, but not below 0.
    #[schemars(range(min = 0.0))]
    pub contrast: f64,
    /// The factor of saturation is drawn from 1 ± this, but not below 0.
    #[schemars(range(min = 0.0))]
    pub saturation: f64,
    /// The turn of the hue is drawn from 0 ± this; 0.5 is half the circle.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub hue: f64,
}

impl ColorJitter {
    pub(super) fn check(&self) -> Result<()> {
        let Self { brightness, contrast, saturation, hue } = self;
        let sound = [brightness, contrast, saturation, hue].iter().all(|value| value.is_finite() && **value >= 0.0);
        if !sound || *hue > 0.5 {
            return Err(Error::bad_input("its strengths are 0 or more, and `hue` at most 0.5"));
        }
        Ok(())
    }

    pub(super) fn apply(&self, mut draw: Draw, pixels: &mut Pixels) {
        let mut order = [0, 1, 2, 3];
        for last in (1..order.len()).rev() {
            order.swap(last, draw.below(last + 1));
        }
        let mut factor = |strength: f64| draw.uniform((1.0 - strength).max(0.0), 1.0 + strength);
        let (brightness, contrast, saturation) =
            (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let hue = draw.uniform(-self.hue, self.hue);
        for change in order {
            match change {
                0 if self.brightness > 0.0 => colour::brightness(pixels, brightness),
                1 if self.contrast > 0.0 => colour::contrast(pixels, contrast),
                2 if self.saturation > 0.0 => colour::saturation(pixels, saturation),
                3 if self.hue > 0.0 => colour::hue(pixels, hue),
                _ => {}
            }
        }
    }
}
