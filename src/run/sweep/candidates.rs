//! Which choices of values a sweep tries, and in which order.

use serde_json::json;

use super::Sweep;
use super::table::{Outcome, Table};
use crate::base::{Error, Problems, Result};
use crate::sweep::{Setting, Space, SweepMethod, tpe};

/// Values to try, once.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The values of the space.
    pub settings: Vec<Setting>,
    /// Which repetition of them: a seed, a fold.
    pub replica: Vec<Setting>,
}

/// The candidates of a sweep, in order.
pub struct Candidates {
    method: SweepMethod,
    cap: u64,
    seed: u64,
    next: u64,
    /// Candidates of choices that were begun.
    waiting: Vec<Candidate>,
    replicas: Vec<Vec<Setting>>,
    /// Choices that were made, for those that are guided.
    chosen: Vec<Vec<Setting>>,
}

/// Guided choices that are made at once, and trained together.
const AT_ONCE: usize = 4;

impl Candidates {
    /// The candidates of a sweep. Grids and dice say the same again, of which the table knows what is done; guided
    /// choices are counted on from those that the table has.
    pub fn new(sweep: &Sweep<'_>, table: &Table) -> Self {
        let Sweep { config, space, .. } = sweep;
        let (method, id) = (config.method(space), space.digest());
        let mut begun: Vec<Vec<Setting>> = Vec::new();
        for (trial, outcome) in table.trials() {
            if outcome.is_some() && trial.space == id && !begun.contains(&trial.settings) {
                begun.push(trial.settings);
            }
        }
        Self {
            method,
            cap: config.cap(space),
            seed: config.seed,
            next: if method == SweepMethod::Bayes { begun.len() as u64 } else { 0 },
            waiting: Vec::new(),
            replicas: replicas(sweep),
            chosen: Vec::new(),
        }
    }

    /// The next candidates, at most about `count`; none when all were given.
    pub fn next(&mut self, sweep: &Sweep<'_>, table: &Table, count: usize) -> Vec<Candidate> {
        let space = &sweep.space;
        if self.waiting.is_empty() && !sweep.has_reached(table) {
            let choices = count.div_ceil(self.replicas.len());
            match self.method {
                SweepMethod::Grid => self.add(choices, |number, _| space.combination(number)),
                SweepMethod::Random => self.add(choices, |number, seed| Some(space.draw(seed, number))),
                SweepMethod::Bayes => {
                    let mut seen = observations(sweep, table);
                    let choices = tpe::STARTUP.saturating_sub(self.next as usize).max(AT_ONCE);
                    let before = std::mem::take(&mut self.chosen);
                    for settings in &before {
                        if !seen.iter().any(|o| is_part(&o.settings, settings)) {
                            seen.push(tpe::Observation { settings: settings.clone(), score: None });
                        }
                    }
                    self.chosen = before;
                    self.add(choices, |number, seed| {
                        let settings = tpe::suggest(space, &seen, seed, number);
                        seen.push(tpe::Observation { settings: settings.clone(), score: None });
                        Some(settings)
                    });
                }
            }
        }
        let taken = self.waiting.len().min(count.max(1));
        self.waiting.drain(..taken).collect()
    }

    fn add(&mut self, choices: usize, mut of: impl FnMut(u64, u64) -> Option<Vec<Setting>>) {
        for _ in 0..choices {
            if self.next >= self.cap {
                break;
            }
            let Some(settings) = of(self.next, self.seed) else { break };
            self.next += 1;
            for replica in &self.replicas {
                self.waiting.push(Candidate { settings: settings.clone(), replica: replica.clone() });
            }
            self.chosen.push(settings);
        }
        if self.next < self.cap && self.waiting.is_empty() {
            self.next = self.cap;
        }
    }
}

/// Whether a trial has some of these values and no others: it may lack those that do not apply to it.
fn is_part(trial: &[Setting], of: &[Setting]) -> bool {
    !trial.is_empty() && trial.iter().all(|setting| of.contains(setting))
}

/// The repetitions of each choice: seeds times folds.
fn replicas(sweep: &Sweep<'_>) -> Vec<Vec<Setting>> {
    let recipe = &sweep.loaded.recipe;
    let first = recipe.train.seed.unwrap_or(recipe.seed);
    let seeds = sweep.config.repeat.map_or(1, |repeat| repeat.seeds);
    let seeds = (0..seeds).map(|i| match seeds {
        1 => Vec::new(),
        _ => vec![Setting { path: "train.seed".into(), value: (first + u64::from(i)).into() }],
    });
    let folds = |seed: Vec<Setting>| -> Vec<Vec<Setting>> {
        let Some(of) = sweep.config.kfold else { return vec![seed] };
        let fold = |index| Setting { path: "data.valid".into(), value: json!({"fold": {"of": of, "index": index}}) };
        (0..of).map(|index| seed.iter().cloned().chain([fold(index)]).collect()).collect()
    };
    seeds.flat_map(folds).collect()
}

/// What the table knows of this space, repetitions averaged.
fn observations(sweep: &Sweep<'_>, table: &Table) -> Vec<tpe::Observation> {
    let mut found: Vec<(Vec<Setting>, Vec<f64>)> = Vec::new();
    for (trial, outcome) in table.trials() {
        let score = match outcome {
            Some(Outcome::Ended { metrics, .. }) => metrics.get(&sweep.metric).map(|v| sweep.goal.score(*v)),
            _ => None,
        };
        match found.iter_mut().find(|(settings, _)| *settings == trial.settings) {
            Some((_, scores)) => scores.extend(score),
            None => found.push((trial.settings.clone(), score.into_iter().collect())),
        }
    }
    let mean = |scores: &[f64]| (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64);
    found.into_iter().map(|(settings, s)| tpe::Observation { settings, score: mean(&s) }).collect()
}

/// Refuses a space of which some value fits no trial: a key that does not exist, a value of the wrong type. A value
/// that fits together with some others and not with all is left to the trials.
pub fn check(sweep: &Sweep<'_>) -> Result<()> {
    const EXAMPLES: usize = 64;
    const TRIES: u64 = 8;
    let Space { dimensions } = &sweep.space;
    let mut problems = Problems::new(format!("{} is not a valid sweep", sweep.loaded.provenance.file()));
    for (d, dimension) in dimensions.iter().enumerate() {
        for value in dimension.domain.examples().into_iter().take(EXAMPLES) {
            let attempt = |number: u64| {
                let mut settings = sweep.space.draw(1, number);
                settings[d].value = value.clone();
                sweep.plan(&settings).err().map(|error| match error {
                    Error::Invalid(problems) => Ok(problems.list),
                    other => Err(other),
                })
            };
            let Some(first) = attempt(0).transpose()? else { continue };
            if (1..TRIES).any(|number| attempt(number).is_none()) {
                continue;
            }
            // What is wrong with another key because of this one is a trial's failure.
            problems.list.extend(first.into_iter().filter(|problem| problem.path.starts_with(&dimension.path)));
        }
    }
    problems.into_result()
}
