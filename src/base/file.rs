//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{Error, Result};

/// Writes a file beside its final name and renames it into place, so that a reader or a crash never
/// sees half of it. The data reaches the disk before the rename.
///
/// # Errors
/// Those of `write` and of the file system; the temporary file is removed.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let temporary = temporary_beside(path);
    let attempt = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create_new(&temporary)?);
        write(&mut file)?;
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(|source| {
        // The error at hand matters more than a temporary file that stays.
        let _ = fs::remove_file(&temporary);
        Error::Io { action: "write", path: path.to_path_buf(), source }
    })
}

/// Writes bytes atomically; see [`write_atomic`].
///
/// # Errors
/// Those of the file system.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |file| file.write_all(bytes))
}

/// A name in the same folder that no other process or thread uses: it begins with `.tmp-`.
pub fn temporary_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".tmp-{}-{nanos:x}-{count}", std::process::id()))
}

/// Renames a finished folder to its name. One that is there already and `whole` stays, since another process may be
/// reading it, and `temporary` is removed; one that is not whole is replaced.
///
/// # Errors
/// Those of the file system.
pub fn place_folder(temporary: &Path, folder: &Path, whole: impl FnOnce() -> bool) -> Result<()> {
    // A folder that holds something cannot be renamed over, so of several processes one succeeds here.
    let Err(error) = fs::rename(temporary, folder) else { return Ok(()) };
    if !folder.exists() {
        return Err(Error::io("create", folder)(error));
    }
    // What is left behind below does no harm, so that it is no error.
    if whole() {
        let _ = fs::remove_dir_all(temporary);
        return Ok(());
    }
    let old = temporary_beside(folder);
    fs::rename(folder, &old).map_err(Error::io("replace", folder))?;
    let _ = fs::remove_dir_all(&old);
    fs::rename(temporary, folder).map_err(Error::io("create", folder))
}

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, is longer, is a folder, or is not UTF-8; each in one clear line.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
    if metadata.is_dir() {
        return Err(Error::bad_input(format!("`{}` is a folder, not a file", path.display())));
    }
    if metadata.len() > limit {
        let (size, path) = (metadata.len(), path.display());
        return Err(Error::bad_input(format!("`{path}` has {size} bytes; at most {limit} are read")));
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::bad_input(format!("`{}` is not UTF-8 text (byte {at})", path.display())).hint("save it as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_placed_once_and_replaced_when_damaged() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("it");
        let put = |text: &str, whole: bool| {
            let temporary = temporary_beside(&place);
            fs::create_dir(&temporary).unwrap();
            fs::write(temporary.join("a"), text).unwrap();
            place_folder(&temporary, &place, || whole).unwrap();
            read_text(&place.join("a"), 10).unwrap()
        };
        assert_eq!(put("one", false), "one");
        assert_eq!(put("two", true), "one", "somebody may be reading it");
        assert_eq!(put("three", false), "three");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        write_bytes(&path, b"one").unwrap();
        let failed = write_atomic(&path, |file| {
            file.write_all(b"tw")?;
            Err(std::io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(read_text(&path, 10).unwrap(), "one");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn reading_text_is_bounded_and_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, [b'a', 0xff]).unwrap();
        assert!(read_text(&path, 10).unwrap_err().to_string().ends_with("is not UTF-8 text (byte 1)"));
        assert!(read_text(&path, 1).unwrap_err().to_string().contains("at most 1"));
        assert_eq!(read_text(folder.path(), 10).unwrap_err().exit_code(), 2);
        assert_eq!(read_text(&folder.path().join("none"), 10).unwrap_err().exit_code(), 2);
    }
}
