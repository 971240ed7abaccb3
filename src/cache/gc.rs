//! What may be deleted, and deleting it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::info::ColumnInfo;
use super::layout::DAMAGED;
use super::store::Store;
use super::writer::STALE;
use crate::base::{Error, Result, file};

/// Which columns are garbage; without any rule none is.
#[derive(Debug, Clone, Copy, Default)]
pub struct GcRules {
    /// Those not used for so long.
    pub unused_for: Option<Duration>,
    /// Those made so long ago.
    pub older_than: Option<Duration>,
    /// Those used the longest time ago, until the rest has at most so many bytes.
    pub max_bytes: Option<u64>,
}

/// Something that may be deleted.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Garbage {
    /// The file or folder.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Why it may be deleted.
    pub why: String,
}

impl Store {
    /// What the rules call garbage, and what is garbage by any rule: what killed processes left behind,
    /// and damaged shards that were set aside. Nothing is deleted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn garbage(&self, rules: &GcRules) -> Result<Vec<Garbage>> {
        let mut garbage = left_behind(self.folder())?;
        let mut columns = self.columns()?;
        columns.sort_by_key(|info| std::cmp::Reverse(info.last_use));
        let mut kept = 0;
        for info in columns {
            match rules.verdict(&info, kept) {
                Some(why) => garbage.push(Garbage { bytes: info.bytes + info.waste, path: info.folder, why }),
                None => {
                    kept += info.bytes;
                    garbage.extend(left_behind(&info.folder)?);
                }
            }
        }
        Ok(garbage)
    }

    /// Deletes a file or folder of the store. A folder vanishes at once; processes that read from it go on.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn delete(&self, path: &Path) -> Result<()> {
        if !path.is_dir() {
            return std::fs::remove_file(path).map_err(Error::io("delete", path));
        }
        let gone = file::temporary_beside(path);
        std::fs::rename(path, &gone).map_err(Error::io("delete", path))?;
        std::fs::remove_dir_all(&gone).map_err(Error::io("delete", &gone))
    }
}

impl GcRules {
    /// Why a column is garbage, if it is, when `kept` bytes of columns used later are kept.
    fn verdict(&self, info: &ColumnInfo, kept: u64) -> Option<String> {
        let since = |time: SystemTime| time.elapsed().unwrap_or_default();
        let days = |age: Duration| format!("{:.1} days", age.as_secs_f64() / 86400.0);
        let unused = self.unused_for.filter(|limit| since(info.last_use) >= *limit);
        let old = self.older_than.filter(|limit| since(info.created) >= *limit);
        if unused.is_some() {
            return Some(format!("not used for {}", days(since(info.last_use))));
        }
        if old.is_some() {
            return Some(format!("made {} ago", days(since(info.created))));
        }
        self.max_bytes.filter(|limit| kept + info.bytes > *limit).map(|_| "over the size".into())
    }
}

/// Temporary files that no living process owns, and shards that were set aside.
fn left_behind(folder: &Path) -> Result<Vec<Garbage>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("read", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        let why = match () {
            () if name.starts_with(".tmp-") && age >= STALE => "left by a process that was killed",
            () if name.ends_with(DAMAGED) => "damaged",
            () => continue,
        };
        found.push(Garbage { path: entry.path(), bytes: metadata.len(), why: why.into() });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, Digest};
    use crate::cache::tests::{Sandbox, fill};

    fn touch(path: &Path, age: Duration) {
        let file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn columns_go_by_use_age_and_size_and_leavings_always() {
        let day = Duration::from_secs(86400);
        let mut sandbox = Sandbox::new(&[1000], DType::F32);
        let mut folders = Vec::new();
        for days in 0..4 {
            sandbox.spec.key = Digest::of(&[days]);
            fill(&sandbox.column(), 0..10, 10);
            folders.push(sandbox.column_folder());
            touch(&folders[usize::from(days)].join("last_use"), day * u32::from(days));
        }
        let garbage = |rules: GcRules| -> Vec<(PathBuf, String)> {
            sandbox.store.garbage(&rules).unwrap().into_iter().map(|item| (item.path, item.why)).collect()
        };
        assert!(garbage(GcRules::default()).is_empty());
        let unused = garbage(GcRules { unused_for: Some(day * 2), ..GcRules::default() });
        assert_eq!(unused[0], (folders[2].clone(), "not used for 2.0 days".into()));
        assert_eq!(unused.len(), 2);
        assert!(garbage(GcRules { older_than: Some(day), ..GcRules::default() }).is_empty());
        assert_eq!(garbage(GcRules { older_than: Some(Duration::ZERO), ..GcRules::default() }).len(), 4);
        let large = garbage(GcRules { max_bytes: Some(3 * 45_000), ..GcRules::default() });
        assert_eq!(large, [(folders[3].clone(), "over the size".to_string())]);

        for (name, age) in [(".tmp-1", day), (".tmp-2", Duration::ZERO), ("a.safetensors.damaged", Duration::ZERO)] {
            touch(&folders[0].join(name), age);
        }
        let left = garbage(GcRules::default());
        let names = [".tmp-1", "a.safetensors.damaged"].map(|name| folders[0].join(name));
        assert_eq!(left.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), names);
        left.iter().chain(&large).for_each(|(path, _)| sandbox.store.delete(path).unwrap());
        assert!(garbage(GcRules::default()).is_empty());
        assert_eq!(sandbox.store.columns().unwrap().len(), 3);
        assert!(sandbox.store.delete(&folders[3]).is_err());
        assert_eq!(std::fs::read_dir(sandbox.store.folder()).unwrap().count(), 3);
    }
}
