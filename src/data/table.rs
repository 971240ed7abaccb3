//! Text tables: lines of cells under named columns.

use std::path::Path;

use csv::StringRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::Listed;
use crate::base::suggest::{did_you_mean, one_of};
use crate::base::{Error, Result};

/// What stands between the cells of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delimiter {
    /// `,` with `"` as quotes.
    #[default]
    Comma,
    /// `;` with `"` as quotes.
    Semicolon,
    /// A tab; quotes mean nothing.
    Tab,
    /// `|` with `"` as quotes.
    Pipe,
    /// Any number of spaces and tabs; quotes mean nothing.
    Whitespace,
}

/// A table is read whole; no larger file is.
const MAX_TABLE_BYTES: u64 = 4 << 30;

/// A text table, every row with one cell per column.
#[derive(Debug)]
pub(super) struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// Line number (from 1) and cells.
    pub rows: Vec<(usize, StringRecord)>,
}

impl Table {
    /// Reads a UTF-8 table. With `names` the columns have these names and a header line, if there is one, is
    /// skipped; without, the first line names them.
    ///
    /// # Errors
    /// The file cannot be read, is too large or not UTF-8 (with the line); it has no rows; a column's
    /// name is there twice; lines have too few or too many cells (all such lines at once).
    pub fn read(path: &Path, delimiter: Delimiter, header: bool, names: &[String]) -> Result<Self> {
        let text = read_utf8(path)?;
        let mut lines = cells(&text, delimiter).peekable();
        let mut listed = Listed::new(format!("`{}` is not a table that can be read", path.display()));
        let first = if header { lines.next().transpose().map_err(|e| bad_quotes(path, &e))? } else { None };
        let columns: Vec<String> = match (names, first) {
            ([], Some((_, first))) => first.iter().map(|name| name.trim().to_string()).collect(),
            (names, _) => names.to_vec(),
        };
        if let Some((i, twice)) = columns.iter().enumerate().find(|(i, name)| columns[..*i].contains(name)) {
            return Err(Error::bad_input(format!(
                "`{}`: columns {} and another are both `{twice}`",
                path.display(),
                i + 1
            )));
        }
        let mut rows = Vec::new();
        for line in lines {
            let (number, cells) = line.map_err(|e| bad_quotes(path, &e))?;
            if cells.len() == columns.len() {
                rows.push((number, cells));
            } else {
                let (found, wanted) = (cells.len(), columns.len());
                listed.push_at(path, number, format!("{found} cells, where the table has {wanted} columns"));
            }
        }
        listed.into_result()?;
        if rows.is_empty() {
            return Err(Error::bad_input(format!("`{}` has no rows", path.display())));
        }
        Ok(Self { columns, rows })
    }

    /// The position of a column, or a message for `key` of the recipe.
    pub fn column(&self, key: &str, name: &str) -> Result<usize, String> {
        self.columns.iter().position(|column| column == name).ok_or_else(|| {
            let names = || self.columns.iter().map(String::as_str);
            format!("{key}: no column is named `{name}`; there is {}{}", one_of(names()), did_you_mean(name, names()))
        })
    }
}

fn bad_quotes(path: &Path, error: &csv::Error) -> Error {
    Error::bad_input(format!("`{}` is not a table that can be read: {error}", path.display()))
}

/// A text file; what is not UTF-8 is an error with its line.
pub(super) fn read_utf8(path: &Path) -> Result<String> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    let shown = path.display();
    if metadata.is_dir() {
        return Err(Error::bad_input(format!("`{shown}` is a folder, not a table")));
    }
    if metadata.len() > MAX_TABLE_BYTES {
        let size = metadata.len();
        return Err(Error::bad_input(format!("`{shown}` has {size} bytes; at most {MAX_TABLE_BYTES} are read")));
    }
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    String::from_utf8(bytes).map_err(|error| {
        let bad = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..bad].iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::bad_input(format!("`{shown}:{line}` is not UTF-8 text")).hint("save the table as UTF-8")
    })
}

