//! A file or folder that a recipe names: an address, pinned by a digest or not.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::address::{Address, FORMS, LONGEST};
use super::sha256::Sha256;
use crate::base::{Error, Result};

/// A file or folder that a recipe names: an address, with the SHA-256 of what is fetched where the recipe pins it.
///
/// In YAML a plain string, or `{address: …, sha256: …}`. For `pip:` the SHA-256 is the wheel's, for the
/// others the file's. A web address needs one; shipped and shared recipes pin everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Where it is.
    pub address: Address,
    /// What the fetched file must be.
    pub sha256: Option<Sha256>,
}

impl Resource {
    /// An address with or without a digest.
    ///
    /// # Errors
    /// A web address without a digest.
    pub fn new(address: Address, sha256: Option<Sha256>) -> Result<Self> {
        if let (Address::Https { url }, None) = (&address, sha256) {
            return Err(Error::bad_input(format!("`{url}` needs a sha256, for a web address may change"))
                .hint("write `{address: https://…, sha256: …}`; `sha256sum FILE` prints it"));
        }
        Ok(Self { address, sha256 })
    }

    /// A path of this machine.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self { address: Address::Path(path.into()), sha256: None }
    }

    /// A path made relative to the folder of the file that names it; other forms stay as they are.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        Self { address: self.address.relative_to(folder), ..self }
    }
}

impl FromStr for Resource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text.parse()?, None)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(sha256) = &self.sha256 else {
            return serializer.collect_str(&self.address);
        };
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("address", &self.address.to_string())?;
        map.serialize_entry("sha256", sha256)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = Resource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or a map with `address` and `sha256`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Resource, E> {
                text.parse().map_err(|error| custom(&error))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resource, A::Error> {
                let (mut address, mut sha256) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "address" if address.is_some() => return Err(de::Error::duplicate_field("address")),
                        "sha256" if sha256.is_some() => return Err(de::Error::duplicate_field("sha256")),
                        "address" => address = Some(map.next_value::<String>()?),
                        "sha256" => sha256 = Some(map.next_value::<Sha256>()?),
                        other => return Err(de::Error::unknown_field(other, &["address", "sha256"])),
                    }
                }
                let address: String = address.ok_or_else(|| de::Error::missing_field("address"))?;
                let address = address.parse().map_err(|error| custom(&error))?;
                Resource::new(address, sha256).map_err(|error| custom(&error))
            }
        }

        deserializer.deserialize_any(Form)
    }
}

/// The error with its hint, for formats that know only one line.
fn custom<E: de::Error>(error: &Error) -> E {
    match error.hint_text() {
        Some(hint) => E::custom(format_args!("{error}; {hint}")),
        None => E::custom(error),
    }
}

impl JsonSchema for Resource {
    fn schema_name() -> Cow<'static, str> {
        "Resource".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let sha256 = generator.subschema_for::<Sha256>();
        // One schema for both forms, so that an error names the wrong field and not "any of".
        json_schema!({
            "type": ["string", "object"],
            "description": format!("A file or folder: {FORMS}. Or a map of `address` and `sha256`."),
            "minLength": 1,
            "maxLength": LONGEST,
            "pattern": "^(hf:(datasets/)?[^/@]+/[^/@]+/.+|https?://.+|pip:[^=#]+==[^#]+(#.+)?|git\\+[a-z]+://.+|engine:[A-Za-z0-9._-]+|(?!(hf|https?|pip|engine|git\\+[a-z]+):).*)$",
            "properties": {
                "address": {
                    "type": "string",
                    "description": format!("Where it is: {FORMS}."),
                    "minLength": 1,
                },
                "sha256": sha256,
            },
            "required": ["address"],
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_a_string_or_a_map() {
        let sha256 = Sha256::of(b"abc");
        let map = serde_json::json!({"address": "pip:a==1#b", "sha256": sha256.to_string()});
        let resource: Resource = serde_json::from_value(map.clone()).unwrap();
        assert_eq!(resource.sha256, Some(sha256));
        assert_eq!(serde_json::to_value(&resource).unwrap(), map);
        let plain: Resource = serde_json::from_value("data".into()).unwrap();
        assert_eq!(plain, Resource::path("data"));
        assert_eq!(serde_json::to_value(&plain).unwrap(), "data");
        let error = |value: serde_json::Value| serde_json::from_value::<Resource>(value).unwrap_err().to_string();
        assert!(error("https://example.org/x".into()).contains("needs a sha256"));
        assert!(error(serde_json::json!({"address": "x", "sha": "y"})).contains("unknown field `sha`"));
        assert!(error(serde_json::json!({"sha256": sha256.to_string()})).contains("missing field `address`"));
        assert!(error(7.into()).contains("an address, or a map"));
    }

    #[test]
    fn the_schema_agrees_with_the_parser() {
        let schema = schemars::schema_for!(Resource);
        let validator = jsonschema::validator_for(schema.as_value()).unwrap();
        for good in ["data", "hf:o/r/f@main", "pip:a==1", "https://h/x"] {
            assert!(validator.is_valid(&good.into()), "{good}");
        }
        for bad in ["", "hf:o/r", "pip:a", "https:x"] {
            assert!(!validator.is_valid(&bad.into()), "{bad}");
        }
        assert!(validator.is_valid(&serde_json::json!({"address": "x", "sha256": "0".repeat(64)})));
        assert!(!validator.is_valid(&serde_json::json!({"address": "x", "sha256": "0"})));
        assert!(!validator.is_valid(&serde_json::json!({"address": "x", "url": "0"})));
    }
}
