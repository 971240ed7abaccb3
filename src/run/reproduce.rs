//! A run repeated from its lock: everything that it was made of is fetched or rebuilt and checked, then it is trained
//! again and its metrics are compared.

use std::path::Path;

use serde::Serialize;

use super::contents::Contents;
use super::context::Context;
use super::lock::{Difference, LOCK, Lock, Origin};
use super::pack::{self, Opened};
use super::record::RunRecord;
use super::{Finished, Rechecked, recheck, resolve, run};
use crate::base::{Digest, Error, Result};
use crate::plan::Plan;
use crate::recipe::Backend;

/// What is repeated, and how strictly.
#[derive(Debug, Clone, Copy)]
pub struct ReproduceRequest<'a> {
    /// The lock.
    pub lock: &'a Lock,
    /// The plan of the lock's recipe.
    pub plan: &'a Plan,
    /// That recipe as YAML.
    pub recipe: &'a str,
    /// Whether that recipe is the lock's own, with nothing changed.
    pub unchanged: bool,
    /// Whether to run although data or engine are not those of the lock, or the lock contradicts itself.
    pub anyway: bool,
    /// How far a metric may be from the lock's where the machine is of another kind: absolute for values up to 1, else
    /// relative.
    pub tolerance: f64,
    /// Stored activations that are computed again and compared.
    pub rechecked: usize,
}

/// How a metric came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricRepeated {
    /// Its name, such as `test/accuracy`.
    pub name: String,
    /// What the lock has.
    pub wanted: f64,
    /// What came out; none if it was not measured.
    pub found: Option<f64>,
    /// Whether that is near enough.
    pub agrees: bool,
}

/// A repeated run, or why it was not run.
#[derive(Debug, Clone, Serialize)]
pub struct Reproduced {
    /// Whether everything that must be the same is.
    pub agrees: bool,
    /// The new attempt; none where nothing ran because data or engine are others.
    pub run: Option<String>,
    /// What is not as it was in the locked run.
    pub differences: Vec<Difference>,
    /// Whether results must be the same bit for bit: same program, runtime and kind of machine, embedded trainer.
    pub bitwise: bool,
    /// The tolerance that metrics were compared with; 0 where they must be the same.
    pub tolerance: f64,
    /// The metrics.
    pub metrics: Vec<MetricRepeated>,
    /// Whether the trained weights are the same bit for bit, where the lock knows them.
    pub same_weights: Option<bool>,
    /// The digests of the trained weights: the lock's, and what came out.
    pub weights: Option<[Digest; 2]>,
    /// Stored activations that were computed again.
    pub rechecked: Vec<Rechecked>,
}

/// Repeats a run.
///
/// # Errors
/// The lock contradicts itself; those of the run's stages.
pub fn reproduce(request: &ReproduceRequest<'_>, context: &Context<'_>) -> Result<Reproduced> {
    let ReproduceRequest { lock, plan, recipe, .. } = *request;
    let resolved = resolve(plan, context)?;
    let rows = (Some(Contents::of(&resolved)), resolved.rows_of_splits());
    let now = Lock::of(&resolved.plan, rows, lock.recipe.clone());
    if request.unchanged && !request.anyway && lock.contradicts(&resolved.plan) {
        return Err(Error::bad_input(format!(
            "the lock contradicts itself: its digests and its recipe are not those of the run `{}` that it names",
            lock.id.short(16)
        ))
        .hint("it was edited or is damaged; take the `caft.lock` of the run's folder, or say `--anyway` to compare with it"));
    }
    drop(resolved);
    let mut reproduced = Reproduced::begin(request, &now);
    if reproduced.is_of_another() && !request.anyway {
        return Ok(reproduced);
    }
    let Finished { record, .. } = run(plan, recipe, context, true)?;
    if request.rechecked > 0 {
        reproduced.rechecked = recheck(plan, context, request.rechecked)?;
    }
    reproduced.compare(lock, record)?;
    Ok(reproduced)
}

/// Repeats a packed run on the activations that are packed with it; nothing is computed again of those.
///
/// # Errors
/// The pack has no activations; those of training.
pub fn reproduce_packed(request: &ReproduceRequest<'_>, opened: &Opened, context: &Context<'_>) -> Result<Reproduced> {
    let ReproduceRequest { lock, plan, recipe, .. } = *request;
    let resolved = opened.resolve(plan)?;
    let now = Lock::of(&resolved, (lock.contents, lock.rows.clone()), lock.recipe.clone());
    let mut reproduced = Reproduced::begin(request, &now);
    if reproduced.is_of_another() && !request.anyway {
        return Ok(reproduced);
    }
    let Finished { record, .. } = pack::train(opened, plan, recipe, context, true)?;
    reproduced.compare(lock, record)?;
    Ok(reproduced)
}

impl Reproduced {
    /// What is known before the run.
    fn begin(request: &ReproduceRequest<'_>, now: &Lock) -> Self {
        let differences = request.lock.differences(now);
        let bitwise = differences.is_empty() && request.plan.train.backend == Backend::Embedded;
        Self {
            agrees: false,
            run: None,
            differences,
            bitwise,
            tolerance: if bitwise { 0.0 } else { request.tolerance },
            metrics: Vec::new(),
            same_weights: None,
            weights: None,
            rechecked: Vec::new(),
        }
    }

    /// Whether what would run is not what the lock names.
    fn is_of_another(&self) -> bool {
        self.differences.iter().any(|d| matches!(d.origin, Origin::Data | Origin::Engine | Origin::Recipe))
    }

    /// Compares what came out with the lock.
    fn compare(&mut self, lock: &Lock, record: RunRecord) -> Result<()> {
        let found = Lock::read(&Path::new(&record.path).join(LOCK))?;
        self.differences.extend(lock.other_columns(&found));
        let (bitwise, tolerance) = (self.bitwise, self.tolerance);
        let metric = |(name, wanted): (&String, &f64)| {
            let found = record.metrics.get(name).copied();
            let agrees = found.is_some_and(|found| agrees(*wanted, found, bitwise, tolerance));
            MetricRepeated { name: name.clone(), wanted: *wanted, found, agrees }
        };
        self.metrics = lock.metrics.iter().map(metric).collect();
        self.weights = lock.checkpoint.zip(found.checkpoint).map(|(wanted, found)| [wanted, found]);
        self.same_weights = lock.checkpoint.map(|wanted| found.checkpoint == Some(wanted));
        let weights = !bitwise || self.same_weights.unwrap_or(true);
        let activations = self.rechecked.iter().all(Rechecked::is_good);
        let is_same = !self.differences.iter().any(|d| matches!(d.origin, Origin::Data | Origin::Engine));
        self.agrees = is_same && weights && activations && self.metrics.iter().all(|metric| metric.agrees);
        self.run = Some(record.path);
        Ok(())
    }
}

fn agrees(wanted: f64, found: f64, bitwise: bool, tolerance: f64) -> bool {
    if bitwise || wanted.is_nan() {
        return wanted.to_bits() == found.to_bits();
    }
    (wanted - found).abs() <= tolerance * wanted.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_agree_bit_for_bit_or_within_the_tolerance() {
        assert!(agrees(0.1 + 0.2, 0.1 + 0.2, true, 0.0));
        assert!(!agrees(0.1 + 0.2, 0.3, true, 0.0));
        assert!(agrees(0.85, 0.855, false, 0.01) && !agrees(0.85, 0.87, false, 0.01));
        assert!(agrees(200.0, 201.0, false, 0.01) && !agrees(200.0, f64::NAN, false, 0.01));
    }
}
