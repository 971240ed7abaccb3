//! Sweeps: many trials of one recipe, from a space of values to a table with the best first.
//!
//! A trial is a resolved plan, named by its digest. `candidates` says which to try, `cuts` resolves them and
//! fills the cache for all of them in one pass, `training` trains those that share a cut
//! together, and `table` keeps what came out, so that a killed sweep goes on and several processes share one.

mod candidates;
mod cuts;
mod judge;
pub mod page;
mod ranking;
mod table;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use candidates::{Candidate, Candidates};
use cuts::Cuts;
use judge::Judge;
pub use ranking::{Ranked, t_interval};
use table::{Outcome, Table, Trial};
use watch::{Watcher, one_line};

use super::context::Context;
use super::pack::{self, Opened};
use super::training::{Training, TrialRows};
use crate::backbone::catalogue;
use crate::base::progress::{Unit, work};
use crate::base::{Digest, Error, KeyWriter, Problems, Result, file};
use crate::plan::{self, Plan, ResolvedPlan};
use crate::recipe::{Loaded, Varied};
use crate::sweep::{Goal, Setting, Space, SweepConfig};

/// Trials that one process takes at a time.
const CHUNK: usize = 256;
/// The same where a trial may end the search.
const SMALL_CHUNK: usize = 16;
/// How long to wait for trials of other processes before looking again.
const POLL: Duration = Duration::from_millis(500);

/// What is asked of a sweep.
pub struct Request<'a> {
    /// The recipe with its `sweep` section.
    pub loaded: &'a Loaded,
    /// The user's own short names of keys, each with its path.
    pub names: &'a [(String, String)],
    /// Tries trials again that failed before.
    pub retry_failed: bool,
    /// How many of the best get run directories, in place of what the recipe says.
    pub keep: Option<u32>,
    /// The pack whose recipe it is and whose activations are trained on.
    pub pack: Option<&'a Opened>,
}

/// What came out of a sweep.
#[derive(Debug, serde::Serialize)]
pub struct Swept {
    /// The folder of the table and of the best recipe.
    pub folder: PathBuf,
    /// The metric that trials are compared by.
    pub metric: String,
    /// Whether more of it is better.
    pub goal: Goal,
    /// All choices of values that were tried, the best first.
    pub ranking: Vec<Ranked>,
    /// Trials that this call trained, and those that were there before.
    pub trained: usize,
    /// Trials that were in the table before.
    pub reused: usize,
    /// Of those that this call trained, how many trained by themselves, by the reason.
    pub alone: BTreeMap<String, usize>,
    /// The metric that was to be reached, if a trial reached it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<f64>,
    /// The best recipe, if any trial ended well.
    pub best: Option<PathBuf>,
    /// The run directories of the best.
    pub runs: Vec<String>,
    /// The page.
    pub report: PathBuf,
}

/// A sweep under way.
struct Sweep<'a> {
    loaded: &'a Loaded,
    config: &'a SweepConfig,
    space: Space,
    metric: String,
    goal: Goal,
    pack: Option<&'a Opened>,
    context: &'a Context<'a>,
}

/// Runs a sweep to its end, or the rest of it.
///
/// # Errors
/// The section or every value of one of its keys is wrong; the data have no validation rows; those of the cut. A
/// trial that fails is a line of the table and no error.
pub fn sweep(request: &Request<'_>, context: &Context<'_>) -> Result<Swept> {
    let loaded = request.loaded;
    let Some(config) = &loaded.recipe.sweep else {
        return Err(Error::bad_input(format!("`{}` has no `sweep` section", loaded.provenance.file()))
            .hint("add one, or say what varies: `caft sweep RECIPE train.optimizer.lr=1e-3,1e-2`"));
    };
    let metrics: Vec<(&str, bool)> = plan::metrics(&loaded.recipe).iter().map(|m| (m.name(), m.maximize())).collect();
    let (metric, goal) = config.objective(&metrics).map_err(Error::bad_input)?;
    let mut problems = Problems::new(format!("{} is not a valid sweep", loaded.provenance.file()));
    let space = config.space(request.names, &mut problems);
    for problem in &mut problems.list {
        problem.place = loaded.provenance.nearest(&problem.path);
    }
    problems.into_result()?;
    let sweep = Sweep { loaded, config, space, metric, goal, pack: request.pack, context };
    candidates::check(&sweep)?;
    let keep = request.keep.or(config.keep).unwrap_or(3) as usize;
    sweep.run(request.retry_failed, keep)
}

