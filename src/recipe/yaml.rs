//! YAML into a [`Node`] tree that keeps the line and column of every key and value.
//!
//! The scalars are those of YAML 1.2's core schema: `no` and `on` are text, `1e-3` is a number, `0o17`
//! is 15. Anchors, aliases and merge keys (`<<`) work; what aliases unfold to is counted against
//! [`LIMITS`]. Duplicate keys, second documents, tags other than the core ones, and keys that are not
//! scalars are problems. A value that an alias or a merge key brings in keeps the place of its
//! definition.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use indexmap::map::Entry as Slot;
use serde_json::Number;

use super::tree::{Entry, Map, Node, Origin, Source, Value};
use crate::base::{Place, Problems};

/// What a document may hold.
pub struct Limits {
    /// Bytes of text.
    pub bytes: u64,
    /// Values, with aliases unfolded.
    pub nodes: usize,
    /// Maps and lists inside each other.
    pub depth: usize,
}

/// The limits of a recipe.
pub const LIMITS: Limits = Limits { bytes: 4 << 20, nodes: 100_000, depth: 64 };

/// Reads one document. Problems go to `problems`; the tree is `None` if the text is not YAML at all or
/// is empty.
pub fn parse(text: &str, source: &Arc<Source>, problems: &mut Problems) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! {
        flow_nesting_limit: LIMITS.depth,
        block_nesting_limit: LIMITS.depth,
        emit_comments: false,
    };
    let mut composer = Composer { source, problems, frames: Vec::new(), root: None, anchors: HashMap::new(), nodes: 0 };
    for step in Parser::new_from_str_with_options(text, options) {
        match step {
            Ok((event, span)) => {
                if composer.event(event, span).is_err() {
                    return None;
                }
            }
            Err(error) => {
                let mark = error.marker();
                let (line, column, message) =
                    tab_in_indent(text, &error).unwrap_or_else(|| (mark.line(), mark.col() + 1, error.info()));
                let origin = Origin { source: source.clone(), line, column };
                composer.problems.push(Some(origin.place()), "", message);
                return None;
            }
        }
    }
    composer.root
}

/// The line and column of a tab that stands where only spaces may indent, with one message for the
/// various ones of the parser, which may point at the value that goes on over that line.
fn tab_in_indent(text: &str, error: &granit_parser::ScanError) -> Option<(usize, usize, String)> {
    let mark = error.marker();
    let from = mark.line().checked_sub(1)?;
    let lines = if error.info().contains("tab") { usize::MAX } else { 1 };
    text.lines().enumerate().skip(from).take(lines).find_map(|(number, line)| {
        let indent = line.chars().take_while(|c| c.is_whitespace());
        let tab = indent.clone().position(|c| c == '\t')?;
        let fits = number > from || mark.col() <= indent.count();
        fits.then(|| (number + 1, tab + 1, "a tab cannot indent; use spaces".to_string()))
    })
}

/// Stops the reading; the problem has been pushed.
struct Stop;

enum Frame {
    Map { map: Map, key: Option<(String, Origin)>, merges: Vec<Node>, merge_next: bool, origin: Origin, anchor: usize },
    List { items: Vec<Node>, origin: Origin, anchor: usize },
}

struct Composer<'a> {
    source: &'a Arc<Source>,
    problems: &'a mut Problems,
    frames: Vec<Frame>,
    root: Option<Node>,
    /// Finished nodes by anchor, with how many values each unfolds to and how deep it is.
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
}