/// The lines of a table that are not empty, with their numbers.
fn cells(text: &str, delimiter: Delimiter) -> Box<dyn Iterator<Item = Result<(usize, StringRecord), csv::Error>> + '_> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let byte = match delimiter {
        Delimiter::Comma => b',',
        Delimiter::Semicolon => b';',
        Delimiter::Tab => b'\t',
        Delimiter::Pipe => b'|',
        Delimiter::Whitespace => {
            let lines = text.lines().enumerate();
            let lines = lines.map(|(i, line)| (i + 1, line.split_whitespace().collect::<StringRecord>()));
            return Box::new(lines.filter(|(_, cells)| !cells.is_empty()).map(Ok));
        }
    };
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(byte)
        .quoting(delimiter != Delimiter::Tab)
        .from_reader(text.as_bytes());
    // The reader's own line numbers are those of where it began to look, before empty lines.
    let (mut line, mut counted) = (1, 0);
    Box::new(reader.into_records().map(move |record| {
        let cells = record?;
        let begin = cells.position().map_or(counted, |position| position.byte() as usize);
        let start = begin + text[begin..].bytes().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        line += text[counted..start].bytes().filter(|byte| *byte == b'\n').count();
        counted = start;
        Ok((line, cells))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(bytes: &[u8], delimiter: Delimiter, header: bool, names: &[&str]) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, bytes).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Table::read(&path, delimiter, header, &names)
    }

    fn row(table: &Table, i: usize) -> (usize, Vec<&str>) {
        (table.rows[i].0, table.rows[i].1.iter().collect())
    }

    #[test]
    fn quoted_cells_and_empty_lines_keep_their_line_numbers() {
        let text = "\u{feff}a,b\r\n1,\"x, \"\"y\"\"\nz\"\n\n2,w\n";
        let read = table(text.as_bytes(), Delimiter::Comma, true, &[]).unwrap();
        assert_eq!(read.columns, ["a", "b"]);
        assert_eq!(row(&read, 0), (2, vec!["1", "x, \"y\"\nz"]));
        assert_eq!(row(&read, 1), (5, vec!["2", "w"]));
    }

    #[test]
    fn whitespace_and_tabs_separate_without_quotes() {
        let read = table(b"a  0.5\tmono \n\n b 1 poly\n", Delimiter::Whitespace, false, &["p", "v", "t"]).unwrap();
        assert_eq!(row(&read, 0), (1, vec!["a", "0.5", "mono"]));
        assert_eq!(row(&read, 1), (3, vec!["b", "1", "poly"]));
        let read = table(b"\"so\" it \"goes\t1\n", Delimiter::Tab, false, &["text", "label"]).unwrap();
        assert_eq!(row(&read, 0).1, ["\"so\" it \"goes", "1"]);
    }

    #[test]
    fn every_ragged_line_is_reported_at_its_place() {
        let error = table(b"a,b\n1\n1,2\n1,2,3\n", Delimiter::Comma, true, &[]).unwrap_err().to_string();
        assert!(error.contains("t.csv:2:1") && error.contains("1 cells, where the table has 2 columns"), "{error}");
        assert!(error.contains("t.csv:4:1") && error.contains("3 cells"), "{error}");
    }

    #[test]
    fn an_empty_table_a_double_column_and_other_encodings_are_refused() {
        let error = |bytes: &[u8]| table(bytes, Delimiter::Comma, true, &[]).unwrap_err().to_string();
        assert!(error(b"").ends_with("has no rows"));
        assert!(error(b"a,b\n").ends_with("has no rows"));
        assert!(error(b"a,a\n1,2\n").contains("both `a`"));
        assert!(error(b"a\nb\n\xff\n").contains("t.csv:3` is not UTF-8"));
        assert!(error(b"\xff\xfea\0").contains("t.csv:1` is not UTF-8"));
        let folder = tempfile::tempdir().unwrap();
        assert!(Table::read(folder.path(), Delimiter::Comma, true, &[]).unwrap_err().to_string().contains("a folder"));
    }

    #[test]
    fn a_missing_column_names_those_there_are() {
        let read = table(b"path,label\nx,1\n", Delimiter::Comma, true, &[]).unwrap();
        assert_eq!(read.column("data.label", "label"), Ok(1));
        let message = read.column("data.label", "lable").unwrap_err();
        assert_eq!(
            message,
            "data.label: no column is named `lable`; there is `path` or `label`; did you mean `label`?"
        );
    }
}
