//! `caft.lock`: the digests and versions that a run was made of, and the metrics it ended with, so that
//! a repetition can say what is the same and what differs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use crate::base::{Digest, Error, Result, file};
use crate::graph::bf16::Units;
use crate::graph::parallel::CHUNK;
use crate::plan::ResolvedPlan;
use crate::train;

/// The lock's file name.
pub const LOCK: &str = "caft.lock";

/// The contents of `caft.lock`, written as YAML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The run's id: the digest of its resolved plan.
    pub id: Digest,
    /// What ran.
    pub tool: Tool,
    /// Where it ran.
    pub machine: Machine,
    /// Digest of the source model, before it was cut.
    pub weights: Digest,
    /// Digest of the tokenizer, for text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Digest>,
    /// Digests of the source models of the towers behind the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub towers: Vec<Digest>,
    /// What of an execution provider decides its numbers.
    #[serde(default)]
    pub numeric_class: String,
    /// Digest of the dataset's manifest: ordered rows, targets, splits.
    pub dataset: Digest,
    /// What the dataset is made of, each by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// Rows of each split.
    #[serde(default)]
    pub rows: BTreeMap<String, usize>,
    /// The names of the classes, labels or values.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Keys of the cache's columns, by output.
    pub columns: BTreeMap<String, Digest>,
    /// The inference runtime with its version.
    pub runtime: String,
    /// The library that trained, with its version, where it was not caft itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trainer: Option<String>,
    /// All seeds, as they were used.
    pub seeds: BTreeMap<String, u64>,
    /// The metrics that a repetition should find.
    pub metrics: BTreeMap<String, f64>,
    /// Digest of the weights that the run is used by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Digest>,
    /// The recipe as merged, from which the run is repeated.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub recipe: serde_json::Value,
}

/// The program and what it was built with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// caft's version.
    pub caft: String,
    /// Digest of the list of all dependencies with their versions (`Cargo.lock`).
    pub dependencies: Digest,
}

/// What of a machine can change the last bits of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The processor's architecture, such as `x86_64`.
    pub architecture: String,
    /// Vector extensions that the matrix products use, widest last.
    pub features: Vec<String>,
    /// The units that products in bf16 run on.
    #[serde(default)]
    pub bf16: String,
    /// Elements that are summed in one go: the same on any number of threads.
    #[serde(default)]
    pub chunk: usize,
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        let dependencies = Digest::of(include_bytes!("../../Cargo.lock"));
        Self { caft: env!("CARGO_PKG_VERSION").into(), dependencies }
    }
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let (os, architecture) = (std::env::consts::OS.into(), std::env::consts::ARCH.into());
        Self { os, architecture, features: features(), bf16: Units::here().name().into(), chunk: CHUNK }
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    let known = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ];
    known.iter().filter(|(_, here)| *here).map(|(name, _)| (*name).to_string()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<String> {
    Vec::new()
}

/// Where a difference comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Samples, targets or splits.
    Data,
    /// The backbone, or how it is run.
    Engine,
    /// What is asked for: the rest of the recipe.
    Recipe,
    /// The program and the libraries it uses.
    Version,
    /// The machine.
    Hardware,
}

impl Origin {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 5] = [Self::Data, Self::Engine, Self::Recipe, Self::Version, Self::Hardware];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Engine => "engine",
            Self::Recipe => "recipe",
            Self::Version => "version",
            Self::Hardware => "hardware",
        }
    }
}

/// Something that two locks do not have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where it comes from.
    pub origin: Origin,
    /// What differs.
    pub what: &'static str,
    /// What each has.
    pub values: [String; 2],
}

impl Lock {
    /// What a repetition would be made of, before it runs: without columns, metrics and weights.
    pub fn of(
        plan: &ResolvedPlan,
        (contents, rows): (Option<Contents>, BTreeMap<String, usize>),
        recipe: serde_json::Value,
    ) -> Self {
        let seeds = &plan.plan.seeds;
        Self {
            id: plan.id(),
            tool: Tool::this(),
            machine: Machine::this(),
            weights: plan.weights,
            tokenizer: plan.tokenizer,
            towers: plan.towers.iter().map(|tower| tower.weights).collect(),
            numeric_class: plan.numeric_class.clone(),
            dataset: plan.dataset,
            contents,
            rows,
            classes: plan.classes.clone(),
            columns: BTreeMap::new(),
            runtime: plan.runtime.clone(),
            trainer: train::library(plan.plan.train.backend),
            seeds: [("data", seeds.data), ("order", seeds.order), ("train", seeds.train), ("augment", seeds.augment)]
                .map(|(name, seed)| (name.to_string(), seed))
                .into(),
            metrics: BTreeMap::new(),
            checkpoint: None,
            recipe,
        }
    }

