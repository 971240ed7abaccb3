//! The little of URLs that fetching needs.

use std::net::{IpAddr, Ipv4Addr};

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

/// Whether a host is one of this machine or of its own network, such as a router or a cloud's service of secrets. Names
/// are not looked up: only what an address itself says is known.
pub fn is_inward(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let zones = ["localhost", "local", "internal", "intranet", "lan", "home.arpa"];
    let in_zone = |zone: &&str| host.strip_suffix(*zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if zones.iter().any(in_zone) {
        return true;
    }
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => is_inward_v4(ip),
        Ok(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => is_inward_v4(ip),
            None => {
                let first = ip.segments()[0];
                // Unique local, link-local, and ways of writing an IPv4 address.
                ip.is_loopback()
                    || ip.is_unspecified()
                    || first & 0xfe00 == 0xfc00
                    || first & 0xffc0 == 0xfe80
                    || ip.to_ipv4().is_some()
                    || first == 0x64
                    || first == 0x2002
            }
        },
        // A number in another form than four parts, which resolvers take for an address too; or a name without a dot.
        Err(_) => {
            !host.contains('.')
                || host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()))
        }
    }
}

fn is_inward_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || a == 0
        || shared
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
    fn hosts_of_ones_own_network_are_known() {
        let inward = "localhost LOCALHOST. x.localhost 127.0.0.1 127.9.9.9 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 \
            100.64.0.1 0.0.0.0 ::1 fe80::1 fd00::1 ::ffff:127.0.0.1 ::127.0.0.1 64:ff9b::a00:1 metadata.google.internal printer.local router \
            2130706433 0x7f.1 127.1";
        inward.split_whitespace().for_each(|host| assert!(is_inward(host), "{host}"));
        for host in
            ["huggingface.co", "8.8.8.8", "2606:4700::1", "local.example.org", "notlocalhost.org", "1.example.org"]
        {
            assert!(!is_inward(host), "{host}");
        }
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
