//! Finding, fetching and loading ONNX Runtime.
//!
//! The library is a pinned one of [`pins`], unless `CAFT_ORT_DYLIB` or `ORT_DYLIB_PATH` names another. A process loads
//! one, once. [`prepare()`] finds what an engine needs: the provider, the library that has it, and its plug-in.

mod compiled;
mod machine;
mod package;
pub mod pins;
mod prepare;
mod provider;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

pub use compiled::{open_session, open_unkept};
pub use machine::{Machine, WANTED_LIBRARIES};
pub use package::{Installed, InstalledFile, Package, PinnedWheel, Platform};
pub use pins::ONNX_RUNTIME;
pub use prepare::{Lanes, Prepared, prepare, provider_library};
pub use provider::{Carrier, Choice, PROVIDERS, ProviderInfo, choose};

use crate::base::{Digest, Error, Result};
use crate::resource::Fetcher;

/// An ONNX Runtime library on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeLibrary {
    /// The library's file.
    pub path: PathBuf,
    /// The pinned version, or `custom-` and the first digits of the digest for a library that the user named:
    /// what it computes is known by nothing else.
    pub version: String,
    /// The library's digest.
    pub digest: Digest,
}

/// The library to use, fetched if it is not here yet.
///
/// # Errors
/// The named library does not exist; or the pinned one cannot be fetched or is not for this platform.
pub fn ensure(fetcher: &Fetcher<'_>) -> Result<RuntimeLibrary> {
    ensure_of(&ONNX_RUNTIME, fetcher)
}

/// The library of a package; the environment's, if it names one, stands for every package.
fn ensure_of(package: &Package, fetcher: &Fetcher<'_>) -> Result<RuntimeLibrary> {
    match named_by_environment(fetcher)? {
        Some(library) => Ok(library),
        None => main_library(&package.install(fetcher, Platform::here()?)?),
    }
}

/// The same without the network: `None` if it is not here.
///
/// # Errors
/// The library that the environment names does not exist.
pub fn present(fetcher: &Fetcher<'_>) -> Result<Option<RuntimeLibrary>> {
    if let Some(library) = named_by_environment(fetcher)? {
        return Ok(Some(library));
    }
    ONNX_RUNTIME.installed(fetcher.home(), Platform::here()?).map(|installed| main_library(&installed)).transpose()
}

/// The library among an installation's files.
fn main_library(installed: &Installed) -> Result<RuntimeLibrary> {
    let is_main = |name: &str| {
        let stem = name.strip_prefix("lib").unwrap_or(name);
        stem.starts_with("onnxruntime.")
    };
    let main = installed.files.iter().find(|file| is_main(&file.path));
    let name = main.map_or("libonnxruntime", |file| &file.path);
    let (path, digest) = installed.file(name)?;
    Ok(RuntimeLibrary { path, version: installed.version.clone(), digest })
}

/// The variables that name a library, the first that is set winning.
const VARIABLES: [&str; 2] = ["CAFT_ORT_DYLIB", "ORT_DYLIB_PATH"];

fn named_by_environment(fetcher: &Fetcher<'_>) -> Result<Option<RuntimeLibrary>> {
    let set = |name: &'static str| Some((name, std::env::var_os(name).filter(|value| !value.is_empty())?));
    let Some((variable, path)) = VARIABLES.into_iter().find_map(set) else { return Ok(None) };
    let path = std::path::absolute(&path).map_err(Error::io("read", &path))?;
    if !path.is_file() {
        let what = format!("`{variable}` names `{}`, which is not a file", path.display());
        return Err(Error::bad_input(what).hint(format!("unset `{variable}` to use the pinned ONNX Runtime")));
    }
    let digest = fetcher.digests()?.digest(&path)?;
    Ok(Some(RuntimeLibrary { version: format!("custom-{}", digest.short(12)), path, digest }))
}

static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Loads the library into the process; later calls return the same environment.
///
/// # Errors
/// It is not an ONNX Runtime of version 1.31 or later for this machine, or another one is loaded already.
pub fn load(library: &RuntimeLibrary) -> Result<Environment> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = &*loaded {
        if *path == library.path {
            return Ok(environment.clone());
        }
        let (new, old) = (library.path.display(), path.display());
        return Err(Error::failed(format!("`{new}` cannot be loaded: this process already uses `{old}`")));
    }
    let failed = || Error::failed(format!("`{}` cannot be loaded as ONNX Runtime", library.path.display()));
    let builder = ort::init_from(&library.path).map_err(|error| {
        failed().because(error.to_string()).hint("caft needs version 1.31 or later for this machine")
    })?;
    let environment = builder
        .with_name("caft")
        .with_telemetry(false)
        // What matters comes back as an error; a library must not write to the terminal.
        .with_logger(Arc::new(|_, _, _, _, _| ()))
        .build()
        .map_err(|error| failed().because(error))?;
    environment.set_log_level(LogLevel::Error);
    *loaded = Some((library.path.clone(), environment.clone()));
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Cancel;
    use crate::base::home::Home;
    use crate::base::progress::Silent;

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, b"not a library").unwrap();
        let digest = Digest::of(b"not a library");
        let error = load(&RuntimeLibrary { path, version: "custom".into(), digest }).unwrap_err();
        assert!(error.to_string().contains("cannot be loaded"), "{error}");
    }

    #[test]
    fn offline_without_a_library_the_error_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (home, cancel) = (Home::at(folder.path()), Cancel::default());
        let fetcher = Fetcher::new(&home, &Silent, &cancel, true);
        let error = ONNX_RUNTIME.install(&fetcher, Platform::LinuxX86).unwrap_err();
        assert_eq!(error.to_string(), "`onnxruntime 1.31.1` is not on this machine, and offline nothing is fetched");
    }
}
