//! `caft engine ls|show|rm`: the engines that are kept.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::{short, show};
use crate::base::home::Home;
use crate::cli::table::Table;
use crate::cli::{Globals, print, print_json};
use crate::engine::{Built, shelf};

/// One engine.
#[derive(Debug, clap::Args)]
pub struct Name {
    /// Its name, or the beginning of its id.
    engine: String,
}

/// Some engines.
#[derive(Debug, clap::Args)]
pub struct Names {
    /// Their names, or the beginnings of their ids.
    #[arg(required = true)]
    engines: Vec<String>,
}

/// Prints the list of engines.
pub fn ls(globals: &Globals) -> Result<ExitCode> {
    let all = shelf::list(&Home::from_environment()?)?;
    if globals.json {
        let value = |built: &Built| json!({"id": shelf::id(built), "path": built.folder, "manifest": built.manifest});
        print_json(&all.iter().map(value).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        print("no engines yet; `caft engine build NAME|MODEL` and every run make them\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["name", "id", "outputs", "precision", "parameters", "verified", "source"]);
    for built in &all {
        let manifest = &built.manifest;
        let outputs: Vec<&str> = manifest.outputs.iter().map(|output| output.name.as_str()).collect();
        let worst = manifest.worst_cosine();
        table.row([
            manifest.name.clone(),
            shelf::id(built)[..8.min(shelf::id(built).len())].to_string(),
            outputs.join(", "),
            manifest.precision.clone(),
            short(manifest.parameters),
            worst.map_or_else(String::new, |cosine| format!("cosine {cosine:.6}")),
            manifest.source.address.clone(),
        ]);
    }
    print(&table.to_string())?;
    Ok(ExitCode::SUCCESS)
}

impl Name {
    /// Prints the manifest.
    pub fn show(&self, globals: &Globals) -> Result<ExitCode> {
        let built = shelf::find(&Home::from_environment()?, &self.engine)?;
        if globals.json {
            print_json(&built.manifest)?;
        } else {
            print(&show::text(&built))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Names {
    /// Removes the engines; activations that they made stay.
    pub fn remove(&self) -> Result<ExitCode> {
        let home = Home::from_environment()?;
        // All are found before any is removed.
        let found = self.engines.iter().map(|word| shelf::find(&home, word)).collect::<Result<Vec<_>, _>>()?;
        for built in found {
            shelf::remove(&built.folder)?;
            print(&format!("removed {} ({})\n", built.manifest.name, built.folder.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
