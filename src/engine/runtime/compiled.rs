//! Engines compiled for this machine, kept so that the second start is quick.
//!
//! `compiled/<key>/` under the home has a `model.onnx` with an EP context node and the provider's own file beside it.
//! The key is all that a compiled engine depends on: the model, the provider with its versions, the precision, the
//! threads and the processor. `files.json`, written last, has every file's digest; a folder that does not fit it is
//! compiled again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ort::compiler::ModelCompiler;
use ort::session::Session;

use super::machine::Machine;
use super::prepare::Prepared;
use crate::base::{Digest, Error, Home, KeyWriter, Result, file};
use crate::resource::DigestTable;

const RECORD: &str = "files.json";
const MODEL: &str = "model.onnx";

/// Opens a session of a model, from what was compiled before where the provider compiles.
///
/// # Errors
/// The provider cannot be set up, or cannot load the model.
pub fn open_session(prepared: &Prepared, home: &Home, model: &Path, threads: usize) -> Result<Session> {
    let load = |path: &Path, kept: Option<&Path>| open_unkept(prepared, path, threads, kept);
    if !prepared.compiles() && !prepared.keeps_itself() {
        return load(model, None);
    }
    let digests = DigestTable::open(home)?;
    let compiled = home.folder("compiled")?;
    let folder = compiled.join(key(prepared, digests.digest(model)?, threads).short(32));
    if prepared.keeps_itself() {
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        return load(model, Some(&folder));
    }
    if is_whole(&folder, &digests) {
        // A compiled engine that the provider does not take any more is compiled again.
        if let Ok(session) = load(&folder.join(MODEL), None) {
            note_use(&folder);
            return Ok(session);
        }
        let _ = fs::remove_dir_all(&folder);
    }
    sweep(&compiled);
    match compile(prepared, model, threads, &folder, &digests) {
        Ok(()) => load(&folder.join(MODEL), None),
        // Compiling ahead is an optimisation: some graphs cannot be split off, but run all the same.
        Err(_) => load(model, None),
    }
}

/// Opens a session of a model as it is; `kept` is for providers that keep what they compile themselves.
///
/// # Errors
/// The provider cannot be set up, or cannot load the model.
pub fn open_unkept(prepared: &Prepared, model: &Path, threads: usize, kept: Option<&Path>) -> Result<Session> {
    let failed = |error: ort::Error| cannot_load(model, &prepared.describe(), error);
    prepared.session(threads, kept)?.commit_from_file(model).map_err(failed)
}

/// What a runtime's refusal of a model means, where it is one of those that users meet.
fn cannot_load(model: &Path, runtime: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let (shown, said) = (model.display(), error.to_string());
    let newest = |behind: &str| {
        let number = said.split_once(behind)?.1;
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        number[..end].parse::<u32>().ok()
    };
    let newer = "name a newer ONNX Runtime with `CAFT_ORT_DYLIB`";
    if let Some(newest) = newest("is till opset ") {
        let what = format!("`{shown}` uses newer ONNX operators than version {newest}, the last that {runtime} has");
        return Error::bad_input(what).hint(format!("export it for operator set {newest} or an older one, or {newer}"));
    }
    if let Some(newest) = newest("max supported IR version: ") {
        let what = format!("`{shown}` has a newer ONNX format than version {newest}, the last that {runtime} reads");
        let lower = "lower its `ir_version` if it uses nothing newer";
        return Error::bad_input(what).hint(format!("export it for an older version, {lower}, or {newer}"));
    }
    Error::bad_input(format!("ONNX Runtime cannot load `{shown}`")).because(error)
}

/// A compiled engine that was not used for this long is removed when another one is made.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The record's time is that of the last use. Without it the engine is only compiled again.
fn note_use(folder: &Path) {
    let file = fs::File::options().append(true).open(folder.join(RECORD));
    let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
}

