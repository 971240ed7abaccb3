//! The JSON schemas, from the Rust types.
//!
//! schemars writes a tagged enum as `oneOf` its kinds, of which a validator can only say "not valid
//! under any of the schemas". Here it becomes `if kind = … then …` for each kind, so that an error's
//! pointer reaches the wrong field. They are draft 7, which every editor understands.

use std::sync::OnceLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::types::Recipe;
use crate::backbone::Entry;

/// A schema that caft ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A recipe file as written: nothing is required, for `extends` may give it.
    Recipe,
    /// A recipe with its layers merged.
    Merged,
    /// A file of the catalogue of backbones.
    Backbone,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Recipe, Self::Merged, Self::Backbone];

    /// The file's name under `schemas/`, without `.schema.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recipe => "recipe",
            Self::Merged => "recipe-merged",
            Self::Backbone => "backbone",
        }
    }

    /// The schema.
    pub fn schema(self) -> &'static Value {
        static SCHEMAS: [OnceLock<Value>; 3] = [const { OnceLock::new() }; 3];
        SCHEMAS[self as usize].get_or_init(|| match self {
            Self::Recipe => as_written(generate::<Recipe>("A caft recipe, as written")),
            Self::Merged => generate::<Recipe>("A caft recipe, with all layers merged"),
            Self::Backbone => family(generate::<Entry>("A family of caft's backbones")),
        })
    }

    /// The text of the file under `schemas/`.
    pub fn text(self) -> String {
        let text = serde_json::to_string_pretty(self.schema());
        text.unwrap_or_else(|e| unreachable!("a schema is plain JSON: {e}")) + "\n"
    }
}

fn generate<T: JsonSchema>(title: &str) -> Value {
    let mut schema: Value = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>().into();
    each_schema(&mut schema, &mut |schema| {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            // The line breaks of the source; paragraphs stay.
            *text = text.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
        }
        choices(schema);
        kinds(schema);
        nullable(schema);
    });
    // serde's default of the name is empty; what stands in for it is the file's name.
    if let Some(Value::Object(name)) = schema.pointer_mut("/properties/name") {
        name.remove("default");
    }
    let mut ordered = Map::new();
    for key in ["$schema", "title", "description"] {
        ordered.insert(key.into(), schema.get(key).cloned().unwrap_or_default());
    }
    ordered.insert("title".into(), title.into());
    if let Value::Object(rest) = schema {
        rest.into_iter().for_each(|(key, value)| {
            ordered.entry(key).or_insert(value);
        });
    }
    Value::Object(ordered)
}

/// Calls `change` with every map of the document that may be a schema, the inner ones first.
fn each_schema(value: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            map.iter_mut()
                .filter(|(key, _)| !["default", "const", "enum"].contains(&key.as_str()))
                .for_each(|(_, inner)| each_schema(inner, change));
            change(map);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_schema(item, change)),
        _ => {}
    }
}

/// `oneOf` constants becomes `enum`, with the descriptions where editors look for them.
fn choices(schema: &mut Map<String, Value>) {
    let Some(variants) = schema.get("oneOf").and_then(Value::as_array) else { return };
    let constants: Option<Vec<Value>> = variants
        .iter()
        .map(|variant| match (variant.get("const"), variant.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => Some(vec![value.clone()]),
            (None, Some(values)) => Some(values.clone()),
            _ => None,
        })
        .collect::<Option<Vec<Vec<Value>>>>()
        .map(|values| values.concat());
    let Some(constants) = constants.filter(|values| values.iter().all(Value::is_string)) else { return };
    let descriptions: Vec<Value> = variants.iter().filter_map(|v| v.get("description").cloned()).collect();
    let described = descriptions.len() == constants.len();
    schema.remove("oneOf");
    schema.insert("type".into(), "string".into());
    schema.insert("enum".into(), constants.into());
    if described {
        schema.insert("markdownEnumDescriptions".into(), descriptions.into());
    }
}

/// `anyOf` something or null becomes `if not null then something`, so that an error points into it.
fn nullable(schema: &mut Map<String, Value>) {
    let Some(branches) = schema.get("anyOf").and_then(Value::as_array) else { return };
    let nothing = json!({"type": "null"});
    let [first, second] = branches.as_slice() else { return };
    let inner = match (*first == nothing, *second == nothing) {
        (true, false) => second.clone(),
        (false, true) => first.clone(),
        _ => return,
    };
    schema.remove("anyOf");
    schema.insert("if".into(), json!({"not": nothing}));
    schema.insert("then".into(), inner);
}

