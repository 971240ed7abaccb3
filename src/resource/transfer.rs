//! One file from a web server into the store: resumed, bounded, checked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::fetch::Fetcher;
use super::http::{Answer, Ask, Payload, Trouble, origin_of};
use super::sha256::Sha256;
use super::store::{Store, StoredFile, read_record, write_record};
use crate::base::progress::Event;
use crate::base::{Digest, Error, Result};

/// A file to transfer.
pub(super) struct Transfer<'a> {
    /// What people are shown.
    pub title: &'a str,
    /// The file's name in the store.
    pub name: &'a str,
    /// The same for the same bytes, so that a broken transfer is found again.
    pub key: Digest,
    pub url: &'a str,
    pub token: Option<&'a str>,
    pub sha256: Option<Sha256>,
    /// The size, where it is known before the answer.
    pub size: Option<u64>,
    /// Says what a refusal means, if the server's own words are known.
    pub explain: &'a dyn Fn(&Answer) -> Option<Error>,
}

/// Tries without progress before the transfer is given up.
const TRIES: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const TELL_EVERY: Duration = Duration::from_millis(100);

impl Fetcher<'_> {
    /// Transfers a file. The caller holds the key's lock.
    pub(super) fn transfer(&self, transfer: &Transfer<'_>) -> Result<StoredFile> {
        let mut partial = Partial::open(self.store()?, transfer.key)?;
        let mut fresh = partial.len == 0;
        loop {
            self.work(transfer.title, transfer.size.or(partial.record.size), || self.complete(transfer, &mut partial))?;
            let sha256 = Sha256(partial.sha256.clone().finalize().into());
            let blake3 = Digest(*partial.blake3.finalize().as_bytes());
            let Some(expected) = transfer.sha256.filter(|expected| *expected != sha256) else {
                return partial.admit(self.store()?, transfer.name, sha256, blake3);
            };
            partial.remove()?;
            if fresh {
                let what = format!(
                    "`{}` is not the file that is pinned: expected sha256 {expected}, got {sha256}",
                    transfer.title
                );
                return Err(Error::failed(what)
                    .hint("it was deleted; the server's file has changed, or the pinned digest is wrong"));
            }
            // Pieces of different files may have been joined; whole, it gets one more chance.
            self.progress
                .event(Event::Detail(format!("{}: the resumed file is not right, starting again", transfer.title)));
            partial = Partial::open(self.store()?, transfer.key)?;
            fresh = true;
        }
    }

    /// Tries until the file is whole.
    fn complete(&self, transfer: &Transfer<'_>, partial: &mut Partial) -> Result<()> {
        let mut tries = 0;
        loop {
            let before = partial.len;
            let (error, after) = match self.attempt(transfer, partial) {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Again(error, after)) => (error, after),
            };
            tries = if partial.len > before { 1 } else { tries + 1 };
            self.pause(transfer.title, tries, error, after)?;
        }
    }

    /// Waits before another try, or gives up.
    pub(super) fn pause(&self, title: &str, tries: u32, error: Error, after: Option<Duration>) -> Result<()> {
        if tries >= TRIES {
            return Err(error);
        }
        let doubled = self.settings.back_off * 2u32.saturating_pow(tries.saturating_sub(1));
        let wait = after.unwrap_or(doubled).min(LONGEST_WAIT);
        let seconds = wait.as_secs_f32();
        self.progress.event(Event::Detail(format!("{title}: {error}; trying again in {seconds:.1} s")));
        let until = Instant::now() + wait;
        while Instant::now() < until {
            self.cancel.check()?;
            std::thread::sleep(Duration::from_millis(50).min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// One request for what is missing.
    fn attempt(&self, transfer: &Transfer<'_>, partial: &mut Partial) -> Result<(), Trouble> {
        if partial.len > 0
            && (partial.record.validator.is_none() || partial.record.size.is_some_and(|s| partial.len > s))
        {
            partial.restart(Record::default())?;
        }
        if partial.len > 0 && partial.record.size == Some(partial.len) {
            return Ok(());
        }
        let mut headers = Vec::new();
        if let Some(validator) = partial.record.validator.as_ref().filter(|_| partial.len > 0) {
            headers.push(("range".into(), format!("bytes={}-", partial.len)));
            headers.push(("if-range".into(), validator.clone()));
        }
        let ask = Ask {
            method: "GET",
            url: transfer.url,
            headers,
            token: transfer.token,
            stay: false,
            payload: Payload::Nothing,
        };
        let answer = self.client().ask(&ask, self.cancel)?;
        match answer.status {
            200 => partial.restart(Record::of(&answer, transfer.size))?,
            206 if continues(&answer, partial) => (),
            206 | 416 => {
                partial.restart(Record::default())?;
                let what = format!("`{}` no longer has the file whose beginning is here", origin_of(&answer.url));
                return Err(Trouble::Again(Error::failed(what), Some(Duration::ZERO)));
            }
            _ => {
                let refused = answer.refused();
                return Err(match (transfer.explain)(&answer) {
                    Some(error) if matches!(refused, Trouble::Final(_)) => Trouble::Final(error),
                    _ => refused,
                });
            }
        }
        let total = partial.record.size;
        if let (Some(expected), Some(total)) = (transfer.size, total.filter(|total| transfer.size != Some(*total))) {
            partial.remove()?;
            let what = format!("`{}` announces {total} bytes where {expected} were expected", transfer.title);
            return Err(Error::failed(what).into());
        }
        let most = total.unwrap_or(self.settings.largest).min(self.settings.largest);
        if total.is_some_and(|total| total > most) {
            let what = format!("`{}` has {} bytes; at most {most} are fetched", transfer.title, total.unwrap_or(0));
            return Err(Error::failed(what).into());
        }
        let mut told = Instant::now();
        while let Some(chunk) = answer.chunk(self.cancel)? {
            if partial.len + chunk.len() as u64 > most {
                partial.remove()?;
                let what = format!("`{}` sends more than {most} bytes", transfer.title);
                return Err(Error::failed(what).into());
            }
            partial.append(&chunk)?;
            if told.elapsed() >= TELL_EVERY {
                self.advanced(partial.len, "");
                told = Instant::now();
            }
        }
        self.advanced(partial.len, "");
        match total {
            Some(total) if partial.len < total => {
                let what = format!("`{}` broke off after {} of {total} bytes", transfer.title, partial.len);
                Err(Trouble::Again(Error::failed(what), None))
            }
            _ => Ok(()),
        }
    }
}

/// Whether an answer goes on where the partial file ends, with the same file.
fn continues(answer: &Answer, partial: &Partial) -> bool {
    // `bytes 100-199/200`, or `*` for an unknown total.
    let range = answer.header("content-range").and_then(|text| text.strip_prefix("bytes "));
    let Some((start, total)) = range.and_then(|r| r.split_once('/')).and_then(|(r, t)| Some((r.split('-').next()?, t)))
    else {
        return false;
    };
    let same_total = match (total.parse::<u64>(), partial.record.size) {
        (Ok(total), Some(size)) => total == size,
        _ => true,
    };
    let validator = validator(answer);
    let same_file = validator.is_none() || validator == partial.record.validator;
    start.parse() == Ok(partial.len) && same_total && same_file
}

/// What tells one version of a file from another: a strong etag, else the time of its last change.
fn validator(answer: &Answer) -> Option<String> {
    let etag = answer.header("etag").filter(|etag| etag.starts_with('"'));
    etag.or_else(|| answer.header("last-modified")).map(str::to_string)
}

/// What is known of a partial file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    validator: Option<String>,
    size: Option<u64>,
}

impl Record {
    fn of(answer: &Answer, expected: Option<u64>) -> Self {
        if answer.header("content-encoding").is_some_and(|encoding| encoding != "identity") {
            // The client has decoded it: neither the length nor a range is the file's.
            return Self { validator: None, size: expected };
        }
        Self { validator: validator(answer), size: answer.length().or(expected) }
    }
}

/// A file under transfer, with the digests of what is there.
struct Partial {
    path: PathBuf,
    record_path: PathBuf,
    record: Record,
    file: File,
    len: u64,
    sha256: sha2::Sha256,
    blake3: blake3::Hasher,
}

impl Partial {
    /// What an earlier transfer left, or nothing.
    fn open(store: &Store, key: Digest) -> Result<Self> {
        let (path, record_path) = (store.partial(key, "part"), store.partial(key, "json"));
        let options = File::options().read(true).append(true).create(true).open(&path);
        let file = options.map_err(Error::io("open", &path))?;
        let record = read_record(&record_path).unwrap_or_default();
        let (sha256, blake3) = (sha2::Sha256::new(), blake3::Hasher::new());
        let mut partial = Self { path, record_path, record, file, len: 0, sha256, blake3 };
        let mut buffer = vec![0; 1 << 16];
        loop {
            match partial.file.read(&mut buffer).map_err(Error::io("read", &partial.path))? {
                0 => return Ok(partial),
                n => partial.count(&buffer[..n]),
            }
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.blake3.update(bytes);
        self.len += bytes.len() as u64;
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.path))?;
        self.count(bytes);
        Ok(())
    }

    /// Drops what is there; what follows belongs to `record`.
    fn restart(&mut self, record: Record) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("write", &self.path))?;
        self.sha256.reset();
        self.blake3.reset();
        self.len = 0;
        write_record(&self.record_path, &record)?;
        self.record = record;
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        for path in [&self.path, &self.record_path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path)(error));
                }
                _ => (),
            }
        }
        Ok(())
    }

    fn admit(self, store: &Store, name: &str, sha256: Sha256, blake3: Digest) -> Result<StoredFile> {
        let Self { path, record_path, file, len, .. } = self;
        // Windows renames no open file.
        drop(file);
        let stored = store.admit(&path, name, sha256, blake3, len)?;
        let _ = fs::remove_file(record_path);
        Ok(stored)
    }
}
