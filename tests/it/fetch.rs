//! Files from hubs and web servers: fetched once, resumed, checked, and used offline.

use caft::base::home::Home;
use caft::base::progress::Silent;
use caft::base::{Cancel, Digest, Error};
use caft::resource::{Fetched, Fetcher, Resource, Settings, Sha256};

use super::hub::{COMMIT, Fault, Hub, Kind};

/// Bytes without a pattern.
fn noise(n: usize) -> Vec<u8> {
    let stream = caft::base::random::Stream::new(1, n as u64);
    (0..n as u64).map(|i| stream.block(i)[0] as u8).collect()
}

struct Machine {
    _folder: tempfile::TempDir,
    home: Home,
    cancel: Cancel,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { home: Home::at(folder.path().join("home")), _folder: folder, cancel: Cancel::default() }
    }

    fn fetch_with(&self, address: &str, sha256: Option<Sha256>, settings: Settings) -> Result<Fetched, Error> {
        let resource = Resource { address: address.parse()?, sha256 };
        Fetcher::with_settings(&self.home, &Silent, &self.cancel, settings).fetch(&resource)
    }

    fn fetch(&self, hub: &Hub, address: &str) -> Result<Fetched, Error> {
        self.fetch_with(address, None, hub.settings())
    }

    /// The files that transfers left unfinished.
    fn partial(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(self.home.path().join("downloads/partial")) else { return 0 };
        entries.flatten().filter(|e| e.path().extension().is_some_and(|e| e == "part")).count()
    }
}

#[test]
fn a_large_file_comes_by_a_redirect_and_only_once() {
    let (hub, machine, bytes) = (Hub::start(), Machine::new(), noise(300_000));
    hub.add("datasets/owner/repo/a/b c.bin", Kind::Large, bytes.clone());
    let settings = Settings { token: Some("hf_secret".into()), ..hub.settings() };
    let fetched = machine.fetch_with("hf:datasets/owner/repo/a/b c.bin", None, settings.clone()).unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), bytes);
    assert_eq!(fetched.digest, Digest::of(&bytes));
    let path = format!("/datasets/owner/repo/resolve/{COMMIT}/a/b%20c.bin");
    assert_eq!(
        hub.requests(),
        [
            "HEAD hub /datasets/owner/repo/resolve/main/a/b%20c.bin range=none token=yes".to_string(),
            format!("GET hub {path} range=none token=yes"),
            "GET storage /datasets/owner/repo/a/b%20c.bin?signature=secret range=none token=no".to_string(),
        ]
    );
    // A branch is asked for again, but not fetched again.
    assert_eq!(machine.fetch_with("hf:datasets/owner/repo/a/b c.bin", None, settings.clone()).unwrap(), fetched);
    assert_eq!(hub.requests().len(), 4);
    // A commit or a digest needs no network.
    hub.go_down();
    let pinned = format!("hf:datasets/owner/repo/a/b c.bin@{COMMIT}");
    assert_eq!(machine.fetch_with(&pinned, None, settings.clone()).unwrap(), fetched);
    let sha256 = Some(Sha256::of(&bytes));
    assert_eq!(machine.fetch_with("hf:datasets/owner/repo/a/b c.bin", sha256, settings.clone()).unwrap(), fetched);
    assert_eq!(hub.requests().len(), 4);
    // A branch of a hub that does not answer is what it was.
    assert_eq!(machine.fetch_with("hf:datasets/owner/repo/a/b c.bin", None, settings.clone()).unwrap(), fetched);
    let offline = Settings { offline: true, ..settings };
    assert_eq!(machine.fetch_with("hf:datasets/owner/repo/a/b c.bin", None, offline.clone()).unwrap(), fetched);
    let error = machine.fetch_with("hf:datasets/owner/repo/other", None, offline).unwrap_err();
    assert_eq!(error.to_string(), "`other of owner/repo` is not on this machine, and offline nothing is fetched");
}

#[test]
fn a_broken_transfer_goes_on_where_it_ended() {
    for kind in [Kind::Large, Kind::Plain] {
        let (hub, machine, bytes) = (Hub::start(), Machine::new(), noise(200_000));
        hub.add_with("o/r/f.bin", kind, bytes.clone(), [Fault::DropAfter(70_000)]);
        let fetched = machine.fetch(&hub, "hf:o/r/f.bin").unwrap();
        assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
        let resumed = hub.requests().into_iter().filter(|r| r.contains("range=bytes=70000-")).count();
        assert!(resumed > 0, "{kind:?}: {:?}", hub.requests());
        assert_eq!(machine.partial(), 0);
    }
}

