//! Wheels through the user's own pip.

use caft::base::home::Home;
use caft::base::progress::Silent;
use caft::base::{Cancel, Digest};
use caft::resource::{Fetcher, Resource};

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
