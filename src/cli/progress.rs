//! Draws progress events: bars on a terminal, a line now and then in a pipe, nothing when quiet.
//! All of it goes to the standard error stream, so that results can be piped.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::base::progress::{Event, Progress, Unit};
use crate::base::visible;

/// How often a pipe hears of work that goes on.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Only errors and results.
    Quiet,
    /// Stages, bars and warnings.
    Normal,
    /// Details too.
    Verbose,
}

/// The drawer of progress.
pub struct Terminal {
    verbosity: Verbosity,
    bars: bool,
    work: Mutex<Option<Work>>,
}

struct Work {
    bar: ProgressBar,
    what: String,
    unit: Unit,
    total: Option<u64>,
    started: Instant,
    next_line: Instant,
}

impl Terminal {
    /// Draws on the standard error stream.
    pub fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, bars: std::io::stderr().is_terminal(), work: Mutex::new(None) }
    }

    #[expect(clippy::print_stderr, reason = "this is the one place that draws progress")]
    fn line(&self, work: Option<&Work>, text: &str) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let text = visible(text);
        match work {
            Some(work) if self.bars => work.bar.suspend(|| eprintln!("{text}")),
            _ => eprintln!("{text}"),
        }
    }

    fn start(&self, what: String, total: Option<u64>, unit: Unit) -> Work {
        let visible = self.bars && self.verbosity > Verbosity::Quiet;
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar =
            ProgressBar::with_draw_target(total, target).with_style(style(unit, total)).with_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        let now = Instant::now();
        Work { bar, what, unit, total, started: now, next_line: now + LINE_EVERY }
    }
}

impl Progress for Terminal {
    fn event(&self, event: Event) {
        let Ok(mut current) = self.work.lock() else { return };
        match event {
            Event::StageStarted { stage } if self.verbosity == Verbosity::Verbose => {
                self.line(current.as_ref(), &format!("  {stage:<12} …"));
            }
            Event::StageStarted { .. } => {}
            Event::WorkStarted { what, total, unit } => *current = Some(self.start(what, total, unit)),
            Event::WorkAdvanced { done, detail } => {
                let Some(work) = current.as_mut() else { return };
                work.bar.set_position(done);
                if self.bars {
                    work.bar.set_prefix(detail);
                } else if Instant::now() >= work.next_line {
                    work.next_line = Instant::now() + LINE_EVERY;
                    let text = plain_line(work, done, &detail);
                    self.line(None, &text);
                }
            }
            Event::WorkEnded => {
                if let Some(work) = current.take() {
                    work.bar.finish_and_clear();
                }
            }
            Event::StageEnded { stage, took, summary } => {
                self.line(current.as_ref(), &format!("  {stage:<12} {summary} ({})", duration(took)));
            }
            Event::Warning(text) => self.line(current.as_ref(), &format!("warning: {text}")),
            Event::Detail(text) if self.verbosity == Verbosity::Verbose => {
                self.line(current.as_ref(), &format!("    {text}"));
            }
            Event::Detail(_) => {}
        }
    }
}

fn style(unit: Unit, total: Option<u64>) -> ProgressStyle {
    let counts = match (unit, total) {
        (Unit::Bytes, Some(_)) => "{bytes}/{total_bytes} {bytes_per_sec} {eta} left",
        (Unit::Bytes, None) => "{bytes} {bytes_per_sec}",
        (_, Some(_)) => "{human_pos}/{human_len} {unit_rate} {eta} left",
        (_, None) => "{human_pos} {unit_rate}",
    };
    let bar = if total.is_some() { "[{bar:24}] " } else { "{spinner} " };
    let template = format!("  {{msg}} {bar}{counts} {{prefix}}");
    let rate = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // A bar that cannot be drawn is no reason to fail.
        let _ = write!(out, "{:.1} {}/s", state.per_sec(), name(unit));
    };
    ProgressStyle::with_template(&template)
        .map(|style| style.progress_chars("=> ").with_key("unit_rate", rate))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn name(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Samples => "samples",
        Unit::Epochs => "epochs",
        Unit::Trials => "trials",
    }
}

fn plain_line(work: &Work, done: u64, detail: &str) -> String {
    let count = |n| if work.unit == Unit::Bytes { HumanBytes(n).to_string() } else { HumanCount(n).to_string() };
    let of = work.total.map(|total| format!("/{}", count(total))).unwrap_or_default();
    let unit = if work.unit == Unit::Bytes { String::new() } else { format!(" {}", name(work.unit)) };
    let rate = done as f64 / work.started.elapsed().as_secs_f64().max(1e-9);
    let left = work
        .total
        .filter(|_| rate > 0.0)
        .map(|total| format!(", {} left", duration(Duration::from_secs_f64(total.saturating_sub(done) as f64 / rate))))
        .unwrap_or_default();
    let speed =
        if work.unit == Unit::Bytes { format!("{}/s", HumanBytes(rate as u64)) } else { format!("{rate:.1}/s") };
    let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
    format!("    {}: {}{of}{unit}, {speed}{left}{detail}", work.what, count(done))
}

/// A duration for people: `0.4 s`, `12 s`, `3 minutes`.
pub fn duration(took: Duration) -> String {
    match took.as_secs_f64() {
        secs if secs < 9.95 => format!("{secs:.1} s"),
        secs if secs < 119.5 => format!("{secs:.0} s"),
        _ => HumanDuration(took).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(Duration::from_millis(349)), "0.3 s");
        assert_eq!(duration(Duration::from_secs(75)), "75 s");
        assert_eq!(duration(Duration::from_secs(300)), "5 minutes");
    }

    #[test]
    fn a_pipe_gets_lines_with_count_rate_and_time_left() {
        let terminal = Terminal { verbosity: Verbosity::Normal, bars: false, work: Mutex::new(None) };
        let mut work = terminal.start("activations".into(), Some(1000), Unit::Samples);
        work.started = Instant::now() - Duration::from_secs(10);
        assert_eq!(
            plain_line(&work, 500, "7 reused"),
            "    activations: 500/1,000 samples, 50.0/s, 10 s left, 7 reused"
        );
    }
}
