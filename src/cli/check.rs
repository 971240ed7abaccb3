//! `caft check FILE…`: everything that is wrong with recipes, and nothing run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::Globals;
use crate::backbone::catalogue;
use crate::base::{Error, Place};
use crate::plan::Plan;
use crate::recipe::{self, Checked, Overrides};

/// Check recipes and list every problem, with its line.
///
/// Nothing is fetched and nothing runs. The exit code is 0 if all are valid, else 2.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe files, and overrides such as `train.epochs=5` that apply to all of them.
    #[arg(required = true, value_name = "FILE|KEY=VALUE")]
    words: Vec<String>,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let (words, files): (Vec<String>, Vec<String>) =
            self.words.iter().cloned().partition(|word| Overrides::is_word(word));
        if files.is_empty() {
            return Err(Error::bad_input("no recipe is named").hint("`caft check configs/quickstart.yaml`").into());
        }
        let overrides = Overrides::from_environment(&words);
        let mut wrong = false;
        let mut results = Vec::new();
        for file in &files {
            let result = check(Path::new(file), &overrides);
            wrong |= result.is_err();
            match result {
                Ok(note) if globals.json => results.push(json!({"file": file, "valid": true, "note": note})),
                Ok(note) if !globals.quiet => super::print(&format!("{file}: {note}\n"))?,
                Ok(_) => {}
                Err(error) if globals.json => {
                    results.push(json!({"file": file, "valid": false, "problems": problems(&error)}));
                }
                Err(error) => super::draw_error(&error.into()),
            }
        }
        if globals.json {
            super::print_json(&results)?;
        }
        Ok(if wrong { ExitCode::from(2) } else { ExitCode::SUCCESS })
    }
}

fn check(file: &Path, overrides: &Overrides) -> Result<&'static str, Error> {
    match recipe::check_file(&PathBuf::from(file), overrides)? {
        Checked::Part => Ok("valid, for other recipes to extend (it names neither a backbone nor data)"),
        Checked::Whole(loaded) => {
            let provenance = &loaded.provenance;
            Plan::new(&loaded.recipe, catalogue()?, provenance.file(), &|path| provenance.nearest(path))?;
            Ok("valid")
        }
    }
}

fn problems(error: &Error) -> Vec<serde_json::Value> {
    let Error::Invalid(problems) = error else { return vec![json!({"message": error.to_string()})] };
    let value = |problem: &crate::base::Problem| {
        let mut value = json!({"path": problem.path, "message": problem.message});
        if let Some(place) = &problem.place {
            value["place"] = place.to_string().into();
            if let Place::File { path, line, column } = place {
                value["file"] = path.display().to_string().into();
                value["line"] = (*line).into();
                value["column"] = (*column).into();
            }
        }
        value
    };
    problems.list.iter().map(value).collect()
}
