//! The little of URLs that fetching needs.

use super::address::{host, is_loopback};

/// `scheme://authority` of a URL, in lower case.
pub fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    format!("{scheme}://{authority}").to_ascii_lowercase()
}

/// Whether a URL is on this machine.
pub fn is_local(url: &str) -> bool {
    let origin = origin(url);
    origin.split_once("://").is_some_and(|(_, authority)| is_loopback(host(authority)))
}

/// Whether a secret may be sent to a URL: nobody on the way can read it.
pub fn is_private(url: &str) -> bool {
    url.starts_with("https://") || is_local(url)
}

/// Where a `Location` leads from a URL.
pub fn join(base: &str, location: &str) -> String {
    let scheme = base.split("://").next().unwrap_or("https");
    let here = base.split(['?', '#']).next().unwrap_or(base);
    if location.starts_with("http://") || location.starts_with("https://") {
        location.into()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{}{location}", origin(base))
    } else if location.starts_with('?') {
        format!("{here}{location}")
    } else {
        let folder = here.rsplit_once('/').filter(|(before, _)| !before.ends_with('/')).map_or(here, |(f, _)| f);
        format!("{folder}/{location}")
    }
}

/// Percent-encodes what is not plain in a path; `/` stays if `keep_slash`.
pub fn encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base = "https://Hub.example:8443/a/b?x=1";
        assert_eq!(origin(base), "https://hub.example:8443");
        for (location, url) in [
            ("https://cdn.example/x", "https://cdn.example/x"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/x?y", "https://hub.example:8443/x?y"),
            ("c", "https://Hub.example:8443/a/c"),
            ("?z=2", "https://Hub.example:8443/a/b?z=2"),
        ] {
            assert_eq!(join(base, location), url);
        }
        assert_eq!(join("https://h", "c"), "https://h/c");
    }

    #[test]
    fn only_this_machine_is_local() {
        assert!(is_local("http://127.0.0.1:80/x") && is_local("http://[::1]/x") && is_local("http://localhost"));
        assert!(!is_local("http://localhost.example.org/x") && !is_local("http://10.0.0.1/127.0.0.1"));
        assert!(is_private("https://x/") && is_private("http://localhost/") && !is_private("http://x/"));
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(encode("a b/ä", true), "a%20b/%C3%A4");
    }
}
