//! `caft runtime`: the libraries that run engines.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::progress::Terminal;
use super::table::Table;
use super::{Globals, interrupt, print, print_json};
use crate::base::home::Home;
use crate::base::suggest::did_you_mean;
use crate::base::{Cancel, Error};
use crate::engine::runtime::{Carrier, Machine, PROVIDERS, Package, ProviderInfo, choose, provider_library};
use crate::recipe::{Precision, Provider};
use crate::resource::Fetcher;

/// List, add and remove the libraries that run engines.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the execution providers: what each computes in, whether it is here, and what it lacks.
    Ls,
    /// Fetch the libraries of providers.
    Add {
        /// Their names, such as `openvino`.
        #[arg(required = true)]
        names: Vec<String>,
        /// Fetch it even where this machine lacks what it needs.
        #[arg(long)]
        force: bool,
    },
    /// Remove the libraries of providers.
    Rm {
        /// Their names, such as `openvino`.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Print the path of a provider's library.
    Path {
        /// Its name.
        #[arg(default_value = "cpu")]
        name: String,
    },
}

/// A provider as it is listed.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    about: &'static str,
    precisions: Vec<&'static str>,
    package: Option<String>,
    added: bool,
    /// Bytes on disk.
    size: Option<u64>,
    /// What the machine lacks, if it lacks something.
    missing: Option<String>,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// A name is no provider's, or its libraries cannot be fetched or removed.
    pub fn run(&self, globals: &Globals) -> Result<ExitCode> {
        let home = Home::from_environment()?;
        let machine = Machine::here();
        match &self.action {
            Action::Ls => list(&home, &machine, globals)?,
            Action::Add { names, force } => {
                let cancel = Cancel::default();
                interrupt::handle(&cancel)?;
                let progress = Terminal::new(globals.verbosity());
                let fetcher = Fetcher::new(&home, &progress, &cancel, false);
                for name in names {
                    let (info, package) = carrier(name, &machine)?;
                    if !force {
                        info.check(&machine)?;
                    }
                    let installed = package.install(&fetcher, crate::engine::runtime::Platform::here()?)?;
                    let (size, folder) = (megabytes(installed.size()), installed.folder.display());
                    print(&format!("{name}: {} {} ({size}) in {folder}\n", package.name, package.version))?;
                }
            }
            Action::Rm { names } => {
                for name in names {
                    let (_, package) = carrier(name, &machine)?;
                    let removed = package.remove(&home, crate::engine::runtime::Platform::here()?)?;
                    let what = if removed { "removed" } else { "was not there" };
                    print(&format!("{name}: {} {} {what}\n", package.name, package.version))?;
                }
            }
            Action::Path { name } => {
                let info = find(name)?;
                let (progress, cancel) = (Terminal::new(globals.verbosity()), Cancel::default());
                let fetcher = Fetcher::new(&home, &progress, &cancel, true);
                let Some(path) = provider_library(&fetcher, info, &machine)? else {
                    let what = format!("`{name}` is not here");
                    return Err(Error::bad_input(what).hint(format!("`caft runtime add {name}` fetches it")).into());
                };
                print(&format!("{}\n", path.display()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(home: &Home, machine: &Machine, globals: &Globals) -> Result<()> {
    let rows: Vec<Row> = PROVIDERS.iter().map(|info| row(info, home, machine)).collect();
    let chosen = |precision: Precision| {
        let added = |info: &ProviderInfo| installed_size(info, home, machine).is_some();
        choose(Provider::Auto, precision, machine, &added)
    };
    if globals.json {
        return print_json(&rows);
    }
    let mut table = Table::new(["provider", "what it is", "precisions", "package", "here"]);
    for row in rows {
        let here = match (row.size, row.missing) {
            (Some(size), None) => megabytes(size),
            (Some(size), Some(missing)) => format!("{}; {missing}", megabytes(size)),
            (None, Some(missing)) => format!("no: {missing}"),
            (None, None) if row.package.is_none() => "no: in no library that is published".into(),
            (None, None) => "no".into(),
        };
        let package = row.package.unwrap_or_else(|| "-".into());
        table.row([row.name.into(), row.about.into(), row.precisions.join(" "), package, here]);
    }
    print(&format!("{table}\n"))?;
    for precision in [Precision::Fp32, Precision::Bf16] {
        let name = precision.name();
        match chosen(precision) {
            Ok(choice) => print(&format!("`auto` in {name} takes {}: {}\n", choice.info.name, choice.why))?,
            Err(error) => print(&format!("`auto` in {name}: {error}\n"))?,
        }
    }
    Ok(())
}

fn row(info: &'static ProviderInfo, home: &Home, machine: &Machine) -> Row {
    let size = installed_size(info, home, machine);
    let missing = info.check(machine).err().map(|error| {
        let text = error.to_string();
        text.split_once("here: ").map_or(text.clone(), |(_, why)| why.to_string())
    });
    Row {
        name: info.name,
        about: info.about,
        precisions: info.precisions.iter().map(|precision| precision.name()).collect(),
        package: info.package(machine).map(|package| format!("{} {}", package.name, package.version)),
        added: size.is_some(),
        size,
        missing,
    }
}

fn installed_size(info: &ProviderInfo, home: &Home, machine: &Machine) -> Option<u64> {
    Some(info.package(machine)?.installed(home, machine.platform?)?.size())
}

fn find(name: &str) -> Result<&'static ProviderInfo> {
    let found = PROVIDERS.iter().find(|info| info.name == name);
    Ok(found.ok_or_else(|| {
        let guess = did_you_mean(name, PROVIDERS.iter().map(|info| info.name));
        Error::bad_input(format!("there is no provider `{name}`{guess}")).hint("`caft runtime ls` lists them")
    })?)
}

/// A provider and the package that brings it.
fn carrier(name: &str, machine: &Machine) -> Result<(&'static ProviderInfo, &'static Package)> {
    let info = find(name)?;
    match (&info.carrier, info.package(machine)) {
        (Carrier::Own, _) | (_, None) => {
            let what = format!("no library with `{name}` is published for this version of ONNX Runtime");
            Err(Error::failed(what).hint("name one of your own with `CAFT_ORT_DYLIB`").into())
        }
        (_, Some(package)) => Ok((info, package)),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let machine = Machine::here();
        let error = carrier("openvio", &machine).unwrap_err().to_string();
        assert_eq!(error, "there is no provider `openvio`; did you mean `openvino`?");
        assert!(carrier("directml", &machine).unwrap_err().to_string().contains("is published"));
        assert_eq!(carrier("cuda", &machine).unwrap().1.name, "onnxruntime-gpu");
        assert_eq!(carrier("cpu", &machine).unwrap().1.name, "onnxruntime");
    }

    #[test]
    fn every_provider_is_listed_with_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let machine = Machine { nvidia_driver: None, ..Machine::here() };
        let rows: Vec<Row> = PROVIDERS.iter().map(|info| row(info, &home, &machine)).collect();
        assert_eq!(rows.len(), 8);
        assert!(rows.iter().all(|row| !row.added));
        let cuda = rows.iter().find(|row| row.name == "cuda").unwrap();
        assert_eq!(cuda.missing.as_deref(), Some("no NVIDIA driver is loaded"));
    }
}