impl Composer<'_> {
    fn origin(&self, span: &Span) -> Origin {
        Origin { source: self.source.clone(), line: span.start.line(), column: span.start.col() + 1 }
    }

    fn problem(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Some(place), "", message);
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let origin = self.origin(&span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                self.problem(origin.place(), "a second document begins here; one file holds one");
                return Err(Stop);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, &origin)?;
                if self.wants_key() {
                    if anchor > 0 {
                        let node = Node { value: Value::String(text.to_string()), origin: origin.clone() };
                        self.anchors.insert(anchor, (node, 1, 0));
                    }
                    return self.key(text.into_owned(), style == ScalarStyle::Plain, origin);
                }
                let tag = tag.as_ref().map(|tag| tag.core_suffix().map(str::to_string).ok_or_else(|| tag.original()));
                let value = match scalar(&text, style, tag) {
                    Ok(value) => value,
                    Err(message) => {
                        self.problem(origin.place(), message);
                        Value::Null
                    }
                };
                self.push(Node { value, origin }, anchor, 1, 0)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(&origin, tag.is_none_or(|t| t.core_suffix() == Some("seq")))?;
                self.frames.push(Frame::List { items: Vec::new(), origin, anchor });
            }
            Event::MappingStart(_, anchor, tag) => {
                self.open(&origin, tag.is_none_or(|t| t.core_suffix() == Some("map")))?;
                let (map, merges) = (Map::new(), Vec::new());
                self.frames.push(Frame::Map { map, key: None, merges, merge_next: false, origin, anchor });
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => {
                let Some((node, nodes, depth)) = self.anchors.get(&id).cloned() else {
                    self.problem(origin.place(), "an alias cannot stand inside the value it names");
                    return Err(Stop);
                };
                self.count(nodes, &origin)?;
                if self.frames.len() + depth > LIMITS.depth {
                    self.problem(origin.place(), too_deep());
                    return Err(Stop);
                }
                if self.wants_key() {
                    let Value::String(text) = node.value else {
                        self.problem(origin.place(), "a key must be text");
                        return Err(Stop);
                    };
                    return self.key(text, false, origin);
                }
                self.push(node, 0, nodes, depth)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, origin: &Origin) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > LIMITS.nodes {
            let message = format!("more than {} values, counting what aliases stand for", LIMITS.nodes);
            self.problem(origin.place(), message);
            return Err(Stop);
        }
        Ok(())
    }

    fn open(&mut self, origin: &Origin, tag_fits: bool) -> Result<(), Stop> {
        self.count(1, origin)?;
        if !tag_fits {
            self.problem(origin.place(), "tags have no meaning here; remove it");
        }
        if self.frames.len() >= LIMITS.depth {
            self.problem(origin.place(), too_deep());
            return Err(Stop);
        }
        if self.wants_key() {
            self.problem(origin.place(), "a key must be text, not a map or list");
            return Err(Stop);
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Map { key: None, merge_next: false, .. }))
    }

    fn key(&mut self, text: String, plain: bool, origin: Origin) -> Result<(), Stop> {
        if let Some(Frame::Map { key, merge_next, .. }) = self.frames.last_mut() {
            if plain && text == "<<" {
                *merge_next = true;
            } else {
                *key = Some((text, origin));
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let (node, anchor) = match self.frames.pop() {
            Some(Frame::List { items, origin, anchor }) => (Node { value: Value::List(items), origin }, anchor),
            Some(Frame::Map { mut map, merges, origin, anchor, .. }) => {
                // What is written in the map itself wins, then the earlier of several merged maps.
                for merged in merges {
                    let Value::Map(merged) = merged.value else { continue };
                    for (key, entry) in merged {
                        map.entry(key).or_insert(entry);
                    }
                }
                (Node { value: Value::Map(map), origin }, anchor)
            }
            None => return Err(Stop),
        };
        // Only anchored nodes are measured, each once.
        let (nodes, depth) = if anchor > 0 { measure(&node) } else { (1, 0) };
        self.push(node, anchor, nodes, depth)
    }

    /// Puts a finished value where it belongs.
    fn push(&mut self, node: Node, anchor: usize, nodes: usize, depth: usize) -> Result<(), Stop> {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), nodes, depth));
        }
        let mut trouble = None;
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { merges, merge_next: next @ true, .. }) => {
                *next = false;
                let place = node.origin.place();
                let maps = match node.value {
                    Value::List(items) => items,
                    value => vec![Node { value, origin: node.origin }],
                };
                if maps.iter().any(|item| item.as_map().is_none()) {
                    trouble = Some((place, "`<<` takes a map or a list of maps".to_string()));
                }
                merges.extend(maps);
            }
            Some(Frame::Map { map, key, .. }) => {
                let Some((key, origin)) = key.take() else { return Err(Stop) };
                match map.entry(key) {
                    Slot::Occupied(slot) => {
                        let first = &slot.get().key;
                        let message = format!(
                            "duplicate key `{}`; first at line {}, column {}",
                            slot.key(),
                            first.line,
                            first.column
                        );
                        trouble = Some((origin.place(), message));
                    }
                    Slot::Vacant(slot) => {
                        slot.insert(Entry { key: origin, node });
                    }
                }
            }
        }
        if let Some((place, message)) = trouble {
            self.problem(place, message);
        }
        Ok(())
    }
}