#[test]
fn an_interrupted_transfer_is_resumed_by_the_next_process() {
    let (hub, machine, bytes) = (Hub::start(), Machine::new(), noise(200_000));
    hub.add_with("o/r/f.bin", Kind::Large, bytes.clone(), [Fault::DropAfter(50_000)]);
    let resource = Resource { address: "hf:o/r/f.bin".parse().unwrap(), sha256: None };
    let stop = Cancel::default();
    let slow = Settings { back_off: std::time::Duration::from_secs(20), ..hub.settings() };
    let watcher = {
        let (stop, part) = (stop.clone(), machine.home.path().join("downloads/partial"));
        std::thread::spawn(move || {
            let size = || {
                let entries = std::fs::read_dir(&part).ok()?.flatten();
                entries
                    .filter(|e| e.path().extension().is_some_and(|e| e == "part"))
                    .map(|e| e.metadata().unwrap().len())
                    .max()
            };
            while size().unwrap_or(0) < 50_000 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            stop.cancel();
        })
    };
    let started = std::time::Instant::now();
    let error = Fetcher::with_settings(&machine.home, &Silent, &stop, slow).fetch(&resource).unwrap_err();
    watcher.join().unwrap();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert!(started.elapsed().as_secs() < 10, "a stop is heard while waiting");
    assert_eq!(machine.partial(), 1);
    let fetched = machine.fetch(&hub, "hf:o/r/f.bin").unwrap();
    assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
    assert!(hub.requests().iter().any(|r| r.contains("range=bytes=50000-")), "{:?}", hub.requests());
}

#[test]
fn a_server_without_ranges_starts_again() {
    let (hub, machine, bytes) = (Hub::start(), Machine::new(), noise(200_000));
    hub.add_with("o/r/f.bin", Kind::Large, bytes.clone(), [Fault::DropAfter(70_000), Fault::IgnoreRange]);
    assert_eq!(std::fs::read(machine.fetch(&hub, "hf:o/r/f.bin").unwrap().path).unwrap(), bytes);
}

#[test]
fn a_file_that_changed_in_between_is_never_a_mixture() {
    let (hub, machine, old) = (Hub::start(), Machine::new(), noise(200_000));
    let new: Vec<u8> = old.iter().map(|b| b ^ 0x55).collect();
    hub.add_with("o/r/f.bin", Kind::Plain, old, [Fault::ChangeAfter(70_000, new.clone())]);
    assert_eq!(std::fs::read(machine.fetch(&hub, "hf:o/r/f.bin").unwrap().path).unwrap(), new);
}

#[test]
fn wrong_bytes_are_deleted_and_both_digests_said() {
    let (hub, machine, bytes) = (Hub::start(), Machine::new(), noise(1000));
    hub.add_with("o/r/f.bin", Kind::Large, bytes.clone(), [Fault::Corrupt]);
    let error = machine.fetch(&hub, "hf:o/r/f.bin").unwrap_err().to_string();
    assert!(error.contains(&format!("expected sha256 {}, got ", Sha256::of(&bytes))), "{error}");
    assert_eq!(machine.partial(), 0);
    assert!(!machine.home.path().join("downloads/files").exists());

    hub.add_with("o/r/g.bin", Kind::Large, bytes.clone(), [Fault::Longer]);
    let error = machine.fetch(&hub, "hf:o/r/g.bin").unwrap_err().to_string();
    assert_eq!(error, "`g.bin` announces 1001 bytes where 1000 were expected");
    hub.add("o/r/h.bin", Kind::Large, bytes.clone());
    let error = machine.fetch_with("hf:o/r/h.bin", Some(Sha256::of(b"other")), hub.settings()).unwrap_err();
    assert!(error.to_string().contains(&format!("the hub has {}", Sha256::of(&bytes))), "{error}");
    let small = Settings { largest: 999, ..hub.settings() };
    let error = machine.fetch_with("hf:o/r/h.bin", None, small).unwrap_err().to_string();
    assert_eq!(error, "`h.bin` has 1000 bytes; at most 999 are fetched");
}

#[test]
fn a_busy_server_is_asked_again_and_a_refusal_is_not() {
    let (hub, machine, bytes) = (Hub::start(), Machine::new(), noise(1000));
    hub.add_with("o/r/f.bin", Kind::Large, bytes.clone(), [Fault::Status(503, 2), Fault::Status(429, 1)]);
    assert!(machine.fetch(&hub, "hf:o/r/f.bin").is_ok());
    hub.add_with("o/r/g.bin", Kind::Large, noise(1001), [Fault::Status(500, 100)]);
    let error = machine.fetch(&hub, "hf:o/r/g.bin").unwrap_err().to_string();
    assert!(error.contains("status 500") && !error.contains("secret"), "{error}");
    assert_eq!(hub.requests().iter().filter(|r| r.contains("GET storage /o/r/g.bin")).count(), 5);

    let before = hub.requests().len();
    for (address, what, hint) in [
        ("hf:o/none/f.bin", "there is no model `o/none`, or it is private", "set `HF_TOKEN`"),
        ("hf:datasets/o/none/f.bin", "there is no dataset `o/none`, or it is private", "/datasets/o/none"),
        ("hf:o/r/none.bin", "the model `o/r` has no file `none.bin` at `main`", "/o/r/tree/main"),
        ("hf:o/r/f.bin@v9", "the model `o/r` has no revision `v9`", "/o/r/branches"),
    ] {
        let error = machine.fetch(&hub, address).unwrap_err();
        assert_eq!(error.to_string(), what);
        assert!(error.hint_text().unwrap().contains(hint), "{:?}", error.hint_text());
        assert_eq!(error.exit_code(), 2);
    }
    assert_eq!(hub.requests().len() - before, 4, "one request each");
}

