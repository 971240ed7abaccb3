//! `caft recipe ls|cat|cp|push|pull`: the recipes and configs that are part of the program, and those of others.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::Globals;
use super::surroundings::Surroundings;
use super::table::Table;
use crate::base::{Error, file, visible_line};
use crate::engine::exchange::Place;
use crate::recipe::foreign::{NamedKind, Review};
use crate::recipe::shipped;
use crate::run::recipes;

/// A recipe's file is not longer.
const LARGEST: u64 = 4 << 20;

/// List, show and copy the recipes that come with caft; share recipes, and take over those of others.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List recipes (to extend) and configs (to run as they are).
    Ls {
        /// Those that others share there: a folder, `git+https://host/repo.git@branch`, or `hf:owner/repo`.
        #[arg(long, value_name = "ADDRESS")]
        from: Option<Place>,
        /// Never touch the network: use what was fetched before.
        #[arg(long)]
        offline: bool,
    },
    /// Share a recipe. What it names must be had by others too: addresses with a digest or a commit, and no paths.
    Push {
        /// The recipe's file.
        file: PathBuf,
        /// A folder, `git+https://host/repo.git@branch` (also `git+ssh://…`, `git+file:///…`), or `hf:owner/repo`.
        address: Place,
        /// Its name there; that of the file if not given.
        #[arg(long)]
        name: Option<String>,
    },
    /// Fetch a recipe that somebody shares, after saying what it would read, fetch and write. One that names a path of
    /// this machine or a host of its own network is refused, also as a value of its sweep; commands no recipe can name.
    Pull {
        /// Where it is: an address as of `push`; the recipe's name may stand behind it, after a `/`.
        address: String,
        /// The recipe's name there; not needed where there is one alone.
        name: Option<String>,
        /// The new file, or a folder; by default its own name in the working folder.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Only say what it names, and write nothing.
        #[arg(long)]
        show: bool,
        /// Replace a file that exists.
        #[arg(long, short)]
        force: bool,
        /// Never touch the network: use what was fetched before.
        #[arg(long)]
        offline: bool,
    },
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
            Action::Ls { from: Some(place), offline } => {
                let here = Surroundings::new(globals, *offline)?;
                let index = recipes::list(place, &here.fetcher())?;
                if globals.json {
                    super::print_json(&index.recipes)?;
                } else {
                    let mut table = Table::new(["name", "what it is"]);
                    index
                        .recipes
                        .into_iter()
                        .for_each(|listed| table.row([listed.name, visible_line(&listed.about).into_owned()]));
                    super::print(&table.to_string())?;
                }
            }
            Action::Push { file, address, name } => {
                let here = Surroundings::new(globals, false)?;
                let text = file::read_text(file, LARGEST)?;
                let own = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let listed = recipes::push(&text, name.as_deref().unwrap_or(&own), address, &here.fetcher())?;
                if globals.json {
                    super::print_json(&listed)?;
                } else {
                    let name = &listed.name;
                    super::print(&format!("{address}: {name}\nfor others: caft recipe pull {address} {name}\n"))?;
                }
            }
            Action::Pull { address, name, output, show, force, offline } => {
                let here = Surroundings::new(globals, *offline)?;
                let (place, behind) = shared(address)?;
                if behind.is_some() && name.is_some() {
                    return Err(Error::bad_input("the recipe is named twice: behind the address and by itself").into());
                }
                let pulled = recipes::pull(&place, behind.as_deref().or(name.as_deref()), &here.fetcher())?;
                let own = format!("{}.yaml", pulled.name);
                let to = match output {
                    None => PathBuf::from(own),
                    Some(to) if to.is_dir() => to.join(own),
                    Some(to) => to.clone(),
                };
                let written = if *show { None } else { Some(&to) };
                if globals.json {
                    super::print_json(&json!({"file": written, "recipe": pulled.review}))?;
                } else {
                    super::print(&reviewed(&pulled.review))?;
                }
                if *show {
                    return Ok(ExitCode::SUCCESS);
                }
                if to.exists() && !force {
                    let error = Error::bad_input(format!("`{}` exists", to.display()));
                    return Err(error.hint("`--force` replaces it").into());
                }
                file::write_bytes(&to, pulled.text.as_bytes())?;
                if !globals.quiet && !globals.json {
                    super::print(&format!("written to {}; nothing of it was run\n", to.display()))?;
                }
            }
            Action::Ls { .. } if globals.json => {
                let value = |s: &shipped::Shipped| json!({"name": s.name, "path": s.path(), "about": s.about()});
                super::print_json(&shipped::all().iter().map(value).collect::<Vec<_>>())?;
            }
            Action::Ls { .. } => {
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

/// `ADDRESS` or `ADDRESS/NAME`.
fn shared(address: &str) -> crate::base::Result<(Place, Option<String>)> {
    let (place, name) = Place::with_name(address)?;
    // A folder's name may stand behind it where it holds recipes.
    if let (Place::Folder(folder), None) = (&place, &name)
        && !folder.is_dir()
        && let (Some(parent), Some(last)) = (folder.parent(), folder.file_name())
        && parent.join(recipes::INDEX).is_file()
    {
        return Ok((Place::Folder(parent.into()), Some(last.to_string_lossy().into_owned())));
    }
    Ok((place, name))
}

/// What a recipe would do, in a few lines.
pub(super) fn reviewed(review: &Review) -> String {
    let mut text = String::new();
    for named in &review.names {
        let what = match named.kind {
            NamedKind::Fetched if named.pinned => "fetches",
            NamedKind::Fetched => "fetches, whatever is there then,",
            NamedKind::Backbone => "fetches, for the backbone,",
            NamedKind::Inward => "fetches from this machine's own network",
            NamedKind::Engine => "uses the engine",
            NamedKind::BelowRoot => "reads below `data.root`",
            NamedKind::Path => "reads the path",
        };
        text += &format!("  {what} {} ({})\n", named.address, visible_line(&named.key));
    }
    text += &match review.is_part {
        true => "  names neither a backbone nor data: extend it in a recipe of your own\n".to_string(),
        false => format!("  writes to runs/{}/ and to caft's own folder, and nowhere else\n", review.name),
    };
    text + "  runs no commands\n"
}
