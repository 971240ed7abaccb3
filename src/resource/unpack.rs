//! Taking a file or folder out of a zip archive (a wheel is one) that nobody has vouched for.
//!
//! Refused are names that leave the folder, links, encryption, and archives that unpack to more than the limits;
//! nothing is believed of the announced sizes. What is written appears whole or not at all.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::address::inside_path;
use crate::base::suggest::did_you_mean;
use crate::base::{Cancel, Error, Result, file};

/// What an archive may unpack to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes in all.
    pub bytes: u64,
    /// Files in all.
    pub files: usize,
    /// Unpacked bytes per packed byte of one file. Deflate can reach 1,032 on bytes that are all alike.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 32 << 30, files: 2_000_000, ratio: 500 }
    }
}

/// Files below this size may have any ratio.
const SMALL: u64 = 1 << 20;

/// Unpacks a file, or a folder with all below it, to `out`, which must not exist. An empty `inside` is the whole
/// archive. `advanced` is told the bytes written so far. Returns whether it was a folder.
///
/// # Errors
/// The archive is not one, is damaged or hostile, or has no such file; [`Error::Interrupted`].
pub fn unpack(
    archive: &Path,
    inside: &str,
    out: &Path,
    limits: Limits,
    cancel: &Cancel,
    mut advanced: impl FnMut(u64),
) -> Result<bool> {
    let bad = |what: String| Error::failed(format!("`{}`: {what}", archive.display()));
    let broken = |error: zip::result::ZipError| bad("not a sound zip archive".into()).because(error);
    let reader = BufReader::new(File::open(archive).map_err(Error::io("open", archive))?);
    let mut zip = ZipArchive::new(reader).map_err(broken)?;
    let chosen = choose(&mut zip, inside, limits).map_err(|refused| match refused {
        Refused::Broken(error) => broken(error),
        Refused::Hostile(what) => bad(what).hint("the archive is damaged or made to do harm; nothing was kept"),
        Refused::Missing(near) => Error::bad_input(format!("`{}` has no `{inside}`{near}", archive.display())),
    })?;

    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let temporary = Removed(file::temporary_beside(out));
    let mut written = 0;
    for member in &chosen.members {
        let target = match &member.below {
            Some(below) => temporary.0.join(below),
            None => temporary.0.clone(),
        };
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let mut source = zip.by_index(member.index).map_err(broken)?;
        let announced = source.size();
        let mut file = File::create_new(&target).map_err(Error::io("create", &target))?;
        let mut buffer = vec![0; 1 << 16];
        let mut size = 0;
        loop {
            cancel.check()?;
            // The end of the entry is where its checksum is compared.
            let n = source.read(&mut buffer).map_err(|e| bad(format!("`{}` is damaged", member.name)).because(e))?;
            if n == 0 {
                break;
            }
            size += n as u64;
            if size > announced {
                return Err(bad(format!("`{}` is longer than announced", member.name)));
            }
            file.write_all(&buffer[..n]).map_err(Error::io("write", &target))?;
            written += n as u64;
            advanced(written);
        }
    }
    if chosen.folder {
        fs::create_dir_all(&temporary.0).map_err(Error::io("create", &temporary.0))?;
    }
    fs::rename(&temporary.0, out).map_err(Error::io("write", out))?;
    Ok(chosen.folder)
}

/// A path that is removed when this is dropped, if it is still there.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = if self.0.is_dir() { fs::remove_dir_all(&self.0) } else { fs::remove_file(&self.0) };
    }
}

struct Chosen {
    folder: bool,
    members: Vec<Member>,
}

struct Member {
    index: usize,
    name: String,
    /// The path below the asked folder; `None` if the file itself was asked for.
    below: Option<String>,
}

enum Refused {
    Broken(zip::result::ZipError),
    Hostile(String),
    Missing(String),
}

