//! The fields of a table's rows: which columns hold a picture or a text. A new modality is a key of the formats
//! and a line here.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Field;
use super::label::LabelConfig;
use super::targets::TargetKind;
use crate::base::Problems;
use crate::sample::Modality;

/// Which columns of a table (in JSON: which keys of an object) hold a row's pictures, texts and labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RowColumns {
    /// The column of the images: their paths, or in parquet the bytes; `image` if neither pictures nor texts are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The column of the texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The column of the second texts, where rows are pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_b: Option<String>,
    /// The column of the labels.
    pub label: LabelConfig,
}

impl Default for RowColumns {
    fn default() -> Self {
        Self { image: None, text: None, text_b: None, label: LabelConfig::column_named("label") }
    }
}

impl RowColumns {
    pub(super) fn field_columns(&self) -> FieldColumns<'_> {
        FieldColumns { image: &self.image, text: &self.text, text_b: &self.text_b }
    }

    pub(super) fn fields(&self) -> Vec<Field> {
        self.field_columns().fields()
    }

    pub(super) fn target_kind(&self) -> TargetKind {
        self.label.kind()
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        self.field_columns().check(problems);
        self.label.check(problems);
    }

    /// The schema of these keys, as those of a kind with a description of its own.
    pub(super) fn schema_of(description: &str, generator: &mut SchemaGenerator) -> Schema {
        described(Self::json_schema(generator), description)
    }
}

/// A schema with another description.
pub(super) fn described(mut schema: Schema, description: &str) -> Schema {
    schema.insert("description".into(), description.into());
    schema
}

/// The keys of two structs in one map, of which unknown ones are errors: serde's `flatten` cannot be had together with
/// `deny_unknown_fields`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Both<A, B> {
    /// The keys of the first.
    #[serde(flatten)]
    pub own: A,
    /// Those of the second.
    #[serde(flatten)]
    pub rest: B,
}

impl<'de, A: DeserializeOwned + JsonSchema, B: DeserializeOwned> Deserialize<'de> for Both<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let mut keys = Map::<String, Value>::deserialize(deserializer)?;
        let schema = A::json_schema(&mut SchemaGenerator::default());
        let known = schema.get("properties").and_then(Value::as_object);
        let own = known.into_iter().flat_map(Map::keys).filter_map(|key| keys.shift_remove_entry(key)).collect();
        let own = serde_json::from_value(Value::Object(own)).map_err(D::Error::custom)?;
        // What is no key at all is the second's to complain of.
        let rest = serde_json::from_value(Value::Object(keys)).map_err(D::Error::custom)?;
        Ok(Self { own, rest })
    }
}

impl<A: JsonSchema, B: JsonSchema> JsonSchema for Both<A, B> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}And{}", A::schema_name(), B::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (mut schema, rest) = (A::json_schema(generator), B::json_schema(generator));
        let more = rest.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(keys) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            keys.extend(more);
        }
        schema
    }
}

/// The columns that a table's config names, by the keys of the same names.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldColumns<'a> {
    pub image: &'a Option<String>,
    pub text: &'a Option<String>,
    pub text_b: &'a Option<String>,
}

/// One field and its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldColumn<'a> {
    pub field: Field,
    pub column: &'a str,
}

impl FieldColumn<'_> {
    /// The key that names the column.
    pub fn key(&self) -> String {
        format!("data.{}", self.field.name)
    }
}

impl<'a> FieldColumns<'a> {
    /// The fields of every row, in the order in which a pair is encoded. Without a key there is a picture in the
    /// column `image`.
    pub fn list(&self) -> Vec<FieldColumn<'a>> {
        let given = [
            ("image", Modality::Image, self.image),
            ("text", Modality::Text, self.text),
            ("text_b", Modality::Text, self.text_b),
        ];
        let field = |name: &str, modality, column| FieldColumn { field: Field { name: name.into(), modality }, column };
        let named: Vec<FieldColumn<'a>> = given
            .into_iter()
            .filter_map(|(name, modality, column)| Some(field(name, modality, column.as_deref()?)))
            .collect();
        if named.is_empty() { vec![field("image", Modality::Image, "image")] } else { named }
    }

    /// The fields without their columns.
    pub fn fields(&self) -> Vec<Field> {
        self.list().into_iter().map(|column| column.field).collect()
    }

    pub fn check(&self, problems: &mut Problems) {
        if self.text_b.is_some() && self.text.is_none() {
            problems.push(None, "data.text_b", "is the second text of a pair, and there is no `text`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_two_structs_stand_in_one_map() {
        #[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        struct Own {
            header: bool,
        }
        type Keys = Both<Own, RowColumns>;
        let read = |value: Value| serde_json::from_value::<Keys>(value).map_err(|error| error.to_string());
        let keys = read(serde_json::json!({"text": "a", "header": true})).unwrap();
        assert_eq!((keys.own.header, keys.rest.text.as_deref()), (true, Some("a")));
        assert_eq!(read(serde_json::to_value(&keys).unwrap()), Ok(keys));
        assert!(read(serde_json::json!({"headers": true})).unwrap_err().contains("unknown field `headers`"));
        let schema = Keys::json_schema(&mut SchemaGenerator::default());
        let names: Vec<&String> = schema.get("properties").unwrap().as_object().unwrap().keys().collect();
        assert_eq!(names, ["header", "image", "text", "text_b", "label"]);
        assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)));
    }

    #[test]
    fn a_table_has_pictures_unless_it_says_otherwise() {
        let (none, some) = (None, Some("sentence".to_string()));
        let columns = |text, text_b| FieldColumns { image: &none, text, text_b };
        let names = |columns: FieldColumns<'_>| -> Vec<String> {
            columns.list().iter().map(|one| format!("{}={}", one.field.name, one.column)).collect()
        };
        assert_eq!(names(columns(&none, &none)), ["image=image"]);
        assert_eq!(names(columns(&some, &some)), ["text=sentence", "text_b=sentence"]);
        let mut problems = Problems::new("x");
        columns(&none, &some).check(&mut problems);
        assert_eq!(problems.list[0].path, "data.text_b");
    }
}
