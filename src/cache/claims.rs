//! Claims: who computes what, so that processes that fill the same columns split the work.
//!
//! ```text
//! CAFT_HOME/cache/1/claims/<pass>/      one pass: the columns that are filled together
//!   <part>                              a part of the samples is in work; the file holds the holder's name
//!   <holder>.alive                      a number that grows while the holder lives
//! ```
//!
//! A claim is a lease: it holds as long as its holder's number grows. Whoever sees the same number for longer
//! than the lease, by a clock of its own, takes the part over, so that neither clocks that differ nor holders
//! that were killed do harm; a holder that is known to be dead, because it ran on this machine, is not waited
//! for. Claims only save work: where they fail, or two processes take one part over at the same time, rows are
//! computed twice, and of two rows one wins as always.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::store::Store;
use crate::base::{Digest, Error, KeyWriter, Result, file};

/// How long a holder may be silent before its claims are void.
pub const LEASE: Duration = Duration::from_secs(20);

/// More than any file of claims holds.
const MOST: u64 = 4096;
/// The ending of the files that say that a holder lives.
const ALIVE: &str = "alive";

/// The claims of this process in one pass. Dropped, they are given back.
pub struct Claims {
    folder: PathBuf,
    holder: String,
    lease: Duration,
    held: Mutex<HashSet<String>>,
    /// For each other holder the number last seen, and when it was first seen.
    seen: Mutex<HashMap<String, (Option<String>, Instant)>>,
    beat: Arc<(Mutex<bool>, Condvar)>,
    beating: Option<JoinHandle<()>>,
}

impl Claims {
    /// Begins to claim parts of a pass over some columns.
    ///
    /// # Errors
    /// The folder of claims cannot be written.
    pub fn open(store: &Store, columns: &[Digest], lease: Duration) -> Result<Self> {
        let mut keys = columns.to_vec();
        keys.sort_unstable();
        let pass = KeyWriter::new("pass").json("columns", &keys).finish();
        let folder = store.folder().join("claims").join(pass.short(32));
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let holder = this_holder();
        let alive = folder.join(&holder).with_extension(ALIVE);
        file::write_bytes(&alive, b"0")?;
        let beat = Arc::new((Mutex::new(false), Condvar::new()));
        let beating = {
            let beat = Arc::clone(&beat);
            std::thread::spawn(move || keep_alive(&alive, lease / 8, &beat))
        };
        let (held, seen) = Default::default();
        Ok(Self { folder, holder, lease, held, seen, beat, beating: Some(beating) })
    }

