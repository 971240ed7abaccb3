//! What a schema has against a value, in the words of a person: the path of the wrong field, what is
//! wrong, what is allowed, and the nearest right spelling.

use std::sync::OnceLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

use super::schema::{Kind, deref};
use super::{KeyPath, Segment};
use crate::base::suggest::{did_you_mean, nearest, one_of};
use crate::resource::Address;

/// One thing that is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The path of what is wrong.
    pub path: KeyPath,
    /// Whether the key itself is wrong and not its value.
    pub at_key: bool,
    /// What is wrong.
    pub message: String,
}

/// Everything that the schema has against the value.
pub fn validate(value: &Value, schema: &Value) -> Vec<Finding> {
    let validator: Validator = match jsonschema::draft7::new(schema) {
        Ok(validator) => validator,
        Err(error) => unreachable!("the schemas are tested to be schemas: {error}"),
    };
    explained(&validator, value, schema)
}

/// Everything that a recipe's schema has against the value; the schema is made ready once.
pub fn validate_recipe(value: &Value, kind: Kind) -> Vec<Finding> {
    static READY: [OnceLock<Validator>; Kind::ALL.len()] = [const { OnceLock::new() }; Kind::ALL.len()];
    let schema = kind.schema();
    let validator = READY[kind as usize].get_or_init(|| match jsonschema::draft7::new(schema) {
        Ok(validator) => validator,
        Err(error) => unreachable!("the schemas are tested to be schemas: {error}"),
    });
    explained(validator, value, schema)
}

fn explained(validator: &Validator, value: &Value, schema: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for error in validator.iter_errors(value) {
        explain(&error, schema, &mut findings);
    }
    findings
}

fn explain(error: &ValidationError<'_>, schema: &Value, out: &mut Vec<Finding>) {
    use ValidationErrorKind as K;
    let path = path_of(error.instance_path());
    let instance = error.instance().as_ref();
    let message = match error.kind() {
        K::AdditionalProperties { unexpected } => {
            let allowed = allowed_keys(error, schema);
            for key in unexpected {
                out.push(Finding { path: path.key(key), at_key: true, message: unknown_field(key, &allowed) });
            }
            return;
        }
        K::PropertyNames { error } => {
            let K::Enum { options } = error.kind() else {
                let key = error.instance().as_str().unwrap_or_default().to_string();
                out.push(Finding { path: path.key(&key), at_key: true, message: "this name is not allowed".into() });
                return;
            };
            let allowed: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let key = error.instance().as_str().unwrap_or_default();
            out.push(Finding { path: path.key(key), at_key: true, message: unknown_field(key, &allowed) });
            return;
        }
        K::AnyOf { context } | K::OneOfNotValid { context } => {
            // The branches that are of the value's own type are what was meant.
            let of_type = |branch: &&Vec<ValidationError<'static>>| {
                !branch.iter().any(|e| matches!(e.kind(), K::Type { .. }) && e.instance_path() == error.instance_path())
            };
            let meant: Vec<_> = context.iter().filter(of_type).collect();
            if let [branch] = meant.as_slice() {
                branch.iter().for_each(|e| explain(e, schema, out));
                return;
            }
            let mut parts = Vec::new();
            for branch in context {
                let mut inner = Vec::new();
                branch.iter().for_each(|e| explain(e, schema, &mut inner));
                parts.extend(inner.into_iter().map(|finding| finding.message));
            }
            parts.dedup();
            parts.join(", and ")
        }
        K::Type { kind } => {
            let types: Vec<String> = match kind {
                TypeKind::Single(one) => vec![one.to_string()],
                TypeKind::Multiple(many) => many.iter().map(|t| t.to_string()).collect(),
            };
            let named: Vec<&str> = types.iter().filter(|t| *t != "null").map(|t| type_name(t)).collect();
            format!("{} is not {}", show(instance), named.join(" or "))
        }
        K::Enum { options } => {
            let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let near = instance.as_str().map(|word| did_you_mean(word, options.iter().copied())).unwrap_or_default();
            format!("{} is not one of {}{near}", show(instance), one_of(options))
        }
        K::Constant { expected_value } => format!("{} is not {}", show(instance), show(expected_value)),
        K::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let kinds = enclosing(error, schema).and_then(|s| s.pointer(&format!("/properties/{key}/enum")));
            let kinds: Vec<&str> =
                kinds.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            if kinds.is_empty() {
                format!("`{key}` is missing")
            } else {
                format!("`{key}` is missing; it is {}", one_of(kinds))
            }
        }
        K::Minimum { limit } => format!("{} is less than the minimum of {}", show(instance), number(limit)),
        K::Maximum { limit } => format!("{} is greater than the maximum of {}", show(instance), number(limit)),
        K::ExclusiveMinimum { limit } => format!("{} is not greater than {}", show(instance), number(limit)),
        K::ExclusiveMaximum { limit } => format!("{} is not less than {}", show(instance), number(limit)),
        K::MinItems { limit } => format!("it has fewer than {limit} items"),
        K::MaxItems { limit } => format!("it has more than {limit} items"),
        K::MinLength { limit: 1 } => "it is empty".into(),
        K::MinLength { limit } => format!("{} has fewer than {limit} characters", show(instance)),
        K::MaxLength { limit } => format!("it has more than {limit} characters"),
        K::MinProperties { .. } | K::MaxProperties { .. } => {
            let keys = enclosing(error, schema).and_then(|s| s.get("properties")).and_then(Value::as_object);
            match keys {
                Some(keys) => format!("it takes exactly one of {}", one_of(keys.keys().map(String::as_str))),
                None => "it is empty".into(),
            }
        }
        K::Pattern { pattern } => match instance.as_str().map(str::parse::<Address>) {
            Some(Err(why)) if pattern.contains("pip:") => why.to_string(),
            _ if pattern.contains("A-Za-z0-9_.-") => {
                format!(
                    "{} has other characters than letters, digits, `_`, `-` and `.`, or begins with one of the last two",
                    show(instance)
                )
            }
            _ => format!("{} does not match `{pattern}`", show(instance)),
        },
        K::FalseSchema => "it is not allowed here".into(),
        _ => error.to_string(),
    };
    out.push(Finding { path, at_key: false, message });
}

