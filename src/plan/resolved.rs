//! A plan with the digests of what it names: the identity of a run.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::key::{Ingredients, NUMERICS_VERSION};
use super::{EnginePlan, Plan};
use crate::base::{Digest, Error, KeyWriter, Result, file};
use crate::data::{Dataset, TargetKind};
use crate::graph::onnx::OutputSpec;
use crate::sample::image::augment::{AUGMENT_VERSION, Augment};

/// The file of a resolved plan in a run directory.
pub const PLAN: &str = "plan.json";

/// Raised when the same plan would train to other numbers.
const TRAINER_VERSION: u32 = 1;

/// A plan and the digests of what it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolvedPlan {
    /// The plan.
    pub plan: Plan,
    /// Digest of the source model.
    pub weights: Digest,
    /// Digest of the tokenizer, for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Digest>,
    /// Digest of the dataset's manifest; see [`Manifest`].
    pub dataset: Digest,
    /// What the rows are labelled with.
    #[serde(default)]
    pub target: TargetKind,
    /// The names of the classes, labels or values, in the order of the head's outputs. They are in the manifest's digest.
    pub classes: Vec<String>,
    /// What crosses the cut where a part of the backbone is trained; else the backbone's outputs do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontier: Option<Vec<OutputSpec>>,
    /// The plans of the towers behind the first, each resolved alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub towers: Vec<Self>,
    /// Digest of what an engine in `int8` is calibrated on, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Digest>,
    /// Providers of one class give the same values.
    pub numeric_class: String,
    /// The inference runtime with its version.
    pub runtime: String,
}

impl ResolvedPlan {
    /// Reads `plan.json` of a run directory.
    ///
    /// # Errors
    /// It is missing, or damaged.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(PLAN);
        let text = file::read_text(&path, 64 << 20)?;
        serde_json::from_str(&text).map_err(|e| Error::failed(format!("`{}` is damaged", path.display())).because(e))
    }

    /// The run's id: the digest of all that can change its result. Names, paths, batch sizes of the
    /// engine and caft's version are not part of it, so a moved folder finds its run again.
    pub fn id(&self) -> Digest {
        let Plan { seeds, model, train, metrics, cache, .. } = &self.plan;
        let EnginePlan { precision, .. } = &self.plan.engine;
        let mut key = KeyWriter::new("run");
        if let Some(tail) = &model.backbone.tail {
            key = key.json("tail", &(tail, &self.frontier));
        }
        if let Some(calibration) = &self.calibration {
            key = key.json("calibration", calibration);
        }
        let key = key
            .json("weights", &self.weights)
            .json("dataset", &self.dataset)
            .json("outputs", &model.backbone.outputs)
            .json("preprocess", &model.backbone.preprocess)
            .field("precision", precision.name())
            .field("numeric_class", &self.numeric_class)
            .field("runtime", &self.runtime)
            .json("cache", &BTreeMap::from([("dtype", cache.dtype)]))
            .json("neck", &model.neck)
            .json("head", &model.head)
            // The seed of the data is in its manifest already.
            .json("seeds", &[seeds.order, seeds.train])
            .json("train", train)
            .json("metrics", metrics)
            .json("versions", &(NUMERICS_VERSION, TRAINER_VERSION));
        // Folds and shares follow the order of all rows that they are of.
        let is_part = self.plan.data.valid_fold().is_some() || train.fraction.is_some();
        let key = if is_part { key.field("order", "pool") } else { key };
        // Only where there is one, so that runs without kept their ids.
        let key = self.tokenizer.iter().fold(key, |key, digest| key.json("tokenizer", digest));
        let key = model.postprocess.iter().fold(key, |key, postprocess| key.json("postprocess", postprocess));
        let key = self.plan.augment().iter().fold(key, |key, augment| key.json("augment", augment));
        self.towers.iter().fold(key, |key, tower| key.json("tower", &tower.id())).finish()
    }

    /// What produces the views of one output's column, as `ops` and seed say.
    pub fn view_ingredients<'a>(&'a self, output: &'a OutputSpec, augment: &Augment) -> Ingredients<'a> {
        let mut ingredients = self.ingredients(output);
        ingredients.transform["augment"] =
            json!({"version": AUGMENT_VERSION, "seed": augment.seed, "ops": augment.ops});
        ingredients
    }

    /// What the engine computes and is stored: what crosses the cut.
    pub fn cut(&self) -> &[OutputSpec] {
        self.frontier.as_ref().unwrap_or(&self.plan.model.backbone.outputs)
    }

    /// What produces the column of one output.
    pub fn ingredients<'a>(&'a self, output: &'a OutputSpec) -> Ingredients<'a> {
        let calibration = self.calibration;
        let engine = (self.plan.engine.precision.name(), self.numeric_class.as_str(), self.runtime.as_str());
        let transform = self.plan.model.backbone.preprocess.key(self.tokenizer);
        let ingredients = Ingredients::new(self.weights, output, engine, transform, self.plan.cache.dtype);
        Ingredients { calibration, ..ingredients }
    }
}

/// The ordered rows of a dataset with their targets, split by split: what a result depends on. Neither
/// paths nor file names are part of it.
pub struct Manifest;

impl Manifest {
    /// The manifest's digest. `samples[field][row]` are the digests of the samples.
    pub fn digest(dataset: &Dataset, samples: &[Vec<Digest>]) -> Digest {
        let fields: Vec<&str> = dataset.fields.iter().map(|field| field.name.as_str()).collect();
        let targets = &dataset.targets;
        let mut key = KeyWriter::new("dataset").json("fields", &fields).json(targets.kind().name(), &targets.names());
        let splits = &dataset.splits;
        for (name, rows) in [("train", &splits.train), ("valid", &splits.valid), ("test", &splits.test)] {
            let mut bytes = Vec::with_capacity(rows.len() * (32 * samples.len() + 4));
            for &row in rows {
                let row = row as usize;
                samples.iter().for_each(|field| bytes.extend_from_slice(&field[row].0));
                targets.write_row(row, &mut bytes);
            }
            key = key.field(name, bytes);
        }
        // Only where there are some, so that runs without kept their ids.
        let of_rows = |weights: &Vec<f32>| splits.train.iter().map(|row| weights[*row as usize]).collect::<Vec<f32>>();
        let weights = dataset.weights.as_ref().map(of_rows);
        weights.iter().fold(key, |key, weights| key.json("weights", weights)).finish()
    }
}
