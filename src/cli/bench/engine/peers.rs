//! What else runs the same network on this machine: ONNX Runtime, OpenVINO and PyTorch in the user's Python.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// A Python that measures one of its peers when asked; it ends with its input.
pub struct Peers {
    program: String,
    /// What it can measure.
    pub names: Vec<String>,
    /// What it cannot, with the reason.
    pub absent: Vec<String>,
    child: Child,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Told {
    names: Vec<String>,
    absent: Vec<String>,
}

impl Peers {
    /// Starts the Python and loads the model in all that it has.
    ///
    /// # Errors
    /// It cannot be started, or has no numpy.
    pub fn start(python: &Path, task: &Value) -> Result<Self> {
        let program = python.display().to_string();
        let mut child = Command::new(python)
            .args(["-c", include_str!("peers.py"), &task.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{program}`"))?;
        let answers = BufReader::new(child.stdout.take().context("Python has no output")?);
        let mut peers = Self { program, names: Vec::new(), absent: Vec::new(), child, answers };
        let told: Told = serde_json::from_str(&peers.answer()?).context("Python's answer is odd")?;
        (peers.names, peers.absent) = (told.names, told.absent);
        Ok(peers)
    }

    /// Samples per second of one of them.
    ///
    /// # Errors
    /// Python ended.
    pub fn measure(&mut self, number: usize) -> Result<f64> {
        writeln!(self.child.stdin.as_mut().context("Python has no input")?, "{number}")?;
        self.answer()?.parse().context("Python's answer is odd")
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("`{}` ended early; what it says is above", self.program);
        }
        Ok(line.trim().to_string())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
