//! A folder of its own in which the program is run, with its output as text to compare.

use std::path::Path;
use std::process::Command;

/// A temporary working folder with a `CAFT_HOME` of its own.
pub struct Sandbox {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Sandbox {
    /// An empty one.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, with its folders.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Sets an environment variable for the runs to come.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Runs `caft` with some arguments: its exit code, standard output and standard error.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caft"));
        command.args(arguments).current_dir(self.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CAFT")) {
            command.env_remove(name);
        }
        command.env("CAFT_HOME", self.path().join("home")).envs(self.variables.iter().cloned());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes).replace(&self.path().canonicalize().unwrap().display().to_string(), "[HERE]")
        };
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Runs `caft` and gives everything that came out, as
    /// `exit 2`, then what standard output and standard error said, the latter with `! ` before each line.
    pub fn shows(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        let stderr: String = stderr.lines().map(|line| format!("! {line}").trim_end().to_string() + "\n").collect();
        format!("exit {code}\n{stdout}{stderr}")
    }
}
