//! What every stage needs: where things are kept, who is told, and whether to go on.

use std::path::PathBuf;
use std::time::Instant;

use crate::base::home::Home;
use crate::base::progress::Event;
use crate::base::{Cancel, Progress, Result};
use crate::resource::Fetcher;

/// The surroundings of a run.
pub struct Context<'a> {
    /// Where caft keeps what belongs to no project.
    pub home: &'a Home,
    /// The folder that holds the runs.
    pub runs: PathBuf,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Checked between units of work.
    pub cancel: &'a Cancel,
    /// Never touches the network.
    pub offline: bool,
}

impl Context<'_> {
    /// A fetcher in these surroundings.
    pub fn fetcher(&self) -> Fetcher<'_> {
        Fetcher::new(self.home, self.progress, self.cancel, self.offline)
    }

    /// Runs one stage, told at its begin and, with the summary that it returns, at its end. Gives its
    /// result and how many seconds it took.
    ///
    /// # Errors
    /// Those of the stage.
    pub fn stage<T>(&self, stage: &'static str, body: impl FnOnce() -> Result<(T, String)>) -> Result<(T, f64)> {
        self.cancel.check()?;
        self.progress.event(Event::StageStarted { stage });
        let begin = Instant::now();
        let (result, summary) = body()?;
        let took = begin.elapsed();
        self.progress.event(Event::StageEnded { stage, took, summary });
        Ok((result, took.as_secs_f64()))
    }
}
