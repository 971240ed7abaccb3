//! Checkpoints: all that a run needs to go on as if it had never stopped.
//!
//! One safetensors file, replaced atomically: tensors `weights/…`, `optimizer/…`, `method/…` (what the
//! loop itself remembers) and `best/…`, and in its
//! metadata the [`State`] as JSON and the fingerprint of what is trained.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Data, EpochLog, TrainConfig, Trainer};
use crate::base::{Digest, Error, KeyWriter, Result};
use crate::graph::{Graph, Targets, Weights};
use crate::loss::LossSum;
use crate::recipe;

/// The file's name in the checkpoint folder.
const FILE: &str = "checkpoint.safetensors";

/// Where the loop is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Whole epochs done.
    pub epoch: u32,
    /// Steps done in the present epoch.
    pub step_in_epoch: u64,
    /// Steps done.
    pub step: u64,
    /// The present epoch's loss so far, as bits, because JSON must not round it.
    loss: (u64, u64),
    /// The first metric at the best epoch.
    pub best: Option<f64>,
    pub best_epoch: u32,
    /// Whether the minimum is reached.
    #[serde(default)]
    pub converged: bool,
    pub epochs: Vec<EpochLog>,
    /// Wall-clock seconds of the present epoch before an interruption.
    pub seconds: f64,
}

impl State {
    pub fn loss(&self) -> LossSum {
        LossSum { sum: f64::from_bits(self.loss.0), weight: f64::from_bits(self.loss.1) }
    }

    pub fn set_loss(&mut self, loss: LossSum) {
        self.loss = (loss.sum.to_bits(), loss.weight.to_bits());
    }
}

/// Where checkpoints of one run are kept.
pub(super) struct Checkpoints {
    path: PathBuf,
    fingerprint: Digest,
}

impl Checkpoints {
    /// Checkpoints in a folder, of one graph, data and config. Not part of the fingerprint are the features'
    /// values: whoever names the folder names it by their digests too; nor what trains, for all trainers take up
    /// each other's.
    pub fn new(folder: &Path, graph: &Graph, data: &Data<'_>, config: &TrainConfig) -> Self {
        let rows = |rows: &[u32]| -> Vec<u8> { rows.iter().flat_map(|r| r.to_le_bytes()).collect() };
        let targets = match data.targets {
            Targets::Classes(classes) | Targets::Pairs { samples: classes, .. } => rows(classes),
            Targets::MultiLabel { values, .. } | Targets::Values { values, .. } => {
                values.iter().flat_map(|v| v.to_le_bytes()).collect()
            }
        };
        let (backend, device) = Default::default();
        let recipe = recipe::TrainConfig { backend, device, ..config.recipe.clone() };
        let fingerprint = KeyWriter::new("checkpoint")
            .field("graph", format!("{graph:?}"))
            .json("config", &TrainConfig { recipe, ..config.clone() })
            .field("train", rows(data.train))
            .field("valid", rows(data.valid))
            .field("pool", rows(data.pool))
            .field("targets", targets);
        // Only where there are some, so that checkpoints without are still found.
        let weights = data.weights.map(|weights| weights.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>());
        let fingerprint = weights.into_iter().fold(fingerprint, |key, weights| key.field("weights", weights)).finish();
        Self { path: folder.join(FILE), fingerprint }
    }

    /// Writes a checkpoint.
    pub fn save(&self, trainer: &mut dyn Trainer, method: Weights, best: &Weights, state: &State) -> Result<()> {
        let mut all = Weights::default();
        let groups = [
            ("weights", trainer.weights()?),
            ("optimizer", trainer.optimizer_state()),
            ("method", method),
            ("best", best.clone()),
        ];
        for (group, weights) in groups {
            all.0.extend(weights.0.into_iter().map(|(name, tensor)| (format!("{group}/{name}"), tensor)));
        }
        let state = serde_json::to_string(state).map_err(|e| Error::failed("cannot write the state").because(e))?;
        let fingerprint = self.fingerprint.to_string();
        all.save(&self.path, BTreeMap::from([("state".into(), state), ("fingerprint".into(), fingerprint)]))
    }

    /// Restores the trainer from a checkpoint of the same run, and gives the loop's own tensors, the best weights
    /// and the state. `None` if there is none, or if it is of another run.
    pub fn load(&self, trainer: &mut dyn Trainer) -> Result<Option<(Weights, Weights, State)>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let (all, metadata) = Weights::load(&self.path)?;
        if metadata.get("fingerprint") != Some(&self.fingerprint.to_string()) {
            return Ok(None);
        }
        let broken = || Error::bad_input(format!("`{}` is not a checkpoint", self.path.display()));
        let state = metadata.get("state").ok_or_else(broken)?;
        let state: State = serde_json::from_str(state).map_err(|e| broken().because(e))?;
        let group = |prefix: &str| {
            let of_group = |(name, tensor): (&String, &crate::graph::Tensor)| {
                name.strip_prefix(prefix).map(|name| (name.to_string(), tensor.clone()))
            };
            Weights(all.0.iter().filter_map(of_group).collect())
        };
        trainer.set_weights(&group("weights/"))?;
        trainer.set_optimizer_state(&group("optimizer/"))?;
        Ok(Some((group("method/"), group("best/"), state)))
    }
}
