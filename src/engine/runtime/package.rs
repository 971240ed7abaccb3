//! A library that a wheel carries, pinned for each platform, and its installation under the home.
//!
//! Wheels are only the carrier: nothing of Python is used. What is kept of one is
//! `runtimes/<name>-<version>-<platform>/` with its libraries and `package.json`, written last.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::home::Home;
use crate::base::{Digest, Error, Result, file};
use crate::resource::{Build, Fetcher, Sha256, Wheel};

/// A kind of machine that libraries are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Platform {
    /// Linux with glibc on x86-64.
    #[serde(rename = "linux-x86_64")]
    LinuxX86,
    /// Linux with glibc on 64-bit ARM.
    #[serde(rename = "linux-aarch64")]
    LinuxArm,
    /// macOS on Apple silicon.
    #[serde(rename = "macos-arm64")]
    MacArm,
    /// Windows on x86-64.
    #[serde(rename = "windows-x86_64")]
    WindowsX86,
}

impl Platform {
    /// The machine that this program is built for.
    ///
    /// # Errors
    /// There are no pinned libraries for it.
    pub fn here() -> Result<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") if cfg!(target_env = "gnu") => Ok(Self::LinuxX86),
            ("linux", "aarch64") if cfg!(target_env = "gnu") => Ok(Self::LinuxArm),
            ("macos", "aarch64") => Ok(Self::MacArm),
            ("windows", "x86_64") => Ok(Self::WindowsX86),
            (os, arch) => Err(Error::failed(format!("there is no pinned ONNX Runtime for {os} on {arch}"))
                .hint("name a library of version 1.31 or later with `CAFT_ORT_DYLIB`")),
        }
    }

    /// The name in folders and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinuxX86 => "linux-x86_64",
            Self::LinuxArm => "linux-aarch64",
            Self::MacArm => "macos-arm64",
            Self::WindowsX86 => "windows-x86_64",
        }
    }
}

/// A package at one version.
#[derive(Debug)]
pub struct Package {
    /// The name of the wheel.
    pub name: &'static str,
    /// The version.
    pub version: &'static str,
    /// The wheels, at most one per platform.
    pub wheels: &'static [PinnedWheel],
}

/// One wheel of a package.
#[derive(Debug)]
pub struct PinnedWheel {
    /// For which machines.
    pub platform: Platform,
    /// The ABI in the wheel's name.
    pub abi: &'static str,
    /// The platform in the wheel's name.
    pub tag: &'static str,
    /// The wheel's SHA-256.
    pub sha256: &'static str,
    /// What is kept: files or folders in the wheel, each put directly below the installation.
    pub keep: &'static [&'static str],
}

/// An installed package, as its `package.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The name of the wheel.
    pub name: String,
    /// The version.
    pub version: String,
    /// The platform.
    pub platform: Platform,
    /// The SHA-256 of the wheel it came from.
    pub wheel: Sha256,
    /// Every file below the folder.
    pub files: Vec<InstalledFile>,
    /// The folder.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// One file of an installed package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledFile {
    /// The path below the folder, with `/`.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
}

impl Installed {
    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// A file by its path below the folder.
    ///
    /// # Errors
    /// There is none.
    pub fn file(&self, path: &str) -> Result<(PathBuf, Digest)> {
        let found = self.files.iter().find(|file| file.path == path);
        let found = found.ok_or_else(|| Error::failed(format!("`{}` has no `{path}`", self.folder.display())))?;
        Ok((self.folder.join(path), found.digest))
    }

    /// Reads an installation; `None` if it is not there, not whole, or damaged.
    fn read(folder: &Path) -> Option<Self> {
        let text = file::read_text(&folder.join("package.json"), 1 << 20).ok()?;
        let installed: Self = serde_json::from_str(&text).ok()?;
        let whole = installed.files.iter().all(|f| fs::metadata(folder.join(&f.path)).is_ok_and(|m| m.len() == f.size));
        whole.then(|| Self { folder: folder.into(), ..installed })
    }
}

impl Package {
    /// The wheel for a platform.
    ///
    /// # Errors
    /// There is none.
    pub fn wheel(&self, platform: Platform) -> Result<&PinnedWheel> {
        self.wheels.iter().find(|wheel| wheel.platform == platform).ok_or_else(|| {
            let platforms: Vec<&str> = self.wheels.iter().map(|wheel| wheel.platform.name()).collect();
            Error::failed(format!("`{} {}` has no wheel for {}", self.name, self.version, platform.name()))
                .hint(format!("it is built for {}", platforms.join(", ")))
        })
    }