    /// Claims a part, by any name that all processes give it. Whether it is this process's to compute: also where
    /// nobody could say so.
    pub fn take(&self, part: &Digest) -> bool {
        let name = part.short(32);
        let path = self.folder.join(&name);
        for _ in 0..3 {
            match File::create_new(&path).and_then(|mut file| file.write_all(self.holder.as_bytes())) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                // Without claims rows may be computed twice, which costs less than not at all.
                Ok(()) | Err(_) => break,
            }
            match self.holder_of(&path) {
                Some(holder) if holder == self.holder => break,
                Some(holder) if self.is_alive(&holder) => return false,
                // Someone removed it, or may: then there is another round.
                _ => drop(std::fs::remove_file(&path)),
            }
        }
        lock(&self.held).insert(name);
        true
    }

    /// Gives a part back, because it is stored.
    pub fn release(&self, part: &Digest) {
        let name = part.short(32);
        if lock(&self.held).remove(&name) {
            // One that stays is void when this process ends.
            let _ = std::fs::remove_file(self.folder.join(name));
        }
    }

    /// Who holds a claim; an empty name if it is not written yet.
    fn holder_of(&self, path: &Path) -> Option<String> {
        file::read_text(path, MOST).ok()
    }

    fn is_alive(&self, holder: &str) -> bool {
        if is_dead_here(holder) {
            return false;
        }
        let number = file::read_text(&self.folder.join(holder).with_extension(ALIVE), MOST).ok();
        let mut seen = lock(&self.seen);
        let (last, since) = seen.entry(holder.to_string()).or_insert_with(|| (number.clone(), Instant::now()));
        if *last != number {
            (*last, *since) = (number, Instant::now());
        }
        since.elapsed() < self.lease
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        *lock(&self.beat.0) = true;
        self.beat.1.notify_all();
        if let Some(beating) = self.beating.take() {
            let _ = beating.join();
        }
        // What cannot be removed is void: nobody keeps it alive.
        for part in lock(&self.held).drain() {
            let _ = std::fs::remove_file(self.folder.join(part));
        }
        let _ = std::fs::remove_file(self.folder.join(&self.holder).with_extension(ALIVE));
        remove_dead(&self.folder);
        // Only an empty folder goes.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Counts on in a file until told to stop.
fn keep_alive(path: &Path, pause: Duration, (stop, told): &(Mutex<bool>, Condvar)) {
    let mut stopped = lock(stop);
    for count in 1u64.. {
        let waited = told.wait_timeout(stopped, pause).unwrap_or_else(PoisonError::into_inner);
        stopped = waited.0;
        if *stopped {
            return;
        }
        // A number that does not reach the disk costs the claims, and so some work, but no row.
        let _ = std::fs::write(path, count.to_string());
    }
}

/// Removes what holders left that are known to be dead; where nobody else lives, all that is left.
fn remove_dead(folder: &Path) {
    let entries = || std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_sign = |path: &PathBuf| path.extension().is_some_and(|extension| extension == ALIVE);
    let holder_of = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    for path in entries().filter(is_sign).filter(|path| is_dead_here(&holder_of(path))) {
        let _ = std::fs::remove_file(path);
    }
    let nobody = !entries().any(|path| is_sign(&path));
    for path in entries().filter(|path| !is_sign(path)) {
        if nobody || file::read_text(&path, MOST).is_ok_and(|holder| is_dead_here(&holder)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A name that no other holder has: the machine, the process, and a number.
fn this_holder() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{}-{started:x}-{number}", machine(), std::process::id())
}

/// This running system and this space of process numbers, as a digest; `0` where the system does not tell.
fn machine() -> String {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").ok();
    let space = std::fs::read_link("/proc/self/ns/pid").ok();
    match (boot, space) {
        (Some(boot), Some(space)) => {
            let key =
                KeyWriter::new("machine").field("boot", boot).field("space", space.as_os_str().as_encoded_bytes());
            key.finish().short(16)
        }
        _ => "0".into(),
    }
}

/// Whether a holder ran on this machine and no longer does.
fn is_dead_here(holder: &str) -> bool {
    let mut parts = holder.split('-');
    let (Some(at), Some(process)) = (parts.next(), parts.next().and_then(|number| number.parse::<u32>().ok())) else {
        return false;
    };
    at != "0" && at == machine() && !Path::new("/proc").join(process.to_string()).exists()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Home;

    const SHORT: Duration = Duration::from_millis(80);

    fn part(number: u8) -> Digest {
        Digest::of(&[number])
    }

    fn store(folder: &Path) -> Store {
        Store::open(&Home::at(folder)).unwrap()
    }

    #[test]
    fn a_part_has_one_holder_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Claims::open(&store(folder.path()), &[part(9)], LEASE).unwrap();
        let (one, two) = (open(), open());
        assert!(one.take(&part(0)) && one.take(&part(0)));
        assert!(!two.take(&part(0)) && two.take(&part(1)) && !one.take(&part(1)));
        one.release(&part(0));
        assert!(two.take(&part(0)));
        drop(two);
        assert!(one.take(&part(0)) && one.take(&part(1)), "what was dropped is free");
        let folder = one.folder.clone();
        drop(one);
        assert!(!folder.exists(), "nothing is left behind");
    }

    #[test]
    fn a_holder_elsewhere_keeps_its_claims_while_its_number_grows_whatever_the_clocks_say() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::open(&store(folder.path()), &[part(9)], SHORT).unwrap();
        let alive = claims.folder.join("elsewhere-1-1-0.alive");
        std::fs::write(claims.folder.join(part(0).short(32)), "elsewhere-1-1-0").unwrap();
        for beat in 0..6 {
            std::fs::write(&alive, beat.to_string()).unwrap();
            // A time far from ours, as of a machine whose clock is wrong.
            let wrong = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
            File::options().write(true).open(&alive).unwrap().set_modified(wrong).unwrap();
            assert!(!claims.take(&part(0)), "beat {beat}");
            std::thread::sleep(SHORT / 4);
        }
        std::thread::sleep(SHORT * 2);
        assert!(claims.take(&part(0)), "its holder has been silent for longer than the lease");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_holder_that_died_on_this_machine_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::open(&store(folder.path()), &[part(9)], LEASE).unwrap();
        // No process has this number: it is above the system's largest.
        let dead = format!("{}-{}-1-0", machine(), u32::MAX);
        std::fs::write(claims.folder.join(part(0).short(32)), &dead).unwrap();
        std::fs::write(claims.folder.join(part(1).short(32)), &dead).unwrap();
        std::fs::write(claims.folder.join(&dead).with_extension(ALIVE), "7").unwrap();
        assert!(claims.take(&part(0)));
        let folder = claims.folder.clone();
        drop(claims);
        assert!(!folder.exists(), "what it left is removed");
    }

    #[test]
    fn a_claim_that_is_damaged_is_void_after_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::open(&store(folder.path()), &[part(9)], SHORT).unwrap();
        std::fs::write(claims.folder.join(part(0).short(32)), "").unwrap();
        assert!(!claims.take(&part(0)), "it may be about to be written");
        std::thread::sleep(SHORT * 2);
        assert!(claims.take(&part(0)));
    }
}
