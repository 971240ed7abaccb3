//! Locks between processes, on a file that is only there to be locked.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::base::{Cancel, Error, Result};

/// Waits until no other process or thread holds the lock, and holds it until the file is dropped.
/// `waiting` is called once if there is something to wait for.
///
/// # Errors
/// The file cannot be made or locked, or the user asks to stop.
pub fn exclusive(path: &Path, cancel: &Cancel, waiting: impl FnOnce()) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let file = File::options().create(true).append(true).open(path).map_err(Error::io("create", path))?;
    let mut waiting = Some(waiting);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if let Some(waiting) = waiting.take() {
                    waiting();
                }
                cancel.check()?;
                std::thread::sleep(Duration::from_millis(50));
            }
            // Some network file systems have no locks; without one, work may be done twice but not wrongly.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
        }
    }
}