/// `oneOf` kinds becomes `if kind = … then …`.
fn kinds(schema: &mut Map<String, Value>) {
    let kind_of = |variant: &Value| variant.pointer("/properties/kind/const").cloned();
    let Some(variants) = schema.get("oneOf").and_then(Value::as_array) else { return };
    let Some(names) = variants.iter().map(kind_of).collect::<Option<Vec<Value>>>() else { return };
    let Some(Value::Array(variants)) = schema.remove("oneOf") else { return };
    let mut descriptions = Vec::new();
    let mut conditions = Vec::new();
    for (mut variant, name) in variants.into_iter().zip(&names) {
        let Some(map) = variant.as_object_mut() else { continue };
        map.remove("type");
        descriptions.extend(map.get("description").cloned());
        if let Some(Value::Array(required)) = map.get_mut("required") {
            required.retain(|key| key != "kind");
            if required.is_empty() {
                map.remove("required");
            }
        }
        conditions.push(json!({
            "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
            "then": variant,
        }));
    }
    let mut kind =
        json!({"description": "Which kind it is; the other keys depend on it.", "type": "string", "enum": names});
    if descriptions.len() == names.len() {
        kind["markdownEnumDescriptions"] = descriptions.into();
    }
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), json!({"kind": kind}));
    schema.insert("required".into(), json!(["kind"]));
    schema.insert("allOf".into(), conditions.into());
}

/// Nothing is required, and while a `kind` is not given the keys of every kind are allowed.
fn as_written(mut schema: Value) -> Value {
    each_schema(&mut schema, &mut |schema| {
        if schema.contains_key("if") {
            return;
        }
        let is_kinds = schema.get("properties").is_some_and(|p| p.pointer("/kind/enum").is_some());
        if let (true, Some(Value::Array(conditions))) = (is_kinds, schema.get_mut("allOf")) {
            let mut keys: Vec<Value> = vec!["kind".into()];
            for condition in conditions.iter() {
                let properties = condition.pointer("/then/properties").and_then(Value::as_object);
                for key in properties.into_iter().flat_map(Map::keys) {
                    if !keys.contains(&key.as_str().into()) {
                        keys.push(key.as_str().into());
                    }
                }
            }
            conditions.push(json!({
                "if": {"not": {"required": ["kind"]}},
                "then": {"propertyNames": {"enum": keys}},
            }));
        }
        schema.remove("required");
    });
    // The conditions on a kind apply only where it is written.
    each_schema(&mut schema, &mut |schema| {
        if let Some(Value::Object(condition)) = schema.get_mut("if")
            && condition.get("properties").is_some_and(|p| p.get("kind").is_some())
        {
            condition.insert("required".into(), json!(["kind"]));
        }
    });
    schema
}

/// A family's file: what the variants share, and under `variants` what each has of its own.
fn family(entry: Value) -> Value {
    let mut schema = as_written(entry);
    let Some(root) = schema.as_object_mut() else { return schema };
    let Some(Value::Object(mut properties)) = root.remove("properties") else { return schema };
    properties.shift_remove("name");
    let title = "One backbone of the family";
    let variant = json!({
        "title": title,
        "description": "What this backbone has of its own; maps are merged into the family's.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    properties.insert(
        "variants".into(),
        json!({
            "description": "The backbones of the family by the names that recipes use. Each takes over what it does not say.",
            "type": "object",
            "propertyNames": {"pattern": "^[a-z0-9_]+$"},
            "minProperties": 1,
            "additionalProperties": {"$ref": "#/definitions/Variant"},
        }),
    );
    root.insert("properties".into(), properties.into());
    root.insert("required".into(), json!(["family", "variants"]));
    root.insert("additionalProperties".into(), false.into());
    if let Some(Value::Object(definitions)) = root.get_mut("definitions") {
        definitions.insert("Variant".into(), variant);
    }
    schema
}

/// The schema that a reference stands for, or the schema itself.
pub fn deref<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `CAFT_UPDATE_SCHEMAS=1 cargo test schemas` writes them anew.
    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for kind in Kind::ALL {
            let path = folder.join(format!("{}.schema.json", kind.name()));
            if std::env::var_os("CAFT_UPDATE_SCHEMAS").is_some() {
                crate::base::file::write_bytes(&path, kind.text().as_bytes()).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == kind.text(),
                "schemas/{}.schema.json is stale; `CAFT_UPDATE_SCHEMAS=1 cargo test schemas` writes it",
                kind.name()
            );
        }
    }

    #[test]
    fn every_schema_is_a_schema() {
        for kind in Kind::ALL {
            assert!(jsonschema::meta::is_valid(kind.schema()), "{}", kind.name());
        }
    }
}
