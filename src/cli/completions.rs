//! `caft completions SHELL`: a script that completes commands and options in a shell.

use clap_complete::Shell;

use super::Globals;

/// Print a completion script for a shell.
///
/// For bash: `caft completions bash > ~/.local/share/bash-completion/completions/caft`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn run(&self, _: &Globals) -> anyhow::Result<std::process::ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "caft", &mut script);
        super::print(&String::from_utf8_lossy(&script))?;
        Ok(std::process::ExitCode::SUCCESS)
    }
}
