//! The fields of a table's rows: which columns hold a picture or a text. A new modality is a key of the formats
//! and a line here.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Field;
use super::columns::Columns;
use super::label::LabelConfig;
use super::targets::TargetKind;
use crate::base::Problems;
use crate::base::suggest::{did_you_mean, one_of};
use crate::sample::Modality;

/// Which columns of a table (in JSON: which keys of an object) hold a row's pictures, texts and labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RowColumns {
    /// The column of the images: their paths, or in parquet the bytes; `image` if neither pictures nor texts are named.
    /// Several columns are fields of their own names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Columns>,
    /// The column of the texts; several, as in `[query, answer]`, are fields of their own names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Columns>,
    /// The column of the second texts, where two texts are encoded together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_b: Option<String>,
    /// The column of the labels; `{kind: pairs}` where the fields of a row belong together and nothing else is said.
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
        self.field_columns().check(&self.label, problems);
        self.label.check(problems);
    }

    /// What is said of a label's column that is not there: the key, and that pairs need none.
    pub(super) fn label_key(&self) -> &'static str {
        if self.fields().len() > 1 {
            return "data.label (or, where the fields of a row belong together, `label: {kind: pairs}`)";
        }
        "data.label"
    }

    /// The fields of pairs in the order of their parts, where it is said.
    pub(super) fn parts(&self) -> Option<Vec<String>> {
        self.label.fields().map(<[String]>::to_vec)
    }

    /// Takes the columns of all fields but one away; whether there is that field.
    pub(super) fn keep_only(&mut self, field: &str) -> bool {
        let found = self.field_columns().list().into_iter().find(|one| one.field.name == field);
        let Some((modality, column)) = found.map(|one| (one.field.modality, one.column.to_string())) else {
            return false;
        };
        // A field by its own name is a map of one.
        let columns = Some(Columns::Several([(field.to_string(), column)].into_iter().collect()));
        (self.image, self.text, self.text_b) = match modality {
            Modality::Image => (columns, None, None),
            Modality::Text => (None, columns, None),
        };
        true
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
    pub image: &'a Option<Columns>,
    pub text: &'a Option<Columns>,
    pub text_b: &'a Option<String>,
}

/// One field and its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldColumn<'a> {
    pub field: Field,
    pub column: &'a str,
    /// The key that names the column.
    pub key: &'static str,
}

impl<'a> FieldColumns<'a> {
    /// The fields of every row, in the order in which a pair is encoded. Without a key there is a picture in the
    /// column `image`.
    pub fn list(&self) -> Vec<FieldColumn<'a>> {
        let field = |name: &str, modality, column, key| FieldColumn {
            field: Field { name: name.into(), modality },
            column,
            key,
        };
        let mut named = Vec::new();
        for (name, key, modality, columns) in
            [("image", "data.image", Modality::Image, self.image), ("text", "data.text", Modality::Text, self.text)]
        {
            match columns {
                None => {}
                Some(Columns::One(column)) => named.push(field(name, modality, column, key)),
                Some(Columns::Several(columns)) => {
                    named.extend(columns.iter().map(|(name, column)| field(name, modality, column, key)));
                }
            }
        }
        named.extend(self.text_b.iter().map(|column| field("text_b", Modality::Text, column, "data.text_b")));
        if named.is_empty() { vec![field("image", Modality::Image, "image", "data.image")] } else { named }
    }

    /// The fields without their columns.
    pub fn fields(&self) -> Vec<Field> {
        self.list().into_iter().map(|column| column.field).collect()
    }

    pub fn check(&self, label: &LabelConfig, problems: &mut Problems) {
        if self.text_b.is_some() && !matches!(self.text, Some(Columns::One(_))) {
            let message = match self.text {
                None => "is the second text of a pair, and there is no `text`",
                Some(_) => "is the second text of a pair; with several columns in `text` put it among them",
            };
            problems.push(None, "data.text_b", message);
        }
        let fields = self.list();
        for (at, one) in fields.iter().enumerate() {
            let name = &one.field.name;
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
                let message = format!(
                    "the field `{name}` has more in its name than letters, digits, `_` and `-`; name it, as in `{{query: \
                     {}}}`",
                    one.column
                );
                problems.push(None, one.key, message);
            }
            if fields[..at].iter().any(|other| other.field.name == *name) {
                problems.push(None, one.key, format!("two fields are called `{name}`"));
            }
        }
        if label.kind() == TargetKind::Pairs {
            check_pairs(&fields, label, problems);
        }
    }
}

