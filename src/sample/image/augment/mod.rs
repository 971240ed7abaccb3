//! Augmentation: seeded changes to pictures, with torchvision's names, defaults and meanings.
//!
//! A view of a picture is a pure function of (augment seed, digest of the sample, number of the view): its random
//! numbers are counter-based, so that nothing else decides what is drawn. View 0 is the plain picture. Where the ops
//! hold a [`RandomResizedCrop`] it stands for the resize and the crop of the preprocess; otherwise those come
//! first. Ops work on 8-bit pixels as torchvision's do on `uint8` tensors; [`RandomErasing`] works on the
//! normalised input, as in torchvision's references.

mod affine;
mod automatic;
mod color_jitter;
mod colour;
mod flip;
mod gaussian_blur;
mod rand_augment;
mod random_erasing;
mod random_resized_crop;
mod rotation;
mod trivial_augment;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use color_jitter::ColorJitter;
pub use flip::{HorizontalFlip, VerticalFlip};
pub use gaussian_blur::GaussianBlur;
pub use rand_augment::RandAugment;
pub use random_erasing::{Fill, RandomErasing};
pub use random_resized_crop::{CropBox, RandomResizedCrop};
pub use rotation::{Interpolation, Rotation};
pub use trivial_augment::TrivialAugment;

use super::decode::Pixels;
use crate::base::random::Stream;
use crate::base::{Digest, Error, KeyWriter, Result};

/// A number in the key of every stored view: it goes up when the same ops and seed give other pixels.
pub const AUGMENT_VERSION: u32 = 1;

/// The most views of one sample.
pub const MAX_VIEWS: u32 = 1000;

/// Stored variants of the training samples. Validation and test samples stay plain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// How many views of each training sample are stored, the plain one included. Every epoch draws one.
    #[schemars(range(min = 1, max = 1000))]
    pub views: u32,
    /// What is done to the views but the first, in order.
    pub ops: Vec<AugmentOp>,
    /// Seed of the views; the recipe's top `seed` if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self { views: 1, ops: Vec::new(), seed: None }
    }
}

/// One change to a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AugmentOp {
    /// A part of the picture, of random size, place and proportions, resized to the network's input.
    RandomResizedCrop(RandomResizedCrop),
    /// Left becomes right.
    HorizontalFlip(HorizontalFlip),
    /// Top becomes bottom.
    VerticalFlip(VerticalFlip),
    /// Brightness, contrast, saturation and hue, in random order.
    ColorJitter(ColorJitter),
    /// A turn around the centre.
    Rotation(Rotation),
    /// A blur of random strength.
    GaussianBlur(GaussianBlur),
    /// A rectangle is overwritten.
    RandomErasing(RandomErasing),
    /// Some random changes of one strength (Cubuk et al., 2020).
    RandAugment(RandAugment),
    /// One random change of random strength (Müller and Hutter, 2021).
    TrivialAugment(TrivialAugment),
}

impl AugmentConfig {
    /// What the schema cannot see: each problem with the key below `augment` that it is about.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if self.views > 1 && self.ops.is_empty() {
            problems.push(("ops".into(), "several views without ops would all be the plain one".into()));
        }
        if self.views == 0 || self.views > MAX_VIEWS {
            problems.push(("views".into(), format!("{} is not between 1 and {MAX_VIEWS}", self.views)));
        }
        let crops = |op: &&AugmentOp| matches!(op, AugmentOp::RandomResizedCrop(_));
        if self.ops.iter().filter(crops).count() > 1 {
            problems
                .push(("ops".into(), "`random_resized_crop` stands for the resize, so it can be there once".into()));
        }
        for (at, op) in self.ops.iter().enumerate() {
            if let Err(error) = op.check() {
                problems.push((format!("ops[{at}]"), error.to_string()));
            }
        }
        problems
    }

    /// Whether views are stored at all.
    pub fn is_used(&self) -> bool {
        self.views > 1
    }
}

impl AugmentOp {
    fn check(&self) -> Result<()> {
        match self {
            Self::RandomResizedCrop(op) => op.check(),
            Self::HorizontalFlip(op) => probability(op.p),
            Self::VerticalFlip(op) => probability(op.p),
            Self::ColorJitter(op) => op.check(),
            Self::Rotation(op) => op.check(),
            Self::GaussianBlur(op) => op.check(),
            Self::RandomErasing(op) => op.check(),
            Self::RandAugment(op) => op.check(),
            Self::TrivialAugment(op) => op.check(),
        }
    }
}

/// The ops with their seed: what a view is made with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Augment {
    /// The changes, in order.
    pub ops: Vec<AugmentOp>,
    /// The seed of the views.
    pub seed: u64,
}