    /// What another lock has otherwise, beside metrics and weights. Of the recipe, only whether it asks for another run
    /// is told.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut all = Vec::new();
        let mut differ = |origin, what, a: String, b: String| {
            if a != b {
                all.push(Difference { origin, what, values: [a, b] });
            }
        };
        let short = |digest: &Digest| digest.short(16);
        let of_digests = |digests: &[Digest]| digests.iter().map(short).collect::<Vec<_>>().join(", ");
        let shown = |seeds: &BTreeMap<String, u64>| {
            seeds.iter().map(|(name, seed)| format!("{name} {seed}")).collect::<Vec<_>>().join(", ")
        };
        if self.dataset != other.dataset {
            let (what, a, b) = match (&self.contents, &other.contents) {
                (Some(a), Some(b)) => {
                    a.first_difference(b).unwrap_or(("order or weights of rows", self.dataset, other.dataset))
                }
                _ => ("rows, targets and splits", self.dataset, other.dataset),
            };
            differ(Origin::Data, what, short(&a), short(&b));
        }
        let rows = |lock: &Self| {
            lock.rows.iter().map(|(split, rows)| format!("{rows} {split}")).collect::<Vec<_>>().join(", ")
        };
        differ(Origin::Data, "number of rows", rows(self), rows(other));
        differ(Origin::Data, "classes", self.classes.join(", "), other.classes.join(", "));
        let weights = |lock: &Self| of_digests(&[&[lock.weights], &lock.towers[..]].concat());
        differ(Origin::Engine, "backbone", weights(self), weights(other));
        let tokenizer = |lock: &Self| lock.tokenizer.as_ref().map(short).unwrap_or_default();
        differ(Origin::Engine, "tokenizer", tokenizer(self), tokenizer(other));
        differ(Origin::Engine, "provider", self.numeric_class.clone(), other.numeric_class.clone());
        differ(Origin::Recipe, "seeds", shown(&self.seeds), shown(&other.seeds));
        differ(Origin::Version, "runtime", self.runtime.clone(), other.runtime.clone());
        let trainer = |lock: &Self| lock.trainer.clone().unwrap_or_else(|| "caft's own".into());
        differ(Origin::Version, "trainer", trainer(self), trainer(other));
        differ(Origin::Version, "caft", self.tool.caft.clone(), other.tool.caft.clone());
        let crates = |lock: &Self| short(&lock.tool.dependencies);
        differ(Origin::Version, "dependencies", crates(self), crates(other));
        let machine = |machine: &Machine| format!("{} {}", machine.os, machine.architecture);
        differ(Origin::Hardware, "platform", machine(&self.machine), machine(&other.machine));
        let features = |lock: &Self| lock.machine.features.join(", ");
        differ(Origin::Hardware, "vector extensions", features(self), features(other));
        differ(Origin::Hardware, "bf16 units", self.machine.bf16.clone(), other.machine.bf16.clone());
        let chunk = |lock: &Self| lock.machine.chunk.to_string();
        differ(Origin::Hardware, "elements of a sum", chunk(self), chunk(other));
        // The id is made of data, engine and runtime too; where those explain it, it says nothing more.
        let explained =
            all.iter().any(|d| d.origin != Origin::Hardware && d.what != "caft" && d.what != "dependencies");
        if self.id != other.id && !explained {
            let values = [short(&self.id), short(&other.id)];
            all.push(Difference { origin: Origin::Recipe, what: "what is asked for", values });
        }
        all
    }

    /// Whether the stored activations have other keys, though they are of the same network, rows and settings.
    pub fn other_columns(&self, other: &Self) -> Option<Difference> {
        let shown = |columns: &BTreeMap<String, Digest>| {
            columns.iter().map(|(name, key)| format!("{name} {}", key.short(16))).collect::<Vec<_>>().join(", ")
        };
        let is_other = self.id == other.id && !self.columns.is_empty() && self.columns != other.columns;
        // Another program may make keys otherwise.
        let origin = if self.tool == other.tool { Origin::Engine } else { Origin::Version };
        is_other.then(|| Difference {
            origin,
            what: "keys of stored activations",
            values: [shown(&self.columns), shown(&other.columns)],
        })
    }

    /// Whether the id is not that of the digests and of the recipe beside it, whose plan, as resolved today, is `plan`.
    /// Says nothing of a lock of another program, whose ids may be made otherwise, or of one whose id is made of more
    /// than it holds.
    pub fn contradicts(&self, plan: &ResolvedPlan) -> bool {
        let of_data = plan.calibration.is_some() || !plan.towers.is_empty();
        let of_weights = plan.plan.model.backbone.tail.is_some();
        let unknown = (of_data && plan.dataset != self.dataset) || (of_weights && plan.weights != self.weights);
        let towers: Vec<Digest> = plan.towers.iter().map(|tower| tower.weights).collect();
        if self.tool != Tool::this() || unknown || towers != self.towers {
            return false;
        }
        let said = ResolvedPlan {
            weights: self.weights,
            tokenizer: self.tokenizer,
            dataset: self.dataset,
            numeric_class: self.numeric_class.clone(),
            runtime: self.runtime.clone(),
            ..plan.clone()
        };
        said.id() != self.id
    }

    /// Writes the lock into a run directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_yaml::to_string(self).map_err(|e| Error::failed("a lock does not serialise").because(e))?;
        file::write_bytes(&directory.join(LOCK), text.as_bytes())
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let text = file::read_text(path, 16 << 20)?;
        serde_yaml::from_str(&text)
            .map_err(|e| Error::bad_input(format!("`{}` is not a lock", path.display())).because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        Lock {
            id: Digest::of(b"plan"),
            tool: Tool::this(),
            machine: Machine::this(),
            weights: Digest::of(b"weights"),
            tokenizer: None,
            towers: Vec::new(),
            numeric_class: "ort-cpu".into(),
            dataset: Digest::of(b"dataset"),
            contents: None,
            rows: BTreeMap::from([("train".into(), 3)]),
            classes: vec!["a".into(), "b".into()],
            columns: BTreeMap::from([("cls".into(), Digest::of(b"cls"))]),
            runtime: "onnxruntime 1.31.1".into(),
            trainer: None,
            seeds: BTreeMap::from([("train".into(), u64::MAX)]),
            metrics: BTreeMap::from([("test/accuracy".into(), 0.1 + 0.2)]),
            checkpoint: Some(Digest::of(b"best")),
            recipe: serde_json::json!({"name": "x", "train": {"epochs": 3, "lr": 1.0e-3}}),
        }
    }

    #[test]
    fn differences_are_told_by_where_they_come_from() {
        let (a, mut b) = (lock(), lock());
        b.metrics.clear();
        assert_eq!(a.differences(&b), []);
        b.id = Digest::of(b"other");
        assert_eq!(a.differences(&b)[0].origin, Origin::Recipe);
        b.dataset = Digest::of(b"more");
        b.machine.features.push("amx".into());
        b.tool.caft = "9".into();
        let origins: Vec<Origin> = a.differences(&b).iter().map(|d| d.origin).collect();
        assert_eq!(origins, [Origin::Data, Origin::Version, Origin::Hardware]);
        let told = |a: &Lock, b: &Lock| a.differences(b).first().map(|d| d.what);
        let contents = |samples: &[u8], targets: &[u8], splits: &[u8]| {
            Some(Contents { samples: Digest::of(samples), targets: Digest::of(targets), splits: Digest::of(splits) })
        };
        let (mut a, mut b) = (lock(), lock());
        b.dataset = Digest::of(b"more");
        assert_eq!(told(&a, &b), Some("rows, targets and splits"));
        a.contents = contents(b"s", b"t", b"p");
        for (others, what) in [
            (contents(b"x", b"y", b"z"), "contents of samples"),
            (contents(b"s", b"y", b"z"), "targets"),
            (contents(b"s", b"t", b"z"), "splits"),
            (contents(b"s", b"t", b"p"), "order or weights of rows"),
        ] {
            b.contents = others;
            assert_eq!(told(&a, &b), Some(what));
        }
        let (a, mut b) = (lock(), lock());
        b.trainer = Some("libtorch 2.13.0".into());
        let values = ["caft's own".to_string(), "libtorch 2.13.0".to_string()];
        assert_eq!(a.differences(&b), [Difference { origin: Origin::Version, what: "trainer", values }]);
    }

    #[test]
    fn an_older_lock_is_read() {
        let mut value = serde_json::to_value(lock()).unwrap();
        for key in ["rows", "classes", "checkpoint", "recipe", "numeric_class"] {
            value.as_object_mut().unwrap().remove(key);
        }
        assert!(serde_json::from_value::<Lock>(value).unwrap().recipe.is_null());
    }

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let lock = lock();
        lock.write(folder.path()).unwrap();
        assert_eq!(Lock::read(&folder.path().join(LOCK)).unwrap(), lock);
    }
}