    /// The installation, if it is whole.
    pub fn installed(&self, home: &Home, platform: Platform) -> Option<Installed> {
        Installed::read(&home.path().join("runtimes").join(self.folder_name(platform)))
    }

    /// Installs the package unless it is there already.
    ///
    /// # Errors
    /// There is no wheel for the platform, it cannot be fetched, or it is not the pinned one.
    pub fn install(&self, fetcher: &Fetcher<'_>, platform: Platform) -> Result<Installed> {
        if let Some(installed) = self.installed(fetcher.home(), platform) {
            return Ok(installed);
        }
        let pinned = self.wheel(platform)?;
        let sha256: Sha256 = pinned.sha256.parse()?;
        let wheel = Wheel {
            package: self.name.into(),
            version: self.version.into(),
            build: Some(Build { abi: pinned.abi.into(), platform: pinned.tag.into() }),
            sha256: Some(sha256),
        };
        let runtimes = fetcher.home().folder("runtimes")?;
        let folder = runtimes.join(self.folder_name(platform));
        let title = format!("{} {}", self.name, self.version);
        let _lock = fetcher.lock(&runtimes.join(format!("{}.lock", self.folder_name(platform))), &title)?;
        if let Some(installed) = Installed::read(&folder) {
            return Ok(installed);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(Error::io("remove", &folder))?;
        }
        let archive = fetcher.fetch_wheel(&wheel)?;
        for inside in pinned.keep {
            let name = inside.rsplit('/').next().unwrap_or(inside);
            fetcher.unpack(&archive, inside, &folder.join(name))?;
        }
        let mut files = Vec::new();
        list(&folder, &folder, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let (name, version) = (self.name.into(), self.version.into());
        let installed = Installed { name, version, platform, wheel: sha256, files, folder: folder.clone() };
        file::write_atomic(&folder.join("package.json"), |out| Ok(serde_json::to_writer_pretty(out, &installed)?))?;
        // The libraries are out; the wheel would only double their size on disk.
        fetcher.forget(&archive)?;
        Ok(installed)
    }

    /// Removes the installation. Returns whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, home: &Home, platform: Platform) -> Result<bool> {
        let folder = home.path().join("runtimes").join(self.folder_name(platform));
        match fs::remove_dir_all(&folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", &folder)(error)),
        }
    }

    fn folder_name(&self, platform: Platform) -> String {
        format!("{}-{}-{}", self.name, self.version, platform.name())
    }
}

/// Every file below a folder with its digest.
fn list(root: &Path, folder: &Path, out: &mut Vec<InstalledFile>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.is_dir() {
            list(root, &path, out)?;
            continue;
        }
        let relative: Vec<&str> = path.strip_prefix(root).unwrap_or(&path).iter().filter_map(|p| p.to_str()).collect();
        let size = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        out.push(InstalledFile { path: relative.join("/"), size, digest: Digest::of_file(&path)? });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_installation_is_not_one() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("runtimes/x-1.0-linux-x86_64");
        fs::create_dir_all(&folder).unwrap();
        let package = Package { name: "x", version: "1.0", wheels: &[] };
        let home = Home::at(home.path());
        assert!(package.installed(&home, Platform::LinuxX86).is_none());
        fs::write(folder.join("libx.so"), b"abc").unwrap();
        let mut files = Vec::new();
        list(&folder, &folder, &mut files).unwrap();
        let installed = Installed {
            name: "x".into(),
            version: "1.0".into(),
            platform: Platform::LinuxX86,
            wheel: Sha256::of(b""),
            files,
            folder: folder.clone(),
        };
        fs::write(folder.join("package.json"), serde_json::to_vec(&installed).unwrap()).unwrap();
        let read = package.installed(&home, Platform::LinuxX86).unwrap();
        assert_eq!(read, installed);
        assert_eq!(read.file("libx.so").unwrap().1, Digest::of(b"abc"));
        assert!(read.file("liby.so").is_err());
        fs::write(folder.join("libx.so"), b"ab").unwrap();
        assert!(package.installed(&home, Platform::LinuxX86).is_none());
        assert!(package.remove(&home, Platform::LinuxX86).unwrap());
        assert!(!package.remove(&home, Platform::LinuxX86).unwrap());
        assert!(package.wheel(Platform::MacArm).is_err());
    }
}