/// Rows that are pairs have two fields or more, and `label.fields` names each of them once.
fn check_pairs(fields: &[FieldColumn<'_>], label: &LabelConfig, problems: &mut Problems) {
    let names: Vec<&str> = fields.iter().map(|one| one.field.name.as_str()).collect();
    if names.len() < 2 {
        let message = "pairs need rows of two fields or more, such as `text: [query, answer]`, or `image` and `text`";
        problems.push(None, "data.label.kind", message);
        return;
    }
    let Some(order) = label.fields() else { return };
    for (at, name) in order.iter().enumerate() {
        let path = format!("data.label.fields[{at}]");
        if !names.contains(&name.as_str()) {
            let (there, near) = (one_of(names.iter().copied()), did_you_mean(name, names.iter().copied()));
            problems.push(None, path, format!("rows have no field `{name}`; there is {there}{near}"));
        } else if order[..at].contains(name) {
            problems.push(None, path, format!("`{name}` is named twice"));
        }
    }
    if let Some(missing) = names.iter().find(|name| !order.iter().any(|other| other == *name)) {
        problems.push(None, "data.label.fields", format!("the field `{missing}` is missing"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(image: &Option<Columns>, text: &Option<Columns>, label: serde_json::Value) -> Vec<String> {
        let mut problems = Problems::new("x");
        let columns = FieldColumns { image, text, text_b: &None };
        columns.check(&serde_json::from_value(label).unwrap(), &mut problems);
        problems.list.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
    }

    #[test]
    fn the_keys_of_two_structs_stand_in_one_map() {
        #[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        struct Own {
            header: bool,
        }
        type Keys = Both<Own, RowColumns>;
        let read = |value: Value| serde_json::from_value::<Keys>(value).map_err(|error| error.to_string());
        let keys = read(json!({"text": "a", "header": true})).unwrap();
        assert_eq!((keys.own.header, &keys.rest.text), (true, &Some(Columns::from("a"))));
        assert_eq!(read(serde_json::to_value(&keys).unwrap()), Ok(keys));
        assert!(read(json!({"headers": true})).unwrap_err().contains("unknown field `headers`"));
        let schema = Keys::json_schema(&mut SchemaGenerator::default());
        let names: Vec<&String> = schema.get("properties").unwrap().as_object().unwrap().keys().collect();
        assert_eq!(names, ["header", "image", "text", "text_b", "label"]);
        assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)));
    }

    #[test]
    fn a_table_has_pictures_unless_it_says_otherwise() {
        let (none, some, b) = (None, Some(Columns::from("sentence")), Some("sentence".to_string()));
        let columns = |text, text_b| FieldColumns { image: &none, text, text_b };
        let names = |columns: FieldColumns<'_>| -> Vec<String> {
            columns.list().iter().map(|one| format!("{}={}", one.field.name, one.column)).collect()
        };
        assert_eq!(names(columns(&none, &None)), ["image=image"]);
        assert_eq!(names(columns(&some, &b)), ["text=sentence", "text_b=sentence"]);
        let mut problems = Problems::new("x");
        columns(&none, &b).check(&LabelConfig::column_named("label"), &mut problems);
        assert_eq!(problems.list[0].path, "data.text_b");
    }

    #[test]
    fn several_columns_are_fields_of_their_own_names() {
        let read = |value: serde_json::Value| serde_json::from_value::<Columns>(value);
        let (list, map) = (json!(["query", "answer"]), json!({"query": "Query text", "answer": "answer"}));
        for written in [json!("sentence"), list.clone(), map.clone()] {
            assert_eq!(serde_json::to_value(read(written.clone()).unwrap()).unwrap(), written);
        }
        assert!(read(json!(["a", "a"])).unwrap_err().to_string().contains("listed twice"));
        assert!(read(json!(3)).is_err());
        let (image, text) = (Some(Columns::from("photo")), Some(read(map).unwrap()));
        let all = FieldColumns { image: &image, text: &text, text_b: &None };
        let names: Vec<String> = all.fields().into_iter().map(|field| field.name).collect();
        assert_eq!(names, ["image", "query", "answer"]);
        let mut only = RowColumns { image: image.clone(), text: text.clone(), ..RowColumns::default() };
        assert!(only.keep_only("query") && !only.keep_only("answer"));
        assert_eq!((only.image, only.text), (None, Some(read(json!({"query": "Query text"})).unwrap())));
        assert_eq!(problems(&image, &text, json!({"kind": "pairs"})), [""; 0]);
        let order = json!({"kind": "pairs", "fields": ["anser", "query", "query"]});
        let found = problems(&None, &text, order);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("did you mean `answer`?") && found[2].ends_with("`answer` is missing"), "{found:?}");
        assert!(problems(&image, &None, json!({"kind": "pairs"}))[0].contains("two fields or more"));
        let odd = Some(read(json!(["Query text", "answer"])).unwrap());
        assert!(problems(&None, &odd, json!("label"))[0].contains("{query: Query text}"));
    }
}
