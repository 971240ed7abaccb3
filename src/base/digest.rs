//! BLAKE3 digests, and keys that are stable across builds and platforms.
//!
//! `std::hash::Hash` is neither stable nor self-delimiting. A [`KeyWriter`] hashes a sequence of named
//! fields, each framed by its lengths, so that two different sequences cannot collide by concatenation.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{Error, Result};

/// A BLAKE3-256 digest; shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of all that a reader gives.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(reader: impl Read) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(reader)?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// The digest of a file's bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
        Self::of_reader(file).map_err(Error::io("read", path))
    }

    /// The first `digits` hexadecimal digits, for names of folders and for people.
    pub fn short(&self, digits: usize) -> String {
        let mut hex = self.to_string();
        hex.truncate(digits);
        hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::bad_input(format!("`{text}` is not a digest of 64 hexadecimal digits"));
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Builds a key from named fields. The order of the fields is part of the key.
///
/// ```
/// use caft::base::KeyWriter;
/// let key = KeyWriter::new("column").field("precision", "fp32").field("tensor", "cls").finish();
/// assert_ne!(key, KeyWriter::new("column").field("precision", "fp32t").field("ensor", "cls").finish());
/// ```
pub struct KeyWriter(blake3::Hasher);

impl KeyWriter {
    /// A key of some kind; keys of different kinds never collide.
    pub fn new(kind: &str) -> Self {
        Self(blake3::Hasher::new()).framed(b"caft", kind.as_bytes())
    }

    /// Adds a field.
    #[must_use]
    pub fn field(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.framed(name.as_bytes(), value.as_ref())
    }

    /// Adds a field that is a serialisable value, as JSON with sorted keys.
    #[must_use]
    pub fn json(self, name: &str, value: &impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_else(|e| unreachable!("plain data serialises: {e}"));
        let text = canonical_json(&value);
        self.field(name, text)
    }

    /// The key.
    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }

    fn framed(mut self, name: &[u8], value: &[u8]) -> Self {
        self.0.update(&(name.len() as u64).to_le_bytes()).update(name);
        self.0.update(&(value.len() as u64).to_le_bytes()).update(value);
        self
    }
}

/// JSON without spaces and with the keys of every map sorted by their bytes.
pub fn canonical_json(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_bytes());
            let inner: Vec<String> = entries
                .into_iter()
                .map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical_json(v)))
                .collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(items) => {
            let inner: Vec<String> = items.iter().map(canonical_json).collect();
            format!("[{}]", inner.join(","))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_back_as_it_was_shown() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("64ä7".parse::<Digest>().is_err());
    }

    #[test]
    fn a_key_does_not_depend_on_the_order_of_a_map() {
        let a = serde_json::json!({"b": 1, "a": [1.5, null, "ä"]});
        let b = serde_json::json!({"a": [1.5, null, "ä"], "b": 1});
        assert_eq!(canonical_json(&a), r#"{"a":[1.5,null,"ä"],"b":1}"#);
        assert_eq!(KeyWriter::new("k").json("v", &a).finish(), KeyWriter::new("k").json("v", &b).finish());
    }

    #[test]
    fn a_key_stays_the_same_from_build_to_build() {
        let key = KeyWriter::new("column").field("tensor", "cls").json("size", &224).finish();
        assert_eq!(key.short(16), GOLDEN);
    }

    const GOLDEN: &str = "fa872b1ca17553d5";
}
