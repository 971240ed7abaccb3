//! `caft recipe ls|cat|cp`: the recipes and configs that are part of the program.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::Globals;
use super::table::Table;
use crate::base::{Error, file};
use crate::recipe::shipped;

/// List, show and copy the recipes that come with caft.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List recipes (to extend) and configs (to run as they are).
    Ls,
    /// Print one.
    Cat {
        /// Its name, such as `linear_probe` or `configs/quickstart.yaml`.
        name: String,
    },
    /// Copy one to a file of your own.
    Cp {
        /// Its name, such as `linear_probe` or `configs/quickstart.yaml`.
        name: String,
        /// The new file, or a folder; by default its own name in the working folder.
        to: Option<PathBuf>,
        /// Replace a file that exists.
        #[arg(long, short)]
        force: bool,
    },
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no recipe of that name, or the copy cannot be written.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        match &self.action {
            Action::Ls if globals.json => {
                let value = |s: &shipped::Shipped| json!({"name": s.name, "path": s.path(), "about": s.about()});
                super::print_json(&shipped::all().iter().map(value).collect::<Vec<_>>())?;
            }
            Action::Ls => {
                let mut table = Table::new(["path", "what it is"]);
                shipped::all().iter().for_each(|s| table.row([s.path(), s.summary()]));
                super::print(&table.to_string())?;
            }
            Action::Cat { name } => super::print(shipped::find(name)?.body())?,
            Action::Cp { name, to, force } => {
                let shipped = shipped::find(name)?;
                let own = format!("{}.yaml", shipped.name);
                let to = match to {
                    None => PathBuf::from(own),
                    Some(to) if to.is_dir() => to.join(own),
                    Some(to) => to.clone(),
                };
                if to.exists() && !force {
                    let error = Error::bad_input(format!("`{}` exists", to.display()));
                    return Err(error.hint("`--force` replaces it").into());
                }
                file::write_bytes(&to, shipped.body().as_bytes())?;
                if !globals.quiet {
                    super::print(&format!("{} → {}\n", shipped.path(), to.display()))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