fn too_deep() -> String {
    format!("more than {} maps and lists inside each other", LIMITS.depth)
}

/// How many values a node unfolds to, and how many maps and lists are inside each other in it.
fn measure(node: &Node) -> (usize, usize) {
    let sum = |children: &mut dyn Iterator<Item = &Node>| {
        children.map(measure).fold((1, 1), |(nodes, depth), (n, d)| (nodes + n, depth.max(d + 1)))
    };
    match &node.value {
        Value::List(items) => sum(&mut items.iter()),
        Value::Map(map) => sum(&mut map.values().map(|entry| &entry.node)),
        _ => (1, 0),
    }
}

/// A scalar by the core schema, or by its core tag (`Ok` of the tag) if it has one.
fn scalar(text: &str, style: ScalarStyle, tag: Option<Result<String, String>>) -> Result<Value, String> {
    let is_text = || Value::String(text.to_string());
    match tag {
        Some(Err(original)) => return Err(format!("the tag `{original}` has no meaning here; remove it")),
        Some(Ok(tag)) if tag == "str" => return Ok(is_text()),
        Some(Ok(tag)) => {
            let value = plain(text)?;
            let fits = match tag.as_str() {
                "null" => matches!(value, Value::Null),
                "bool" => matches!(value, Value::Bool(_)),
                "int" => matches!(&value, Value::Number(number) if !number.is_f64()),
                "float" => matches!(value, Value::Number(_)),
                _ => false,
            };
            return if fits { Ok(value) } else { Err(format!("`{text}` is not a `!!{tag}`")) };
        }
        None => {}
    }
    if style == ScalarStyle::Plain { plain(text) } else { Ok(is_text()) }
}

/// A plain scalar by YAML 1.2's core schema (section 10.3.2).
fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if [".inf", ".Inf", ".INF"].contains(&unsigned) || [".nan", ".NaN", ".NAN"].contains(&text) {
        return Err(format!("`{text}` is not a finite number; quote it if it is text"));
    }
    let radix = |prefix: &str, radix| {
        let digits = text.strip_prefix(prefix)?;
        let fits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        fits.then(|| u64::from_str_radix(digits, radix).map_err(|_| too_large(text)))
    };
    if let Some(number) = radix("0o", 8).or_else(|| radix("0x", 16)) {
        return number.map(|number| Value::Number(number.into()));
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let text = text.strip_prefix('+').unwrap_or(text);
        let number = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
        return number.map(Value::Number).map_err(|_| too_large(text));
    }
    if is_float(unsigned) {
        let number = text.parse::<f64>().ok().and_then(Number::from_f64);
        return number.map(Value::Number).ok_or_else(|| too_large(text));
    }
    Ok(Value::String(text.to_string()))
}

fn too_large(text: &str) -> String {
    format!("`{text}` is too large for a number; quote it if it is text")
}