fn path_of(location: &Location) -> KeyPath {
    let segment = |segment: LocationSegment<'_>| match segment {
        LocationSegment::Property(key) => Segment::Key(key.into_owned()),
        LocationSegment::Index(index) => Segment::Index(index),
    };
    KeyPath(location.segments().map(segment).collect())
}

/// `unknown field; did you mean `x`?`, or what is allowed where nothing is near.
fn unknown_field(key: &str, allowed: &[&str]) -> String {
    match nearest(key, allowed.iter().copied()) {
        Some(near) => format!("unknown field; did you mean `{near}`?"),
        None if allowed.is_empty() => "unknown field; none are allowed here".into(),
        None => format!("unknown field; allowed are {}", one_of(allowed.iter().copied()).replace(" or ", " and ")),
    }
}

/// The schema that the failed keyword stands in.
fn enclosing<'a>(error: &ValidationError<'_>, root: &'a Value) -> Option<&'a Value> {
    let mut segments: Vec<LocationSegment<'_>> = error.evaluation_path().segments().collect();
    segments.pop();
    segments.iter().try_fold(root, |schema, segment| match segment {
        LocationSegment::Property(key) if key == "$ref" => Some(deref(schema, root)),
        LocationSegment::Property(key) => schema.get(key.as_ref()),
        LocationSegment::Index(index) => schema.get(index),
    })
}

fn allowed_keys<'a>(error: &ValidationError<'_>, root: &'a Value) -> Vec<&'a str> {
    let properties = enclosing(error, root).and_then(|s| s.get("properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

fn type_name(name: &str) -> &'static str {
    match name {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a map",
        _ => "nothing",
    }
}

/// A value as a message shows it: scalars as they are, others by what they are.
fn show(value: &Value) -> String {
    match value {
        Value::Object(_) => "a map".into(),
        Value::Array(_) => "a list".into(),
        Value::Null => "nothing".into(),
        Value::String(text) if text.chars().count() > 80 => {
            format!("\"{}…\"", text.chars().take(77).collect::<String>())
        }
        other => other.to_string(),
    }
}

/// A limit without the `.0` of a whole number.
fn number(limit: &Value) -> String {
    let text = limit.to_string();
    text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
}