fn sweep(compiled: &Path) {
    let Ok(entries) = fs::read_dir(compiled) else { return };
    for entry in entries.flatten() {
        let record = entry.path().join(RECORD);
        let touched = fs::metadata(record).or_else(|_| entry.metadata()).and_then(|metadata| metadata.modified());
        if touched.ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > UNUSED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn key(prepared: &Prepared, model: Digest, threads: usize) -> Digest {
    KeyWriter::new("compiled engine")
        .field("model", model.0)
        .field("runtime", prepared.runtime())
        .field("provider", prepared.choice.info.name)
        .field("precision", prepared.precision.name())
        .field("threads", threads.to_string())
        .field("processor", processor())
        .field("driver", Machine::here().nvidia_driver.unwrap_or_default())
        .finish()
}

/// What tells one kind of processor from another, as far as it is known.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or("").to_string();
    let windows = std::env::var("PROCESSOR_IDENTIFIER").unwrap_or_default();
    format!("{} {} {} {windows}", std::env::consts::ARCH, of("model name"), of("flags"))
}

fn compile(prepared: &Prepared, model: &Path, threads: usize, folder: &Path, digests: &DigestTable) -> Result<()> {
    let failed = |error: ort::Error| Error::failed("the engine cannot be compiled").because(error);
    let temporary = file::temporary_beside(folder);
    fs::create_dir_all(&temporary).map_err(Error::io("create", &temporary))?;
    let made = || -> Result<()> {
        ModelCompiler::new(prepared.session(threads, None)?)
            .and_then(|compiler| compiler.with_model_from_file(model))
            .and_then(|compiler| compiler.compile_to_file(temporary.join(MODEL)))
            .map_err(failed)?;
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&temporary).map_err(Error::io("read", &temporary))? {
            let path = entry.map_err(Error::io("read", &temporary))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, Digest::of_file(&path)?);
        }
        file::write_atomic(&temporary.join(RECORD), |out| Ok(serde_json::to_writer(out, &files)?))?;
        file::place_folder(&temporary, folder, || is_whole(folder, digests))
    };
    made().inspect_err(|_| {
        // The error at hand matters more than a temporary folder that stays.
        let _ = fs::remove_dir_all(&temporary);
    })
}

fn is_whole(folder: &Path, digests: &DigestTable) -> bool {
    let text = file::read_text(&folder.join(RECORD), 1 << 20).unwrap_or_default();
    let Ok(files) = serde_json::from_str::<BTreeMap<PathBuf, Digest>>(&text) else { return false };
    let sound = |(name, digest): (&PathBuf, &Digest)| digests.digest(&folder.join(name)).is_ok_and(|d| d == *digest);
    files.contains_key(Path::new(MODEL)) && files.iter().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_newer_model_says_what_the_runtime_has() {
        let said = |text: &str| cannot_load(Path::new("m.onnx"), "onnxruntime 1.31.1", std::io::Error::other(text));
        let error = said("Current official support for domain ai.onnx is till opset 26.\n");
        assert!(
            error.to_string().starts_with("`m.onnx` uses newer ONNX operators than version 26, the last that onnx")
        );
        let error = said("Unsupported model IR version: 14, max supported IR version: 13");
        assert!(error.hint_text().unwrap().contains("`CAFT_ORT_DYLIB`"), "{error}");
        assert_eq!(said("no such operator").to_string(), "ONNX Runtime cannot load `m.onnx`");
    }

    #[test]
    fn a_damaged_compiled_engine_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let digests = DigestTable::open(&Home::at(folder.path().join("home"))).unwrap();
        let compiled = folder.path().join("x");
        fs::create_dir(&compiled).unwrap();
        assert!(!is_whole(&compiled, &digests));
        fs::write(compiled.join(MODEL), b"model").unwrap();
        let record = serde_json::json!({MODEL: Digest::of(b"model").to_string()});
        fs::write(compiled.join(RECORD), record.to_string()).unwrap();
        assert!(is_whole(&compiled, &digests));
        fs::write(compiled.join(MODEL), b"mod3l").unwrap();
        assert!(!is_whole(&compiled, &digests));
        fs::write(compiled.join(RECORD), "{}").unwrap();
        assert!(!is_whole(&compiled, &digests));
    }

    #[test]
    fn what_was_not_used_for_long_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in [("new", 0), ("used", 40), ("old", 40)] {
            let record = folder.path().join(name).join(RECORD);
            fs::create_dir(record.parent().unwrap()).unwrap();
            fs::write(&record, "{}").unwrap();
            let time = SystemTime::now() - Duration::from_secs(age * 24 * 3600);
            fs::File::options().append(true).open(&record).unwrap().set_modified(time).unwrap();
        }
        note_use(&folder.path().join("used"));
        sweep(folder.path());
        let left = |name: &str| folder.path().join(name).exists();
        assert!(left("new") && left("used") && !left("old"));
    }
}
