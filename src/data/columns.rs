//! The columns of a modality, one or several.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The columns of one modality: one, which is the field of the key's name, or several, which are fields of their own
/// names.
#[derive(Debug, Clone, PartialEq)]
pub enum Columns {
    /// A column.
    One(String),
    /// Fields by name, each with its column.
    Several(IndexMap<String, String>),
}

impl From<&str> for Columns {
    fn from(column: &str) -> Self {
        Self::One(column.into())
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(column) => serializer.serialize_str(column),
            Self::Several(columns) if columns.iter().all(|(field, column)| field == column) => {
                serializer.collect_seq(columns.keys())
            }
            Self::Several(columns) => columns.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(column) => Ok(Self::One(column)),
            list @ serde_json::Value::Array(_) => {
                let names: Vec<String> = serde_json::from_value(list).map_err(D::Error::custom)?;
                let count = names.len();
                let columns: IndexMap<String, String> = names.into_iter().map(|name| (name.clone(), name)).collect();
                if columns.len() < count {
                    return Err(D::Error::custom("a column is listed twice"));
                }
                Ok(Self::Several(columns))
            }
            map @ serde_json::Value::Object(_) => {
                serde_json::from_value(map).map(Self::Several).map_err(D::Error::custom)
            }
            _ => Err(D::Error::custom("columns are a name, a list of names, or a map from fields to names")),
        }
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let name = json_schema!({"type": "string", "minLength": 1});
        json_schema!({
            "description": "A column; or, for rows of several such fields, a list of columns, whose names are the fields', or a map from the fields' names to columns.",
            "type": ["string", "array", "object"],
            "minLength": 1,
            "minItems": 1,
            "items": name,
            "minProperties": 1,
            "additionalProperties": name
        })
    }
}