/// The digest under which the activations of a view are stored; that of view 0 is the sample's own.
pub fn view_digest(sample: &Digest, number: u32) -> Digest {
    match number {
        0 => *sample,
        _ => KeyWriter::new("view").field("sample", sample.0).field("number", number.to_le_bytes()).finish(),
    }
}

/// One view, about to be made.
pub struct View<'a> {
    augment: &'a Augment,
    stream: Stream,
    /// Whether pixels are classes, which are moved and never mixed or coloured.
    is_of_classes: bool,
}

impl Augment {
    /// The view of a sample; `number` is from 1, for view 0 is the plain picture.
    pub fn view(&self, sample: &Digest, number: u32) -> View<'_> {
        View {
            augment: self,
            stream: Stream::named(self.seed, &format!("augment/{sample}/{number}")),
            is_of_classes: false,
        }
    }

    /// Whether an op stands for the resize and the crop of the preprocess.
    pub fn crops(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, AugmentOp::RandomResizedCrop(_)))
    }
}

impl View<'_> {
    /// The same view of a picture whose pixels are classes: what moves pixels moves them alike, by the nearest pixel and
    /// with 0 from outside; all else leaves them. A rectangle that is overwritten keeps its classes.
    #[must_use]
    pub fn of_classes(self) -> Self {
        Self { is_of_classes: true, ..self }
    }

    /// See [`Augment::crops`].
    pub fn crops(&self) -> bool {
        self.augment.crops()
    }

    /// Changes a picture. Where the ops [crop](Augment::crops) it comes as it was decoded and leaves with `size`
    /// (width, height); otherwise it has that size already.
    ///
    /// # Errors
    /// The picture cannot be resized.
    pub fn change(&self, pixels: &mut Pixels, size: (u32, u32)) -> Result<()> {
        for (draw, op) in self.drawn() {
            match op {
                AugmentOp::RandomResizedCrop(op) => op.apply(draw, pixels, size, self.is_of_classes)?,
                AugmentOp::HorizontalFlip(op) => op.apply(draw, pixels),
                AugmentOp::VerticalFlip(op) => op.apply(draw, pixels),
                AugmentOp::Rotation(op) => op.apply(draw, pixels, self.is_of_classes),
                AugmentOp::RandAugment(op) => op.apply(draw, pixels, self.is_of_classes),
                AugmentOp::TrivialAugment(op) => op.apply(draw, pixels, self.is_of_classes),
                AugmentOp::ColorJitter(_) | AugmentOp::GaussianBlur(_) if self.is_of_classes => {}
                AugmentOp::ColorJitter(op) => op.apply(draw, pixels),
                AugmentOp::GaussianBlur(op) => op.apply(draw, pixels),
                AugmentOp::RandomErasing(_) => {}
            }
        }
        Ok(())
    }

    /// Changes a normalised input `[3, height, width]`.
    pub fn erase(&self, input: &mut [f32], (width, height): (usize, usize)) {
        for (draw, op) in self.drawn() {
            if let AugmentOp::RandomErasing(op) = op {
                op.apply(draw, input, (width, height));
            }
        }
    }

    /// Each op with random numbers of its own.
    fn drawn(&self) -> impl Iterator<Item = (Draw, &AugmentOp)> {
        let draw = |op: usize| Draw { stream: self.stream, next: (op as u64) << 40 };
        self.augment.ops.iter().enumerate().map(move |(at, op)| (draw(at), op))
    }
}

/// The random numbers of one op, one after the other.
struct Draw {
    stream: Stream,
    next: u64,
}

impl Draw {
    fn index(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Evenly from `low` up to `high`.
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let index = self.index();
        low + (high - low) * (self.stream.u64(index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    fn happens(&mut self, p: f64) -> bool {
        self.uniform(0.0, 1.0) < p
    }

    /// A whole number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        let index = self.index();
        self.stream.below(index, bound as u64) as usize
    }

    fn normal(&mut self) -> f32 {
        let index = self.index();
        self.stream.normal(index)
    }
}

fn probability(p: f64) -> Result<()> {
    if (0.0..=1.0).contains(&p) { Ok(()) } else { Err(Error::bad_input(format!("`p` is {p}, not from 0 to 1"))) }
}

/// `low` to `high` of some key, both above `above` or equal to it.
fn range(name: &str, [low, high]: [f64; 2], above: f64) -> Result<()> {
    if low.is_finite() && high.is_finite() && low >= above && high >= low {
        return Ok(());
    }
    Err(Error::bad_input(format!("`{name}` is [{low}, {high}], not two rising numbers of at least {above}")))
}

#[cfg(test)]
mod tests;
