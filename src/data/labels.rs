//! From the cells of label columns to [`Targets`].

use std::borrow::Cow;
use std::collections::HashMap;

use super::label::Keys;
use super::targets::{TargetKind, Targets};
use crate::base::suggest::{did_you_mean, one_of};

/// What a row holds in a label's column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LabelCell<'a> {
    /// A text, or a number or truth value as text.
    Text(Cow<'a, str>),
    /// A list of such.
    List(Vec<String>),
}

impl<'a> From<&'a str> for LabelCell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for LabelCell<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// Targets made of the cells of label columns, row by row.
pub(super) struct Labels<'a> {
    keys: &'a Keys,
    names: Names,
    of_row: OfRow,
}

/// What the rows so far have.
enum OfRow {
    Classes(Vec<u32>),
    MultiLabel(Vec<Vec<u32>>),
    Values(Vec<f32>),
    Pairs,
}

/// A row's target before its names have numbers.
pub(super) enum Parsed {
    Class(Name),
    Labels(Vec<Name>),
    Values(Vec<f32>),
    Pair,
}

/// A class or label: one of those that are fixed, or any name.
pub(super) enum Name {
    Known(u32),
    Free(String),
}

/// Names that are fixed, or collected from the rows.
struct Names {
    fixed: Vec<String>,
    seen: HashMap<String, u32>,
}

impl<'a> Labels<'a> {
    /// No rows yet. `known` are names of classes that the data gives.
    pub fn new(keys: &'a Keys, known: Option<Vec<String>>) -> Self {
        let fixed = match keys {
            Keys { names: Some(names), .. } => names.clone(),
            Keys { fields: Some(fields), .. } => fields.clone(),
            Keys { columns: Some(columns), .. } => columns.clone(),
            Keys { kind: TargetKind::Values, column, .. } => column.iter().cloned().collect(),
            Keys { threshold: Some(t), .. } => vec![format!("below_{t}"), format!("at_least_{t}")],
            _ => known.unwrap_or_default(),
        };
        let of_row = match keys.kind {
            // A label of masks is refused before anything is read.
            TargetKind::Classes | TargetKind::Masks => OfRow::Classes(Vec::new()),
            TargetKind::MultiLabel => OfRow::MultiLabel(Vec::new()),
            TargetKind::Values => OfRow::Values(Vec::new()),
            TargetKind::Pairs => OfRow::Pairs,
        };
        Self { keys, names: Names { fixed, seen: HashMap::new() }, of_row }
    }

