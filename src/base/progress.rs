//! What long work tells about itself. The library emits events; only the command line draws them.

use std::time::Duration;

/// Something that happened, in the order it happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A stage of a run began, such as `activations`.
    StageStarted {
        /// The stage.
        stage: &'static str,
    },
    /// Countable work began inside a stage (a download, a pass over the data, the epochs).
    WorkStarted {
        /// What is worked on, such as a file's name.
        what: String,
        /// How much there is, if known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// So much of the current work is done.
    WorkAdvanced {
        /// Units done since the work began.
        done: u64,
        /// A few words to show behind the bar, such as the loss.
        detail: String,
    },
    /// The current work ended, well or not.
    WorkEnded,
    /// A stage ended.
    StageEnded {
        /// The stage.
        stage: &'static str,
        /// How long it took.
        took: Duration,
        /// What came of it, in one line.
        summary: String,
    },
    /// Something the user should know but that stops nothing.
    Warning(String),
    /// Shown when the user asks for more.
    Detail(String),
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a transfer.
    Bytes,
    /// Samples through an engine or a decoder.
    Samples,
    /// Training epochs.
    Epochs,
    /// Trials of a sweep.
    Trials,
}

/// Takes events. Called from any thread; must be quick.
pub trait Progress: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Drops every event.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event) {}
}

/// Runs one piece of countable work, telling its begin and its end.
pub fn work<T>(
    progress: &dyn Progress,
    what: impl Into<String>,
    total: Option<u64>,
    unit: Unit,
    body: impl FnOnce() -> T,
) -> T {
    progress.event(Event::WorkStarted { what: what.into(), total, unit });
    let result = body();
    progress.event(Event::WorkEnded);
    result
}
