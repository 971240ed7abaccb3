//! `index.yaml`: what engines there are at an address.

use serde::{Deserialize, Serialize};

use crate::backbone::Task;
use crate::base::suggest::did_you_mean;
use crate::base::{Digest, Error, Result};
use crate::engine::Manifest;
use crate::engine::pack::ENDING;

/// The index's file name at an address.
pub const INDEX: &str = "index.yaml";
/// The version of the index's own format.
const FORMAT: u32 = 1;
/// More than any index has.
pub(super) const LARGEST: u64 = 16 << 20;

/// What engines there are at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The version of this format.
    pub format: u32,
    /// The engines, by name.
    pub engines: Vec<Listed>,
}

/// An engine at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// The catalogue entry, or the source file's name.
    pub name: String,
    /// The family of backbones, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// The tasks its features serve, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<Task>,
    /// The outputs with the shapes of their rows.
    pub outputs: Vec<ListedOutput>,
    /// The precision it computes in.
    pub precision: String,
    /// The bytes of the packed file.
    pub size: u64,
    /// The licence of the weights, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The digest of the packed file.
    pub digest: Digest,
    /// The packed file, beside the index.
    pub file: String,
}

/// An output of an engine at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedOutput {
    /// The output's name.
    pub name: String,
    /// The shape of one row; absent where not even the rank is known, `null` for a size that varies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<Option<usize>>>,
}

impl Default for Index {
    fn default() -> Self {
        Self { format: FORMAT, engines: Vec::new() }
    }
}

impl Index {
    /// Reads an index; `shown` says whose it is.
    ///
    /// # Errors
    /// It is not YAML of this form, of another version, or names a file that is not beside it.
    pub fn parse(text: &str, shown: &str) -> Result<Self> {
        let wrong = || Error::bad_input(format!("`{INDEX}` of `{shown}` is not an index of engines"));
        let index: Self = serde_yaml::from_str(text).map_err(|error| wrong().because(error))?;
        if index.format != FORMAT {
            let format = index.format;
            return Err(wrong().because(format!("it has format {format}; this caft reads format {FORMAT}")));
        }
        match index.engines.iter().find(|listed| !is_plain(&listed.file)) {
            Some(listed) => Err(wrong().because(format!("`{}` is not a file beside it", listed.file))),
            None => Ok(index),
        }
    }

    /// The index as it is written.
    ///
    /// # Errors
    /// It cannot be written as YAML.
    pub fn text(&self) -> Result<String> {
        let head = "# Engines for caft. `caft models --from ADDRESS` lists them, `caft engine pull` fetches one.\n";
        let body = serde_yaml::to_string(self).map_err(|e| Error::failed("the index cannot be written").because(e))?;
        Ok(format!("{head}{body}"))
    }

    /// Adds an engine, in place of one whose file has the same name.
    pub fn put(&mut self, listed: Listed) {
        self.engines.retain(|other| other.file != listed.file);
        self.engines.push(listed);
        self.engines.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
    }

    /// The only engine of a name, or the one whose file begins so; without a name, the only one there is.
    ///
    /// # Errors
    /// There is none, or there are several; the error lists them.
    pub fn find(&self, name: Option<&str>, shown: &str) -> Result<&Listed> {
        let fits = |listed: &&Listed| {
            name.is_none_or(|name| listed.name == name || listed.file.strip_suffix(ENDING_DOT) == Some(name))
        };
        let found: Vec<&Listed> = self.engines.iter().filter(fits).collect();
        match (&found[..], name) {
            ([one], _) => Ok(one),
            ([], Some(name)) => {
                let near = did_you_mean(name, self.engines.iter().map(|listed| listed.name.as_str()));
                Err(Error::bad_input(format!("there is no engine `{name}` at `{shown}`{near}"))
                    .hint(format!("`caft models --from {shown}` lists them")))
            }
            ([], None) => Err(Error::bad_input(format!("there are no engines at `{shown}`"))),
            (several, _) => {
                let files: Vec<&str> = several.iter().map(|listed| listed.file.as_str()).collect();
                let files = files.iter().map(|file| file.strip_suffix(ENDING_DOT).unwrap_or(file));
                let names = files.map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
                Err(Error::bad_input(format!("there are several such engines at `{shown}`"))
                    .hint(format!("say which one: {names}")))
            }
        }
    }
}

const ENDING_DOT: &str = ".caft-engine";

impl Listed {
    /// What an index says of an engine whose packed file has a size and digest.
    pub fn new(manifest: &Manifest, size: u64, digest: Digest) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = manifest.name.chars().map(plain).collect();
        let name = name.trim_start_matches(['.', '-']);
        let output = |output: &crate::engine::manifest::EngineOutput| ListedOutput {
            name: output.name.clone(),
            shape: output.shape.clone(),
        };
        Self {
            name: manifest.name.clone(),
            family: manifest.family.clone(),
            tasks: manifest.tasks.clone(),
            outputs: manifest.outputs.iter().map(output).collect(),
            precision: manifest.precision.clone(),
            size,
            licence: manifest.licence.clone(),
            digest,
            file: format!("{name}-{}-{}.{ENDING}", manifest.precision, manifest.digest().short(8)),
        }
    }
}

/// Whether a name can only be a file beside the index.
fn is_plain(file: &str) -> bool {
    !file.is_empty()
        && file.len() < 200
        && !file.starts_with(['.', '-'])
        && file.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, file: &str) -> Listed {
        Listed {
            name: name.into(),
            family: None,
            tasks: vec![Task::Retrieval],
            outputs: vec![ListedOutput { name: "cls".into(), shape: Some(vec![Some(16)]) }],
            precision: "fp32".into(),
            size: 3,
            licence: Some("MIT".into()),
            digest: Digest::of(b"abc"),
            file: file.into(),
        }
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let mut index = Index::default();
        index.put(listed("b", "b.caft-engine"));
        index.put(listed("a", "a.caft-engine"));
        index.put(Listed { size: 4, ..listed("a", "a.caft-engine") });
        assert_eq!(index.engines.iter().map(|e| (e.name.as_str(), e.size)).collect::<Vec<_>>(), [("a", 4), ("b", 3)]);
        assert_eq!(Index::parse(&index.text().unwrap(), "x").unwrap(), index);
        assert_eq!(index.find(Some("a"), "x").unwrap().size, 4);
        assert!(index.find(None, "x").unwrap_err().hint_text().unwrap().contains("`a`, `b`"));
        assert!(index.find(Some("ab"), "x").unwrap_err().to_string().contains("no engine `ab` at `x`"));
    }

    #[test]
    fn an_index_that_leads_elsewhere_is_refused() {
        for file in ["../a", "/etc/passwd", "a/b", "", ".hidden", "-o", "a\\b"] {
            let text = Index { engines: vec![listed("a", file)], ..Index::default() }.text().unwrap();
            assert!(Index::parse(&text, "x").unwrap_err().to_string().contains("is not an index of engines"), "{file}");
        }
        assert!(Index::parse("format: 2\nengines: []\n", "x").is_err());
        assert!(Index::parse("<html>", "x").is_err());
    }
}