#[test]
fn a_gated_repository_opens_to_the_right_token() {
    let (hub, machine) = (Hub::start(), Machine::new());
    hub.add("o/r/f.bin", Kind::Large, *b"abc");
    hub.gate("o/r", "hf_right");
    let error = machine.fetch(&hub, "hf:o/r/f.bin").unwrap_err();
    assert_eq!(error.to_string(), "the model `o/r` is gated");
    assert!(error.hint_text().unwrap().contains("HF_TOKEN"));
    let settings = Settings { token: Some("hf_right".into()), ..hub.settings() };
    assert!(machine.fetch_with("hf:o/r/f.bin", None, settings).is_ok());
}

#[test]
fn a_web_file_needs_its_digest_and_then_no_network() {
    let (hub, machine) = (Hub::start(), Machine::new());
    hub.add_with("o/r/f.bin", Kind::Plain, *b"abc", [Fault::DropAfter(1)]);
    let url = format!("{}/o/r/resolve/main/f.bin", hub.url);
    let sha256 = Some(Sha256::of(b"abc"));
    let fetched = machine.fetch_with(&url, sha256, hub.settings()).unwrap();
    assert_eq!(fetched.digest, Digest::of(b"abc"));
    hub.go_down();
    assert_eq!(machine.fetch_with(&url, sha256, hub.settings()).unwrap(), fetched);
    let error = machine.fetch_with(&url, Some(Sha256::of(b"x")), hub.settings()).unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(url.parse::<Resource>().unwrap_err().to_string().contains("needs a sha256"));
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let (hub, machine, bytes) = (Hub::start(), Machine::new(), noise(500_000));
    hub.add("o/r/f.bin", Kind::Large, bytes.clone());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(machine.fetch(&hub, "hf:o/r/f.bin").is_ok()));
        }
    });
    assert_eq!(hub.requests().iter().filter(|r| r.starts_with("GET storage")).count(), 1);
}

#[test]
fn a_star_names_all_files_of_a_folder_at_one_commit() {
    let (hub, machine) = (Hub::start(), Machine::new());
    for name in ["train-2.bin", "train-0.bin", "train-1.bin", "test-0.bin", "train-x/y.bin", "train-3.txt"] {
        let kind = if name == "train-1.bin" { Kind::Plain } else { Kind::Large };
        hub.add(&format!("datasets/owner/repo/data/{name}"), kind, name.as_bytes());
    }
    let fetch_all = |address: &str, sha256: Option<Sha256>, settings: Settings| -> Result<Vec<String>, Error> {
        let resource = Resource { address: address.parse()?, sha256 };
        let fetched = Fetcher::with_settings(&machine.home, &Silent, &machine.cancel, settings).fetch_all(&resource)?;
        Ok(fetched.iter().map(|file| std::fs::read_to_string(&file.path).unwrap()).collect())
    };
    let star = "hf:datasets/owner/repo/data/train-*.bin";
    let wanted = ["train-0.bin", "train-1.bin", "train-2.bin"];
    assert_eq!(fetch_all(star, None, hub.settings()).unwrap(), wanted);
    let asked = hub.requests();
    assert!(
        asked.iter().all(|line| line.contains("/api/") || line.contains(COMMIT) || line.contains("storage")),
        "{asked:?}"
    );
    let lines: String = wanted.iter().map(|name| format!("{}  {name}\n", Sha256::of(name.as_bytes()))).collect();
    let pinned = Sha256::of(lines.as_bytes());
    let offline = || Settings { offline: true, ..hub.settings() };
    assert_eq!(fetch_all(star, Some(pinned), offline()).unwrap(), wanted);
    let other = fetch_all(star, Some(Sha256::of(b"")), offline()).unwrap_err();
    assert!(other.to_string().contains("are not those that are pinned") && other.exit_code() == 2, "{other}");
    let commit = format!("{star}@{COMMIT}");
    assert!(fetch_all(&commit, None, offline()).unwrap_err().to_string().contains("offline nothing is fetched"));
    assert_eq!(fetch_all(&commit, None, hub.settings()).unwrap(), wanted);
    let before = hub.requests().len();
    assert_eq!(fetch_all(&commit, None, hub.settings()).unwrap(), wanted);
    assert_eq!(hub.requests().len(), before, "a commit is listed once");

    hub.add("datasets/owner/repo/data/train-4.bin", Kind::Plain, "train-4.bin");
    assert_eq!(fetch_all(star, None, hub.settings()).unwrap().len(), 4, "a branch is asked each time");
    let error = |address: &str| fetch_all(address, None, hub.settings()).unwrap_err().to_string();
    assert!(error("hf:datasets/owner/repo/data/none-*.bin").contains("no file is named like"));
    assert!(error("hf:datasets/owner/repo/da*/x.bin").contains("not of a folder"));
    assert!(error("hf:datasets/owner/repo/data/*@next").contains("has no revision `next`"));
    hub.go_down();
    assert_eq!(fetch_all(star, None, hub.settings()).unwrap().len(), 4, "without the hub the last list holds");
}
