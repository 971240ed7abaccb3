//! The store: all columns below one folder.

use std::path::PathBuf;

use super::column::Column;
use super::info::{Change, ColumnInfo, changes};
use super::layout::FORMAT;
use super::spec::ColumnSpec;
use crate::base::{Digest, Error, Home, Progress, Result};

/// The cache of a home.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store of a home. Nothing is written.
    ///
    /// # Errors
    /// The home's folder cannot be made.
    pub fn open(home: &Home) -> Result<Self> {
        Ok(Self { folder: home.folder("cache")?.join(FORMAT.to_string()) })
    }

    /// The folder of this format version; it may be missing.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Opens a column, which may be empty yet. Damaged shards are set aside, with a warning each.
    ///
    /// # Errors
    /// The column's folder or a shard in it cannot be read, or the spec's rows cannot be stored.
    pub fn column(&self, spec: &ColumnSpec, progress: &dyn Progress) -> Result<Column> {
        Column::open(self.folder.join(spec.key.to_string()), spec, progress)
    }

    /// All columns, in the order of their keys. Folders that are not columns are passed over.
    ///
    /// # Errors
    /// The store's folder cannot be read.
    pub fn columns(&self) -> Result<Vec<ColumnInfo>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", &self.folder))?,
        };
        let mut folders: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.parse::<Digest>().is_ok()))
            .collect();
        folders.sort();
        Ok(folders.into_iter().filter_map(|folder| ColumnInfo::read(folder).ok()).collect())
    }

    /// The one column whose key begins with these digits.
    ///
    /// # Errors
    /// No column's key does, or several do.
    pub fn find(&self, prefix: &str) -> Result<ColumnInfo> {
        let mut found = self.columns()?;
        found.retain(|info| info.spec.key.to_string().starts_with(&prefix.to_lowercase()));
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Error::bad_input(format!("no stored column's key begins with `{prefix}`"))
                .hint("`caft cache ls` lists them")),
            count => {
                Err(Error::bad_input(format!("the keys of {count} columns begin with `{prefix}`"))
                    .hint("give more digits"))
            }
        }
    }

    /// The stored column that differs from a wanted one in the fewest ingredients (of several, the one
    /// last used), with the ingredients that differ; the reason of a miss. The wanted column itself counts
    /// when it is there, with no changes.
    ///
    /// # Errors
    /// The store's folder cannot be read.
    pub fn nearest(&self, spec: &ColumnSpec) -> Result<Option<(ColumnInfo, Vec<Change>)>> {
        let columns = self.columns()?.into_iter().map(|info| {
            let changes = changes(&info.spec.ingredients, &spec.ingredients);
            (info, changes)
        });
        Ok(columns.min_by_key(|(info, changes)| (changes.len(), std::cmp::Reverse(info.last_use))))
    }

    /// Bytes that may still be written, where the system tells.
    pub fn free_bytes(&self) -> Option<u64> {
        let folder = self.folder.ancestors().find(|folder| folder.is_dir())?;
        #[cfg(unix)]
        return rustix::fs::statvfs(folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        #[cfg(not(unix))]
        return folder.parent().and(None);
    }

    /// Bytes a second that are read from this disk, measured by writing and reading `bytes`; `None` where what was
    /// written cannot be dropped from memory first.
    pub fn read_speed(&self, bytes: usize) -> Option<f64> {
        #[cfg(target_os = "linux")]
        {
            use std::io::{Read as _, Write as _};
            let folder = self.folder.ancestors().find(|folder| folder.is_dir())?;
            let mut file = tempfile_in(folder)?;
            let mut block = vec![0x5a; 1 << 20];
            (0..bytes.div_ceil(block.len())).try_for_each(|_| file.write_all(&block)).ok()?;
            file.sync_all().ok()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).ok()?;
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).ok()?;
            let (begin, mut read) = (std::time::Instant::now(), 0);
            while let Ok(count @ 1..) = file.read(&mut block) {
                read += count;
            }
            Some(read as f64 / begin.elapsed().as_secs_f64().max(1e-9))
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = bytes;
            None
        }
    }
}

/// A file without a name, which is gone when it is closed.
#[cfg(target_os = "linux")]
fn tempfile_in(folder: &std::path::Path) -> Option<std::fs::File> {
    let path = crate::base::file::temporary_beside(&folder.join("probe"));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).ok()?;
    std::fs::remove_file(path).ok()?;
    Some(file)
}