fn choose<R: Read + std::io::Seek>(zip: &mut ZipArchive<R>, inside: &str, limits: Limits) -> Result<Chosen, Refused> {
    let mut chosen = Chosen { folder: inside.is_empty(), members: Vec::new() };
    let mut names = Vec::new();
    let mut bytes = 0u64;
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(Refused::Broken)?;
        let name = entry.name().map_err(Refused::Broken)?.into_owned();
        let plain = name.strip_suffix('/').unwrap_or(&name);
        if inside_path(plain).is_err() || plain.contains('\0') {
            return Err(Refused::Hostile(format!("the name `{}` leaves its folder", name.escape_debug())));
        }
        let below = match plain.strip_prefix(inside) {
            Some("") => None,
            Some(rest) if inside.is_empty() => Some(rest.to_string()),
            Some(rest) if rest.starts_with('/') => Some(rest[1..].to_string()),
            _ => {
                names.push(plain.to_string());
                continue;
            }
        };
        if entry.is_symlink() {
            return Err(Refused::Hostile(format!("`{name}` is a link")));
        }
        chosen.folder |= below.is_some() || entry.is_dir();
        if entry.is_dir() {
            continue;
        }
        if entry.encrypted() {
            return Err(Refused::Hostile(format!("`{name}` is encrypted")));
        }
        let (size, packed) = (entry.size(), entry.compressed_size());
        if size > SMALL && size / limits.ratio > packed {
            return Err(Refused::Hostile(format!("`{name}` unpacks to more than {} times its size", limits.ratio)));
        }
        bytes = bytes.saturating_add(size);
        chosen.members.push(Member { index, name, below });
        if bytes > limits.bytes || chosen.members.len() > limits.files {
            let (most, files) = (limits.bytes, limits.files);
            return Err(Refused::Hostile(format!("it unpacks to more than {most} bytes or {files} files")));
        }
    }
    if chosen.members.is_empty() {
        return Err(Refused::Missing(did_you_mean(inside, names.iter().map(String::as_str))));
    }
    if chosen.folder && chosen.members.iter().any(|m| m.below.is_none()) {
        return Err(Refused::Hostile(format!("`{inside}` is both a file and a folder")));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::write::{SimpleFileOptions, ZipWriter};

    fn archive(folder: &Path, files: &[(&str, &[u8])]) -> PathBuf {
        let path = folder.join("a.whl");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in files {
            let mode = if bytes.starts_with(b"->") { 0o120_777 } else { 0o644 };
            if mode == 0o644 {
                zip.start_file(*name, SimpleFileOptions::default()).unwrap();
                zip.write_all(bytes).unwrap();
            } else {
                zip.add_symlink(*name, "/etc/passwd", SimpleFileOptions::default()).unwrap();
            }
        }
        zip.finish().unwrap();
        path
    }

    fn take(archive: &Path, inside: &str, out: &Path) -> Result<bool> {
        unpack(archive, inside, out, Limits::default(), &Cancel::default(), |_| ())
    }

    #[test]
    fn files_and_folders_come_out_whole() {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 3] = [("a/x.txt", b"x"), ("a/b/y.txt", b"yy"), ("ab/z.txt", b"z")];
        let archive = archive(folder.path(), &files);
        assert!(!take(&archive, "a/x.txt", &folder.path().join("x")).unwrap());
        assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"x");
        assert!(take(&archive, "a", &folder.path().join("a")).unwrap());
        assert_eq!(fs::read(folder.path().join("a/b/y.txt")).unwrap(), b"yy");
        assert!(!folder.path().join("a/z.txt").exists());
        assert!(take(&archive, "", &folder.path().join("all")).unwrap());
        assert_eq!(fs::read(folder.path().join("all/ab/z.txt")).unwrap(), b"z");
        let error = take(&archive, "a/x.tx", &folder.path().join("n")).unwrap_err();
        assert!(error.to_string().ends_with("has no `a/x.tx`; did you mean `a/x.txt`?"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn hostile_archives_are_refused_and_leave_nothing() {
        for (files, part) in [
            (vec![("../x", b"x".as_slice())], "leaves its folder"),
            (vec![("a", b"a"), ("/x", b"x")], "leaves its folder"),
            (vec![("a\\..\\..\\x", b"x")], "leaves its folder"),
            (vec![("a", b"->")], "is a link"),
            (vec![("a", &vec![0; 4 << 20])], "more than 500 times"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let archive = archive(folder.path(), &files);
            let error = take(&archive, "", &folder.path().join("out")).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path(), &[("a", b"aaaa"), ("b", b"bbbb")]);
        for limits in [Limits { bytes: 7, ..Limits::default() }, Limits { files: 1, ..Limits::default() }] {
            let out = folder.path().join("out");
            let error = unpack(&archive, "", &out, limits, &Cancel::default(), |_| ()).unwrap_err();
            assert!(error.to_string().contains("unpacks to more than"), "{error}");
        }
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..20_000u32).map(|i| ((i * i) >> 3) as u8).collect();
        let archive = archive(folder.path(), &[("a.txt", &text)]);
        let whole = fs::read(&archive).unwrap();
        let out = folder.path().join("out");
        for i in (0..whole.len()).step_by(97) {
            let mut bytes = whole.clone();
            bytes[i] ^= 0x55;
            fs::write(&archive, &bytes).unwrap();
            if take(&archive, "a.txt", &out).is_ok() {
                assert_eq!(fs::read(&out).unwrap(), text, "byte {i}");
                fs::remove_file(&out).unwrap();
            }
            fs::write(&archive, &whole[..i]).unwrap();
            assert!(take(&archive, "a.txt", &out).is_err(), "cut at {i}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