impl Sweep<'_> {
    /// The recipe with some keys set. Where the head is one of them and is solved, without what is said of steps.
    fn vary(&self, settings: &[Setting]) -> Result<Loaded> {
        let loaded = self.set(settings, &[])?;
        let is_of_head = |setting: &Setting| setting.path == "model.head" || setting.path.starts_with("model.head.");
        if !settings.iter().any(is_of_head) {
            return Ok(loaded);
        }
        match plan::needless_steps(&loaded.recipe) {
            needless if needless.is_empty() => Ok(loaded),
            needless => self.set(&applying(settings, &needless), &needless),
        }
    }

    fn set(&self, settings: &[Setting], without: &[String]) -> Result<Loaded> {
        let written = |path: &str| {
            let of_space = self.space.dimensions.iter().find(|d| d.path == path).map(|d| d.written.as_str());
            of_space.unwrap_or(if path == "data.valid" { "sweep.kfold" } else { "sweep.repeat" })
        };
        let varied: Vec<Varied<'_>> =
            settings.iter().map(|s| Varied { path: &s.path, value: &s.value, written: written(&s.path) }).collect();
        self.loaded.with(&varied, without)
    }

    /// The plan with some keys set.
    fn plan(&self, settings: &[Setting]) -> Result<Plan> {
        let loaded = self.vary(settings)?;
        let place = |path: &str| loaded.provenance.nearest(path);
        Plan::new(&loaded.recipe, catalogue()?, loaded.provenance.file(), &place)
    }

    fn run(&self, retry_failed: bool, keep: usize) -> Result<Swept> {
        let mut cuts = self.pack.map_or_else(Cuts::default, Cuts::of_pack);
        let (data, _) = self.context.stage("resolve", || {
            let (plan, summary) = cuts.describe(&self.plan(&[])?, self.context)?;
            Ok((plan.dataset, summary))
        })?;
        let mut written = self.loaded.merged.clone();
        written.as_object_mut().map(|map| [map.remove("sweep"), map.remove("name")]);
        let base = KeyWriter::new("sweep").json("recipe", &written).json("data", &data).finish();
        let name = &self.loaded.recipe.name;
        let folder = self.context.runs.join(name).join(format!("sweep-{}", base.short(8)));
        let mut table = Table::open(&folder, retry_failed)?;
        let reused = table.ended();
        let mut candidates = Candidates::new(self, &table);
        let (mut trained, mut alone) = (0, BTreeMap::new());
        // Planned and not known to have ended: to be taken, or in the hands of other processes.
        let mut open: Vec<(Trial, ResolvedPlan)> = Vec::new();
        loop {
            self.context.cancel.check()?;
            table.refresh()?;
            open.retain(|(trial, _)| !table.has_ended(&trial.id));
            let wanted = candidates.next(self, &table, if self.target().is_some() { SMALL_CHUNK } else { CHUNK });
            let waits = wanted.is_empty();
            if waits && open.is_empty() {
                break;
            }
            for candidate in wanted {
                self.open(candidate, &mut cuts, &mut table, &mut open)?;
            }
            let trials: Vec<Trial> = open.iter().map(|(trial, _)| trial.clone()).collect();
            let taken = table.claim(&trials)?;
            trained += taken.len();
            if !taken.is_empty() {
                let plans = open.iter().map(|(trial, plan)| (trial.id, plan.clone())).collect();
                self.train(&taken, &plans, &mut cuts, &mut table, &mut alone)?;
            } else if waits {
                std::thread::sleep(POLL);
            }
        }
        table.refresh()?;
        let reached = self.target().filter(|_| self.has_reached(&table));
        let mut ranking = ranking::rank(&table.trials(), &self.metric, self.goal);
        self.complete(&mut ranking);
        let Self { metric, goal, .. } = self;
        // Processes that share a sweep end at one time; the later ones find the runs of the best there.
        let (best, runs, report) = table.exclusively(|| {
            let (best, runs) = self.keep(&ranking, &folder, keep)?;
            let about = page::About { name: name.clone(), metric: metric.clone(), goal: *goal, runs: runs.clone() };
            Ok((best, runs, page::write(&folder, &about, &table)?))
        })?;
        let (metric, goal) = (metric.clone(), *goal);
        Ok(Swept { folder, metric, goal, ranking, trained, reused, alone, reached, best, runs, report })
    }

    /// Adds what choices have of keys that only others vary.
    fn complete(&self, ranking: &mut [Ranked]) {
        /// More than anyone looks at.
        const MOST: usize = 1000;
        let mut paths: Vec<String> = Vec::new();
        for setting in ranking.iter().flat_map(|ranked| &ranked.settings) {
            if !paths.contains(&setting.path) {
                paths.push(setting.path.clone());
            }
        }
        for ranked in ranking.iter_mut().filter(|ranked| ranked.settings.len() < paths.len()).take(MOST) {
            let Ok(loaded) = self.set(&ranked.settings, &[]) else { continue };
            let unsaid = paths.iter().filter(|path| ranked.settings.iter().all(|setting| setting.path != **path));
            let given = unsaid.filter_map(|path| Some(Setting { path: path.clone(), value: loaded.value(path)? }));
            let given: Vec<Setting> = given.collect();
            ranked.others = applying(&given, &plan::needless_steps(&loaded.recipe));
        }
    }

    /// The metric that is to be reached.
    fn target(&self) -> Option<f64> {
        self.config.metric.as_ref()?.target
    }

    /// Whether some trial is as good as is to be reached.
    fn has_reached(&self, table: &Table) -> bool {
        let Some(target) = self.target() else { return false };
        table.trials().iter().any(|(_, outcome)| match outcome {
            Some(Outcome::Ended { metrics, .. }) => {
                metrics.get(&self.metric).is_some_and(|value| self.goal.score(*value) >= self.goal.score(target))
            }
            _ => false,
        })
    }

    /// Plans a candidate. One that cannot be planned is a failed trial.
    fn open(
        &self,
        candidate: Candidate,
        cuts: &mut Cuts<'_>,
        table: &mut Table,
        open: &mut Vec<(Trial, ResolvedPlan)>,
    ) -> Result<()> {
        let Candidate { settings, replica } = candidate;
        let all: Vec<Setting> = settings.iter().chain(&replica).cloned().collect();
        // What does not apply to a trial is not one of its values.
        let needless = match self.set(&all, &[]) {
            Ok(loaded) if settings.len() > 1 => plan::needless_steps(&loaded.recipe),
            _ => Vec::new(),
        };
        let is_of_head = |setting: &Setting| setting.path.starts_with("model.head");
        let settings = if settings.iter().any(is_of_head) { applying(&settings, &needless) } else { settings };
        let resolve = |plan: Plan| cuts.plan(&plan, self.context);
        let trial = |id| Trial { id, space: self.space.digest(), settings: settings.clone(), replica: replica.clone() };
        match self.plan(&all).and_then(resolve) {
            Ok(plan) => {
                let trial = trial(plan.id());
                if !table.has_ended(&trial.id) {
                    open.push((trial, plan));
                }
                Ok(())
            }
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                // Without a plan it is named by what was asked of it.
                let trial = trial(KeyWriter::new("failed trial").json("settings", &all).finish());
                match table.has_ended(&trial.id) {
                    true => Ok(()),
                    false => table.record(&trial, Outcome::Failed { error: one_line(&error) }),
                }
            }
        }
    }

    /// Trains some trials, those that share a cut together.
    fn train(
        &self,
        trials: &[Trial],
        plans: &BTreeMap<Digest, ResolvedPlan>,
        cuts: &mut Cuts<'_>,
        table: &mut Table,
        alone: &mut BTreeMap<String, usize>,
    ) -> Result<()> {
        let trials = &self.fill(trials, plans, cuts, table)?;
        let mut groups: BTreeMap<Digest, Vec<&Trial>> = BTreeMap::new();
        for trial in trials {
            groups.entry(cuts.group(&plans[&trial.id], self.context)?).or_default().push(trial);
        }
        for group in groups.values() {
            let of_group: Vec<_> = group.iter().map(|trial| &plans[&trial.id]).collect();
            let training = match cuts.training(&of_group, self.context) {
                Ok(training) => training,
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    let error = one_line(&error);
                    for trial in group {
                        table.record(trial, Outcome::Failed { error: error.clone() })?;
                    }
                    continue;
                }
            };
            let mut able = Vec::new();
            for trial in group {
                match cuts.trial_rows(&plans[&trial.id], &training, self.context) {
                    Ok(rows) if rows.valid.is_empty() => {
                        return Err(cuts::no_valid());
                    }
                    Ok(rows) => able.push((*trial, rows)),
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => table.record(trial, Outcome::Failed { error: one_line(&error) })?,
                }
            }
            self.train_group(&able, &training, plans, table, alone)?;
        }
        Ok(())
    }

    /// Fills the cache for some trials, and gives those of them that can be trained. One whose outputs the model does not
    /// have, or whose backbone does not run, is a failed trial, unless all are.
    fn fill(
        &self,
        trials: &[Trial],
        plans: &BTreeMap<Digest, ResolvedPlan>,
        cuts: &mut Cuts<'_>,
        table: &mut Table,
    ) -> Result<Vec<Trial>> {
        let of = |trials: &[Trial]| -> Vec<&ResolvedPlan> { trials.iter().map(|trial| &plans[&trial.id]).collect() };
        let error = match cuts.fill(&of(trials), self.context) {
            Ok(()) => return Ok(trials.to_vec()),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => error,
        };
        let unfit = cuts.unfit(&of(trials), self.context)?;
        let (good, bad): (Vec<_>, Vec<_>) = trials.iter().zip(unfit).partition(|(_, why)| why.is_none());
        if good.is_empty() || bad.is_empty() {
            return Err(error);
        }
        for (trial, why) in bad {
            let error = why.as_ref().map(one_line).unwrap_or_default();
            table.record(trial, Outcome::Failed { error })?;
        }
        let good: Vec<Trial> = good.into_iter().map(|(trial, _)| trial.clone()).collect();
        cuts.fill(&of(&good), self.context)?;
        Ok(good)
    }

    fn train_group(
        &self,
        group: &[(&Trial, TrialRows)],
        training: &Training,
        plans: &BTreeMap<Digest, ResolvedPlan>,
        table: &mut Table,
        alone: &mut BTreeMap<String, usize>,
    ) -> Result<()> {
        let plans: Vec<(&ResolvedPlan, &TrialRows)> =
            group.iter().map(|(trial, rows)| (&plans[&trial.id], rows)).collect();
        let limits: Vec<u32> = plans.iter().map(|(plan, _)| plan.plan.train.epochs).collect();
        let judge = Judge::new(self.config.early_terminate.as_ref(), &self.metric, self.goal, &table.trials());
        let what = match group.len() {
            1 => "1 trial".to_string(),
            count => format!("{count} trials"),
        };
        let progress = self.context.progress;
        let total = Some(group.len() as u64);
        let group: Vec<&Trial> = group.iter().map(|(trial, _)| *trial).collect();
        let mut watch = Watcher { sweep: self, group: &group, limits, judge, table, alone, ended: 0 };
        work(progress, what, total, Unit::Trials, || training.trials(&plans, self.context.cancel, &mut watch))
    }

    /// Writes the best recipe and runs the best few as runs of their own.
    fn keep(
        &self,
        ranking: &[Ranked],
        folder: &std::path::Path,
        keep: usize,
    ) -> Result<(Option<PathBuf>, Vec<String>)> {
        let good: Vec<&Ranked> = ranking.iter().filter(|ranked| ranked.mean.is_some()).collect();
        let Some(first) = good.first() else { return Ok((None, Vec::new())) };
        let path = folder.join("best.yaml");
        let heading = format!("# The best of {} by {}.\n", ranking.len(), self.metric);
        file::write_bytes(&path, (heading + &self.vary(&first.settings)?.to_yaml()).as_bytes())?;
        let mut runs = Vec::new();
        for ranked in good.iter().filter(|ranked| !ranked.stopped).take(keep) {
            let (plan, loaded) = (self.plan(&ranked.settings)?, self.vary(&ranked.settings)?);
            let finished = match self.pack {
                Some(pack) => pack::train(pack, &plan, &loaded.to_yaml(), self.context, false)?,
                None => super::run(&plan, &loaded.to_yaml(), self.context, false)?,
            };
            runs.push(finished.record.path);
        }
        Ok((Some(path), runs))
    }
}

/// Those of some settings that are not of keys that are left out.
fn applying(settings: &[Setting], without: &[String]) -> Vec<Setting> {
    let is_below = |path: &str, of: &String| {
        path.strip_prefix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    settings.iter().filter(|setting| !without.iter().any(|of| is_below(&setting.path, of))).cloned().collect()
}
