//! Reading every byte of a column against its checksums.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::column::list;
use super::info::ColumnInfo;
use super::shard::{self, Shard, Unusable};
use super::store::Store;
use crate::base::progress::{Unit, work};
use crate::base::{Cancel, Error, Event, Progress, Result};

/// What verification found.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Verified {
    /// Shards that are good.
    pub shards: u64,
    /// Rows of those.
    pub rows: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Shards that are not, with what is wrong. They were set aside where the folder can be written.
    pub damaged: Vec<(PathBuf, String)>,
}

impl Store {
    /// Checks every block of every shard of a column. Damaged shards are set aside; the next run computes their rows.
    ///
    /// # Errors
    /// A file cannot be read, or the work was cancelled.
    pub fn verify(&self, column: &ColumnInfo, progress: &dyn Progress, cancel: &Cancel) -> Result<Verified> {
        let mut paths = list(&column.folder)?;
        paths.sort();
        let total = paths.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum();
        let done = AtomicU64::new(0);
        let advance = |bytes: usize| {
            let done = done.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
            progress.event(Event::WorkAdvanced { done, detail: String::new() });
        };
        let check = |path: PathBuf| -> Result<Shard, (PathBuf, Unusable)> {
            let failed = |problem| (path.clone(), problem);
            let shard = Shard::open(&column.spec, path.clone(), true).map_err(failed)?;
            shard.check_all(cancel, &advance).map_err(failed)?;
            Ok(shard)
        };
        let checked: Vec<_> =
            work(progress, format!("verify {}", column.spec.tensor()), Some(total), Unit::Bytes, || {
                paths.into_par_iter().map(check).collect()
            });
        let mut verified = Verified::default();
        for result in checked {
            match result {
                Ok(shard) => {
                    verified.shards += 1;
                    verified.rows += shard.layout.rows as u64;
                    verified.bytes += shard.len() as u64;
                }
                Err((_, Unusable::Gone)) => {}
                Err((_, Unusable::Error(error))) => return Err(error),
                Err((path, Unusable::Damaged(why))) => {
                    shard::set_aside(&path);
                    verified.damaged.push((path, why));
                }
            }
        }
        Ok(verified)
    }
}

impl Shard {
    fn check_all(&self, cancel: &Cancel, advance: &(impl Fn(usize) + Sync)) -> Result<(), Unusable> {
        (0..self.layout.blocks()).try_for_each(|block| {
            cancel.check().map_err(Unusable::Error)?;
            let bytes = self.layout.block(block);
            self.ensure(bytes.clone())?;
            advance(bytes.len());
            Ok(())
        })
    }
}

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

#[cfg(test)]
mod tests {
    use crate::base::progress::Silent;
    use crate::base::{Cancel, DType};
    use crate::cache::tests::{Sandbox, edit, fill};

    #[test]
    fn a_flipped_byte_anywhere_is_found_and_its_shard_set_aside() {
        let sandbox = Sandbox::new(&[50_000], DType::F32);
        fill(&sandbox.column(), 0..40, 10);
        let info = || sandbox.store.columns().unwrap().remove(0);
        let verify = || sandbox.store.verify(&info(), &Silent, &Cancel::default()).unwrap();
        let verified = verify();
        assert_eq!((verified.shards, verified.rows, verified.damaged.len()), (4, 40, 0));
        assert_eq!(verified.bytes, 4 * (4096 + 10 * 200_032));
        let victim = sandbox.shards()[2].clone();
        edit(&victim, |bytes| bytes[1_500_000] ^= 1);
        let verified = verify();
        assert_eq!((verified.shards, verified.rows), (3, 30));
        assert_eq!(verified.damaged, [(victim.clone(), "block 1 of 2 fails its checksum".to_string())]);
        assert!(!victim.exists() && verify().damaged.is_empty());
        let cancelled = Cancel::default();
        cancelled.cancel();
        assert_eq!(sandbox.store.verify(&info(), &Silent, &cancelled).unwrap_err().exit_code(), 130);
    }
}
