//! `caft schema`: the JSON schemas.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use super::Globals;
use crate::recipe::schema::Kind;

/// Print a JSON schema.
///
/// For editors: put `# yaml-language-server: $schema=PATH` at the top of a recipe.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which schema.
    #[arg(value_enum, default_value = "recipe")]
    which: Which,
    /// Print the reference of a recipe's keys as Markdown instead.
    #[arg(long, conflicts_with = "which")]
    markdown: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// A recipe as written; nothing is required.
    Recipe,
    /// A recipe with all its layers merged.
    RecipeMerged,
    /// A file of the catalogue of backbones.
    Backbone,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn run(&self, _: &Globals) -> Result<ExitCode> {
        if self.markdown {
            super::print(&crate::recipe::reference::markdown())?;
            return Ok(ExitCode::SUCCESS);
        }
        let kind = match self.which {
            Which::Recipe => Kind::Recipe,
            Which::RecipeMerged => Kind::Merged,
            Which::Backbone => Kind::Backbone,
        };
        super::print(&kind.text())?;
        Ok(ExitCode::SUCCESS)
    }
}
