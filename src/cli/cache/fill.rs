//! `caft cache fill`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::base::Error;
use crate::cli::surroundings::Surroundings;
use crate::cli::{Globals, load, print, print_json, say};
use crate::run::{self, Shard};

/// Compute and store the activations of a recipe, and train nothing.
///
/// Several processes, and machines that share a cache folder, may fill at the same time: each computes what no other has
/// claimed. With `--shard` a machine computes its part of the samples alone, wherever the others are.
#[derive(Debug, clap::Args)]
pub struct Fill {
    /// The recipe's file, or the name of a shipped one.
    recipe: PathBuf,
    /// Changes to the recipe: `key.path=value` sets, `++key.path=value` adds, `~key.path` deletes.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Only one of several parts of the samples: `2/3` is the second of three.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Never touch the network: use what was fetched before.
    #[arg(long)]
    offline: bool,
}

impl Fill {
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let planned = load::load(&self.recipe, &self.overrides)?;
        let here = Surroundings::new(globals, self.offline)?;
        let activations = match run::fill(&planned.plan, self.shard, &here.context(Path::new("runs"))) {
            Err(Error::Interrupted) => {
                say("interrupted; what was computed is stored, and the same command goes on from there\n");
                return Ok(ExitCode::from(130));
            }
            other => other?,
        };
        if globals.json {
            print_json(&activations)?;
        } else {
            print(&format!("activations: {} computed, {} reused\n", activations.computed, activations.reused))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
