//! What a command that does work stands in: the home, the progress on this terminal, Ctrl-C.

use std::path::Path;

use anyhow::Result;

use super::progress::Terminal;
use super::{Globals, interrupt};
use crate::base::Cancel;
use crate::base::home::Home;
use crate::resource::Fetcher;
use crate::run::Context;

/// What a command works with.
pub struct Surroundings {
    /// Where caft keeps what belongs to no project.
    pub home: Home,
    /// Draws progress.
    pub progress: Terminal,
    /// Raised by Ctrl-C.
    pub cancel: Cancel,
    offline: bool,
}

impl Surroundings {
    /// Takes over Ctrl-C; one for a process.
    ///
    /// # Errors
    /// No home is known, or the operating system refuses the handler.
    pub fn new(globals: &Globals, offline: bool) -> Result<Self> {
        let cancel = Cancel::default();
        interrupt::handle(&cancel)?;
        Ok(Self { home: Home::from_environment()?, progress: Terminal::new(globals.verbosity()), cancel, offline })
    }

    /// A fetcher for these surroundings.
    pub fn fetcher(&self) -> Fetcher<'_> {
        Fetcher::new(&self.home, &self.progress, &self.cancel, self.offline)
    }

    /// The surroundings of a run whose directory is below `runs`.
    pub fn context(&self, runs: &Path) -> Context<'_> {
        Context {
            home: &self.home,
            runs: runs.to_path_buf(),
            progress: &self.progress,
            cancel: &self.cancel,
            offline: self.offline,
        }
    }
}