    /// The target of the cells of a row, one per column; `Err` says what is wrong with them.
    pub fn parse(&self, cells: &[LabelCell<'_>]) -> Result<Parsed, String> {
        let columns = self.keys.columns.iter().flatten().chain(&self.keys.column);
        let named: Vec<(&str, &LabelCell<'_>)> = columns.map(String::as_str).zip(cells).collect();
        match (self.keys.kind, &named[..]) {
            (TargetKind::Classes, [(column, cell), ..]) => self.class(column, text(column, cell)?).map(Parsed::Class),
            (TargetKind::Values, _) => {
                let numbers = named.iter().map(|(column, cell)| number(column, text(column, cell)?));
                let narrow = |value: f64| value as f32;
                Ok(Parsed::Values(numbers.map(|value| value.map(narrow)).collect::<Result<_, _>>()?))
            }
            (TargetKind::MultiLabel, [(column, cell)]) if self.keys.columns.is_none() => self.list(column, cell),
            (TargetKind::MultiLabel, _) => {
                let mut labels = Vec::new();
                for (i, (column, cell)) in named.iter().enumerate() {
                    if is_on(column, text(column, cell)?)? {
                        labels.push(Name::Known(i as u32));
                    }
                }
                Ok(Parsed::Labels(labels))
            }
            (TargetKind::Classes, []) => Err("there is no label column".into()),
            (TargetKind::Pairs, _) => Ok(Parsed::Pair),
            (TargetKind::Masks, _) => Err("masks are no cells of a table".into()),
        }
    }

    /// Takes the next row.
    pub fn push(&mut self, parsed: Parsed) {
        match (&mut self.of_row, parsed) {
            (OfRow::Classes(of_row), Parsed::Class(name)) => of_row.push(self.names.number(name)),
            (OfRow::MultiLabel(of_row), Parsed::Labels(names)) => {
                of_row.push(names.into_iter().map(|name| self.names.number(name)).collect());
            }
            (OfRow::Values(of_row), Parsed::Values(values)) => of_row.extend(values),
            (OfRow::Pairs, Parsed::Pair) => {}
            _ => unreachable!("a parsed row is of the config's kind"),
        }
    }

    /// The targets of all rows.
    pub fn finish(self) -> Targets {
        let (names, new) = self.names.finish();
        let number = |old: u32| new.get(old as usize).copied().unwrap_or(old);
        match self.of_row {
            OfRow::Classes(of_row) => Targets::Classes { names, of_row: of_row.into_iter().map(number).collect() },
            OfRow::MultiLabel(of_row) => {
                let sorted = |labels: Vec<u32>| {
                    let mut labels: Vec<u32> = labels.into_iter().map(number).collect();
                    labels.sort_unstable();
                    labels.dedup();
                    labels
                };
                Targets::MultiLabel { names, of_row: of_row.into_iter().map(sorted).collect() }
            }
            OfRow::Values(of_row) => Targets::Values { names, of_row },
            OfRow::Pairs => Targets::Pairs { names, of_row: Vec::new() },
        }
    }

    fn class(&self, column: &str, cell: &str) -> Result<Name, String> {
        if cell.is_empty() {
            return Err(format!("`{column}` is empty"));
        }
        match self.keys.threshold {
            Some(threshold) => Ok(Name::Known(u32::from(number(column, cell)? >= threshold))),
            None => self.names.find(column, cell),
        }
    }

    fn list(&self, column: &str, cell: &LabelCell<'_>) -> Result<Parsed, String> {
        let find = |name: &str| self.names.find(column, name);
        let found: Result<Vec<Name>, String> = match cell {
            LabelCell::List(names) => names.iter().map(|name| find(name.trim())).collect(),
            LabelCell::Text(text) => {
                let separator = self.keys.separator.as_deref().unwrap_or(",");
                text.split(separator).map(str::trim).filter(|name| !name.is_empty()).map(find).collect()
            }
        };
        found.map(Parsed::Labels)
    }
}

impl Names {
    fn find(&self, column: &str, cell: &str) -> Result<Name, String> {
        if self.fixed.is_empty() {
            return Ok(Name::Free(cell.into()));
        }
        let position = self.fixed.iter().position(|name| name == cell);
        let position = position.or_else(|| cell.parse().ok().filter(|number| *number < self.fixed.len()));
        position.map(|p| Name::Known(p as u32)).ok_or_else(|| {
            let names = || self.fixed.iter().map(String::as_str);
            let near = did_you_mean(cell, names());
            format!("`{column}` is `{cell}`, which is not one of {}{near}", one_of(names()))
        })
    }

    fn number(&mut self, name: Name) -> u32 {
        match name {
            Name::Known(number) => number,
            Name::Free(name) => {
                let next = self.seen.len() as u32;
                *self.seen.entry(name).or_insert(next)
            }
        }
    }

    /// The names in their final order, and the final number of each that was collected.
    fn finish(self) -> (Vec<String>, Vec<u32>) {
        if !self.fixed.is_empty() {
            return (self.fixed, Vec::new());
        }
        let mut names: Vec<(String, u32)> = self.seen.into_iter().collect();
        let number = |(name, _): &(String, u32)| name.parse::<i64>().ok();
        if names.iter().all(|name| number(name).is_some()) {
            names.sort_by(|a, b| (number(a), &a.0).cmp(&(number(b), &b.0)));
        } else {
            names.sort();
        }
        let mut new = vec![0; names.len()];
        for (position, (_, old)) in names.iter().enumerate() {
            new[*old as usize] = position as u32;
        }
        (names.into_iter().map(|(name, _)| name).collect(), new)
    }
}

fn text<'a>(column: &str, cell: &'a LabelCell<'_>) -> Result<&'a str, String> {
    match cell {
        LabelCell::Text(text) => Ok(text.trim()),
        LabelCell::List(_) => Err(format!("`{column}` is a list, which only one `column` of `kind: multi_label` is")),
    }
}

/// A number that is finite, as a 32-bit float too.
fn number(column: &str, cell: &str) -> Result<f64, String> {
    if cell.is_empty() {
        return Err(format!("`{column}` is empty"));
    }
    let value: f64 = cell.parse().map_err(|_| format!("`{column}` is `{cell}`, which is not a number"))?;
    if (value as f32).is_finite() { Ok(value) } else { Err(format!("`{column}` is `{cell}`, which is not finite")) }
}

fn is_on(column: &str, cell: &str) -> Result<bool, String> {
    let bad = || format!("`{column}` is `{cell}`, which is not 0 or 1");
    match cell {
        _ if cell.eq_ignore_ascii_case("true") => Ok(true),
        _ if cell.eq_ignore_ascii_case("false") => Ok(false),
        _ => match cell.parse::<f64>().map_err(|_| bad())? {
            1.0 => Ok(true),
            0.0 => Ok(false),
            _ => Err(bad()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::LabelConfig;
    use serde_json::{Value, json};

    fn targets(config: Value, rows: &[&[&str]]) -> Result<Targets, String> {
        let config: LabelConfig = serde_json::from_value(config).unwrap();
        let mut labels = config.labels(None);
        for row in rows {
            let cells: Vec<LabelCell<'_>> = row.iter().map(|cell| LabelCell::from(*cell)).collect();
            let parsed = labels.parse(&cells)?;
            labels.push(parsed);
        }
        Ok(labels.finish())
    }

    fn classes(config: Value, cells: &[&str]) -> Result<(Vec<String>, Vec<u32>), String> {
        let rows: Vec<&[&str]> = cells.iter().map(std::slice::from_ref).collect();
        let Targets::Classes { names, of_row } = targets(config, &rows)? else { panic!() };
        Ok((names, of_row))
    }

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_threshold_makes_two_classes() {
        let (names, of_row) = classes(json!({"column": "p", "threshold": 0.5}), &["0", "0.5", "0.49", "1"]).unwrap();
        assert_eq!(names, ["below_0.5", "at_least_0.5"]);
        assert_eq!(of_row, [0, 1, 0, 1]);
        let named = json!({"column": "p", "threshold": 0.5, "names": ["ok", "defective"]});
        assert_eq!(classes(named.clone(), &["1"]).unwrap(), (vec!["ok".into(), "defective".into()], vec![1]));
        assert_eq!(classes(named.clone(), &["high"]).unwrap_err(), "`p` is `high`, which is not a number");
        assert!(classes(named, &["NaN"]).is_err());
    }

    #[test]
    fn classes_are_sorted_as_numbers_or_as_words() {
        assert_eq!(classes(json!("c"), &["10", "9", "10"]).unwrap(), (vec!["9".into(), "10".into()], vec![1, 0, 1]));
        assert_eq!(classes(json!("c"), &["b", " a ", "10"]).unwrap().0, ["10", "a", "b"]);
        assert_eq!(classes(json!("c"), &[" "]).unwrap_err(), "`c` is empty");
    }

    #[test]
    fn names_are_found_by_name_or_position() {
        let config = json!({"column": "c", "names": ["negative", "positive"]});
        assert_eq!(classes(config.clone(), &["1", "negative"]).unwrap().1, [1, 0]);
        assert!(classes(config.clone(), &["2"]).unwrap_err().contains("`negative` or `positive`"));
        assert!(classes(config, &["positve"]).unwrap_err().ends_with("did you mean `positive`?"));
    }

    #[test]
    fn labels_are_listed_in_one_column_or_marked_in_several() {
        let listed = json!({"kind": "multi_label", "column": "tags", "separator": "|"});
        let rows: [&[&str]; 4] = [&["b | a"], &[""], &["c|b|b"], &["a"]];
        let expected = Targets::MultiLabel {
            names: named(&["a", "b", "c"]),
            of_row: vec![vec![0, 1], vec![], vec![1, 2], vec![0]],
        };
        assert_eq!(targets(listed, &rows).unwrap(), expected);
        let marked = json!({"kind": "multi_label", "columns": ["cat", "dog"]});
        let rows: [&[&str]; 3] = [&["1", "0"], &["True", "1.0"], &["0", "false"]];
        let expected = Targets::MultiLabel { names: named(&["cat", "dog"]), of_row: vec![vec![0], vec![0, 1], vec![]] };
        assert_eq!(targets(marked.clone(), &rows).unwrap(), expected);
        assert_eq!(targets(marked.clone(), &[&["1", "2"]]).unwrap_err(), "`dog` is `2`, which is not 0 or 1");
        assert!(targets(marked, &[&["", "1"]]).unwrap_err().starts_with("`cat` is ``"));
        let fixed = json!({"kind": "multi_label", "column": "tags", "names": ["x", "y"]});
        assert!(targets(fixed, &[&["x,z"]]).unwrap_err().contains("`tags` is `z`, which is not one of"));
    }

    #[test]
    fn lists_are_labels_of_one_column_only() {
        let cells = named(&["b", "a"]);
        let parse = |config: Value| {
            let config: LabelConfig = serde_json::from_value(config).unwrap();
            let mut labels = config.labels(None);
            let parsed = labels.parse(&[LabelCell::List(cells.clone())])?;
            labels.push(parsed);
            Ok::<_, String>(labels.finish())
        };
        let expected = Targets::MultiLabel { names: named(&["a", "b"]), of_row: vec![vec![0, 1]] };
        assert_eq!(parse(json!({"kind": "multi_label", "column": "tags"})).unwrap(), expected);
        assert!(parse(json!("tags")).unwrap_err().contains("`tags` is a list"));
        assert!(parse(json!({"kind": "multi_label", "columns": ["tags"]})).is_err());
    }

    #[test]
    fn values_are_finite_numbers() {
        let config = json!({"kind": "values", "columns": ["x", "y"]});
        let expected = Targets::Values { names: named(&["x", "y"]), of_row: vec![1.0, -2.5, 1e3, 0.0] };
        assert_eq!(targets(config.clone(), &[&["1", " -2.5"], &["1e3", "0"]]).unwrap(), expected);
        for (bad, message) in [
            ("inf", "`y` is `inf`, which is not finite"),
            ("NaN", "`y` is `NaN`, which is not finite"),
            ("1e39", "`y` is `1e39`, which is not finite"),
            ("", "`y` is empty"),
            ("high", "`y` is `high`, which is not a number"),
        ] {
            assert_eq!(targets(config.clone(), &[&["1", bad]]).unwrap_err(), message);
        }
        let one = targets(json!({"kind": "values", "column": "age", "names": ["years"]}), &[&["7"]]).unwrap();
        assert_eq!(one, Targets::Values { names: named(&["years"]), of_row: vec![7.0] });
    }
}