/// `(\. [0-9]+ | [0-9]+ (\. [0-9]*)?) ([eE] [-+]? [0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|e| !e.is_empty() && digits(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Node>, String) {
        let source = Arc::new(Source::File { path: "f".into(), folder: None });
        let mut problems = Problems::new("f");
        let node = parse(text, &source, &mut problems);
        let shown = problems.into_result().map_or_else(|e| e.to_string(), |()| String::new());
        (node, shown.trim_start_matches("f\n  ").to_string())
    }

    fn json(text: &str) -> String {
        let (node, problems) = read(text);
        assert_eq!(problems, "", "{text}");
        node.unwrap().to_json().to_string()
    }

    fn problems(text: &str) -> String {
        read(text).1
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2() {
        for (yaml, expected) in [
            ("no", "\"no\""),
            ("on", "\"on\""),
            ("Yes", "\"Yes\""),
            ("True", "true"),
            ("~", "null"),
            ("1e-3", "0.001"),
            ("3.E2", "300.0"),
            (".5", "0.5"),
            ("+12", "12"),
            ("-7", "-7"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("017", "17"),
            ("1_000", "\"1_000\""),
            ("12:30:45", "\"12:30:45\""),
            ("2024-01-02", "\"2024-01-02\""),
            (".", "\".\""),
            ("e5", "\"e5\""),
            ("1e", "\"1e\""),
            ("'1'", "\"1\""),
            ("!!str 1", "\"1\""),
            ("!!float 1", "1"),
            ("18446744073709551615", "18446744073709551615"),
            ("hf:owner/repo/x@main", "\"hf:owner/repo/x@main\""),
            ("|\n  a\n  b\n", "\"a\\nb\\n\""),
        ] {
            assert_eq!(json(yaml), expected, "{yaml}");
        }
        assert_eq!(problems("a: .inf"), "f:1:4  `.inf` is not a finite number; quote it if it is text");
        assert!(problems("a: 99999999999999999999").contains("too large"));
        assert!(problems("a: 1e999").contains("too large"));
        assert!(problems("a: !!int x").contains("`x` is not a `!!int`"));
        assert!(problems("a: !path x").contains("the tag `!path` has no meaning here"));
    }

    #[test]
    fn places_are_those_of_keys_and_values() {
        let (node, _) = read("a: 1\nb:\n  ä: {c:   x}\n  d:\n    - y\n");
        let node = node.unwrap();
        let path = super::super::tree::KeyPath::parse("b.ä.c").unwrap();
        let leaf = node.at(&path.0).unwrap();
        assert_eq!((leaf.origin.line, leaf.origin.column), (3, 12));
        let b = &node.as_map().unwrap()["b"];
        assert_eq!((b.key.line, b.key.column), (2, 1));
        let key = &b.node.as_map().unwrap()["d"].key;
        assert_eq!((key.line, key.column), (4, 3));
    }

    #[test]
    fn anchors_aliases_and_merge_keys_work() {
        assert_eq!(json("a: &x {k: 1, l: 2}\nb: *x\n"), r#"{"a":{"k":1,"l":2},"b":{"k":1,"l":2}}"#);
        assert_eq!(json("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\n"), r#"{"a":{"k":1,"l":2},"b":{"l":3,"k":1}}"#);
        assert_eq!(
            json("- &x {k: 1}\n- &y {k: 2, m: 3}\n- {<<: [*x, *y]}\n"),
            r#"[{"k":1},{"k":2,"m":3},{"k":1,"m":3}]"#
        );
        assert_eq!(problems("a: {<<: 5}"), "f:1:9  `<<` takes a map or a list of maps");
        assert!(problems("a: &x [*x]").contains("an alias cannot stand inside the value it names"));
        assert!(problems("a: *x").starts_with("f:1:4"), "{}", problems("a: *x"));
    }

    #[test]
    fn aliases_cannot_blow_up() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
        for i in 1..12 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb += &format!("a{i}: &a{i} [{aliases}]\n");
        }
        assert!(problems(&bomb).contains("more than 100000 values"));
        let mut deep = "a0: &a0 [x]\n".to_string();
        for i in 1..200 {
            deep += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
        }
        assert!(problems(&deep).contains("more than 64 maps and lists"));
        assert!(!problems(&"[".repeat(10_000)).is_empty());
        assert!(!problems(&"{a: ".repeat(10_000)).is_empty());
        let nested: String = (0..1000).map(|i| " ".repeat(i) + "a:\n").collect();
        assert!(!problems(&nested).is_empty());
    }

    #[test]
    fn what_is_not_yaml_is_reported_at_its_place() {
        assert_eq!(problems("a: 1\nb: 2\na: 3\n"), "f:3:1  duplicate key `a`; first at line 1, column 1");
        assert_eq!(problems("a:\n\tb: 1\n"), "f:2:1  a tab cannot indent; use spaces");
        assert_eq!(problems("a:\n  - b\n\t- c\n"), "f:3:1  a tab cannot indent; use spaces");
        assert!(problems("a:\n    b: 1\n  c: 2\n").starts_with("f:3:3"), "{}", problems("a:\n    b: 1\n  c: 2\n"));
        assert!(problems("a: [1, 2\nb: 3\n").starts_with("f:"), "{}", problems("a: [1, 2\nb: 3\n"));
        assert!(problems("a: \"x\n").starts_with("f:"));
        assert!(problems("a: 1\n---\nb: 2\n").contains("a second document"));
        assert!(problems("? [a]\n: 1\n").contains("a key must be text"));
        assert_eq!(read("# nothing\n").0, None);
        assert_eq!(json("\u{feff}a: 1"), r#"{"a":1}"#);
    }
}
