//! Wheels through the user's own pip.

use caft::base::home::Home;
use caft::base::progress::Silent;
use caft::base::{Cancel, Digest};
use caft::resource::{Fetcher, Resource};
#[cfg(unix)]
use caft::resource::{Settings, Sha256};

/// A small pure wheel that will stay: `six` 1.17.0.
const WHEEL: &str = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274";

fn resource(address: &str, sha256: Option<&str>) -> Resource {
    Resource::new(address.parse().unwrap(), sha256.map(|text| text.parse().unwrap())).unwrap()
}

#[test]
fn a_file_of_a_wheel_is_fetched_once_by_the_users_own_pip() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path());
    let cancel = Cancel::default();
    let pinned = resource("pip:six==1.17.0#six.py", Some(WHEEL));
    let fetcher = Fetcher::new(&home, &Silent, &cancel, false);
    assert_eq!(fetcher.cached(&pinned), None);
    let fetched = fetcher.fetch(&pinned).unwrap();
    let text = std::fs::read(&fetched.path).unwrap();
    assert_eq!(fetched.digest, Digest::of(&text));
    assert!(text.windows(24).any(|w| w == b"__version__ = \"1.17.0\"\n\n"));

    let offline = Fetcher::new(&home, &Silent, &cancel, true);
    assert_eq!(offline.fetch(&pinned).unwrap(), fetched);
    assert_eq!(offline.fetch(&resource("pip:six==1.17.0#six.py", None)).unwrap(), fetched, "the address is remembered");
    let error = offline.fetch(&resource("pip:six==1.17.0#sixx.py", Some(WHEEL))).unwrap_err();
    assert!(error.to_string().ends_with("has no `sixx.py`; did you mean `six.py`?"), "{error}");
    let error = offline.fetch(&resource("pip:six==1.16.0", None)).unwrap_err();
    assert!(error.to_string().contains("offline nothing is fetched"), "{error}");
}

/// A stand-in for an interpreter with pip: `download` runs a few lines of shell in the folder for the wheel.
#[cfg(unix)]
fn python(folder: &std::path::Path, download: &str) -> std::ffi::OsString {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("python");
    let script = format!("#!/bin/sh\n[ \"$3\" = --version ] && exit 0\nmkdir wheels; cd wheels\n{download}\n");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.into_os_string()
}

#[cfg(unix)]
#[test]
fn what_pip_brings_is_not_trusted_and_what_it_says_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let cancel = Cancel::default();
    let fetch = |download: &str, sha256: Option<&str>| {
        let settings = Settings { python: Some(python(folder.path(), download)), ..Settings::default() };
        let pinned = resource("pip:x==1.0#a", sha256);
        Fetcher::with_settings(&home, &Silent, &cancel, settings).fetch(&pinned).unwrap_err()
    };
    let other = fetch("printf abc > x-1.0-py3-none-any.whl", Some(WHEEL)).to_string();
    let got = Sha256::of(b"abc");
    assert_eq!(other, format!("x 1.0: the wheel is not the one that is pinned: expected sha256 {WHEEL}, got {got}"));
    assert!(!home.path().join("downloads/files").exists());
    let source = fetch("touch x-1.0.tar.gz", None).to_string();
    assert_eq!(source, "pip left no wheel, or several, for x 1.0");
    let unknown = fetch("echo 'ERROR: No matching distribution found for x==1.0'; exit 1", None);
    assert_eq!(unknown.exit_code(), 2);
    assert!(std::error::Error::source(&unknown).unwrap().to_string().contains("No matching distribution"));
    let damaged = fetch("printf abc > x-1.0-py3-none-any.whl", None).to_string();
    assert!(damaged.ends_with("not a sound zip archive"), "{damaged}");
}

#[cfg(unix)]
#[test]
fn a_stop_ends_pip() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let cancel = Cancel::default();
    let settings =
        Settings { python: Some(python(folder.path(), "touch started; exec sleep 60")), ..Settings::default() };
    let started = std::time::Instant::now();
    let stop = cancel.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        stop.cancel();
    });
    let fetcher = Fetcher::with_settings(&home, &Silent, &cancel, settings);
    let error = fetcher.fetch(&resource("pip:x==1.0", None)).unwrap_err();
    stopper.join().unwrap();
    assert_eq!(error.exit_code(), 130);
    assert!(started.elapsed().as_secs() < 20);
    let left = std::fs::read_dir(home.path().join("downloads/scratch")).unwrap().count();
    assert_eq!(left, 0, "nothing half-fetched stays");
}
