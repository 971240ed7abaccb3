//! The reference of the recipe language as Markdown, from the merged schema: one table per map, one per
//! kind of a tagged choice.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::schema::{Kind, deref};

/// The reference, as Markdown.
pub fn markdown() -> String {
    let root = Kind::Merged.schema();
    let mut text = String::from("# Keys of a recipe\n\nMade by `caft schema --markdown` from the types.\n");
    section("", root, root, &mut text);
    text
}

/// A map's table, or one for each kind, and then those of the maps inside.
fn section(path: &str, schema: &Value, root: &Value, text: &mut String) {
    let schema = resolve(schema, root);
    // What nests in itself is told once.
    if path.matches(".parameters.…").count() > 1 {
        return;
    }
    for branch in ["anyOf", "oneOf"] {
        for inner in schema.get(branch).and_then(Value::as_array).into_iter().flatten() {
            section(path, inner, root, text);
        }
    }
    for branch in ["then", "else", "items", "additionalProperties"] {
        if let Some(inner) = schema.get(branch).filter(|inner| inner.is_object()) {
            let path = match branch {
                "items" => format!("{path}[…]"),
                "additionalProperties" => format!("{path}.…"),
                _ => path.to_string(),
            };
            section(&path, inner, root, text);
        }
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    if is_resource(schema) {
        return;
    }
    let title = if path.is_empty() { "The top".to_string() } else { format!("`{path}`") };
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let kinds = kinds(schema);
    if kinds.is_empty() {
        let _ = write!(text, "\n## {title}\n\n{description}\n\n");
        table(path, properties, schema, root, text);
        return;
    }
    // Keys that every kind has are told once.
    let shared: Map<String, Value> = match kinds.as_slice() {
        [_] => Map::new(),
        [(_, _, first), rest @ ..] => first
            .iter()
            .filter(|(key, value)| rest.iter().all(|(_, _, other)| other.get(*key) == Some(value)))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        [] => Map::new(),
    };
    let _ = write!(text, "\n## {title}\n\n{description}\n\n");
    if !shared.is_empty() {
        text.push_str("Keys of every kind:\n\n");
        table(path, &shared, schema, root, text);
    }
    for (name, description, own) in kinds {
        let own: Map<String, Value> = own
            .iter()
            .filter(|(key, _)| *key != "kind" && !shared.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let _ = write!(text, "\n### {title} with `kind: {name}`\n\n{description}\n\n");
        if own.is_empty() {
            text.push_str("It has no keys of its own.\n");
        } else {
            table(path, &own, schema, root, text);
        }
    }
}

/// The kinds of a tagged choice: name, description, keys.
fn kinds(schema: &Value) -> Vec<(&str, &str, &Map<String, Value>)> {
    let conditions = schema.get("allOf").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .filter_map(|condition| {
            let name = condition.pointer("/if/properties/kind/const")?.as_str()?;
            let then = condition.get("then")?;
            let description = then.get("description").and_then(Value::as_str).unwrap_or_default();
            Some((name, description, then.get("properties")?.as_object()?))
        })
        .collect()
}

/// A table of keys, then the sections of the maps among them.
fn table(path: &str, properties: &Map<String, Value>, owner: &Value, root: &Value, text: &mut String) {
    let required = owner.get("required").and_then(Value::as_array);
    text.push_str("| key | what it takes | default | what it is |\n| --- | --- | --- | --- |\n");
    for (key, schema) in properties {
        let needed = required.is_some_and(|required| required.iter().any(|name| name == key));
        let default = match schema.get("default") {
            Some(Value::Object(_)) => "see below".to_string(),
            Some(value) => format!("`{value}`"),
            None if needed => "needed".into(),
            None => String::new(),
        };
        let own = schema.get("description").or_else(|| resolve(schema, root).get("description"));
        let description = own.and_then(Value::as_str).unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let takes = takes(schema, root).replace('|', "\\|");
        let _ = writeln!(text, "| `{key}` | {takes} | {default} | {description} |");
    }
    for (key, schema) in properties {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        section(&path, schema, root, text);
    }
}

/// The schema behind references and behind "or nothing".
fn resolve<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    // No schema of ours refers to itself; the bound is against a mistake.
    for _ in 0..16 {
        let next = deref(schema, root);
        let only = next.get("allOf").and_then(Value::as_array).filter(|all| all.len() == 1).and_then(|all| all.first());
        let inner = match (only, next.pointer("/if/not/type")) {
            (Some(only), _) if only.get("$ref").is_some() => only,
            (_, Some(_)) => next.get("then").unwrap_or(next),
            _ if std::ptr::eq(next, schema) => return schema,
            _ => next,
        };
        schema = inner;
    }
    schema
}

fn is_resource(schema: &Value) -> bool {
    schema.pointer("/properties/address").is_some()
}

/// What a key takes, in words.
fn takes(schema: &Value, root: &Value) -> String {
    let schema = resolve(schema, root);
    if is_resource(schema) {
        return "an address".into();
    }
    let words = |values: &Vec<Value>| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return words(values).replace('"', "");
    }
    if let Some(values) = schema.pointer("/properties/kind/enum").and_then(Value::as_array) {
        return format!("a map of `kind`: {}", words(values).replace('"', ""));
    }
    if let Some(branches) = schema.get("anyOf").and_then(Value::as_array) {
        return branches.iter().map(|branch| takes(branch, root)).collect::<Vec<_>>().join(", or ");
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`").replace('"', "");
    }
    let name = |kind: &str| match kind {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a map",
        _ => "nothing",
    };
    let mut takes = match schema.get("type") {
        Some(Value::String(kind)) => name(kind).to_string(),
        Some(Value::Array(kinds)) => {
            let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).filter(|k| *k != "null").map(name).collect();
            kinds.join(" or ")
        }
        _ => "anything".into(),
    };
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        takes = format!("{takes} of {}", self::takes(items, root));
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64).filter(|bound| *bound != 0.0 || key == "maximum");
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => takes + &format!(" from {least} to {most}"),
        (Some(least), None) => takes + &format!(", at least {least}"),
        (None, Some(most)) => takes + &format!(", at most {most}"),
        (None, None) => takes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_schema_is_in_the_reference() {
        fn keys(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::Object(properties)) = map.get("properties") {
                        found.extend(
                            properties
                                .keys()
                                .filter(|key| !["kind", "address", "sha256"].contains(&key.as_str()))
                                .cloned(),
                        );
                    }
                    map.values().for_each(|inner| keys(inner, found));
                }
                Value::Array(items) => items.iter().for_each(|inner| keys(inner, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        keys(Kind::Merged.schema(), &mut found);
        let text = markdown();
        for key in found {
            assert!(text.contains(&format!("| `{key}` |")), "`{key}` is not in the reference");
        }
        assert!(text.contains("### `train.optimizer` with `kind: adamw`"));
        assert!(text.contains("| `epochs` | a whole number, at least 1 | `50` | Passes over the training rows. |"));
    }
}
