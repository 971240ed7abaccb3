//! Files and folders of this machine.

use std::path::Path;

use super::digests::DigestTable;
use super::fetch::Fetched;
use super::sha256::Sha256;
use crate::base::{Error, KeyWriter, Result};

/// A path as it is: nothing is copied.
///
/// # Errors
/// It does not exist or cannot be read, or its bytes are not those that `sha256` pins.
pub(super) fn fetch(path: &Path, sha256: Option<Sha256>, digests: &DigestTable) -> Result<Fetched> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if metadata.is_dir() {
        if sha256.is_some() {
            let what = format!("`{}` is a folder; a sha256 pins a file", path.display());
            return Err(Error::bad_input(what));
        }
        let absolute = std::path::absolute(path).map_err(Error::io("read", path))?;
        let key = KeyWriter::new("local folder").field("path", absolute.as_os_str().as_encoded_bytes());
        return Ok(Fetched { path: path.into(), digest: key.finish() });
    }
    if let Some(expected) = sha256 {
        let got = Sha256::of_file(path)?;
        if got != expected {
            let what = format!(
                "`{}` is not the file that the recipe pins: expected sha256 {expected}, got {got}",
                path.display()
            );
            return Err(Error::bad_input(what).hint("get the right file, or correct the `sha256`"));
        }
    }
    Ok(Fetched { path: path.into(), digest: digests.digest(path)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;
    use crate::base::home::Home;

    #[test]
    fn a_file_is_checked_and_a_folder_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let digests = DigestTable::open(&Home::at(folder.path().join("home"))).unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, b"abc").unwrap();
        let fetched = fetch(&file, Some(Sha256::of(b"abc")), &digests).unwrap();
        assert_eq!(fetched, Fetched { path: file.clone(), digest: Digest::of(b"abc") });
        let error = fetch(&file, Some(Sha256::of(b"x")), &digests).unwrap_err();
        assert!(error.to_string().contains(&Sha256::of(b"abc").to_string()), "{error}");
        assert_eq!(fetch(folder.path(), None, &digests).unwrap().path, folder.path());
        assert_eq!(fetch(&folder.path().join("none"), None, &digests).unwrap_err().exit_code(), 2);
        assert_eq!(fetch(folder.path(), Some(Sha256::of(b"")), &digests).unwrap_err().exit_code(), 2);
    }
}
