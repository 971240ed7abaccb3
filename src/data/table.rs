//! Text tables: lines of cells under named columns.

use std::path::{Path, PathBuf};

use csv::StringRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// A text table, whose rows are taken apart one by one.
#[derive(Debug)]
pub(super) struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    path: PathBuf,
    bytes: Vec<u8>,
    delimiter: Delimiter,
    header: bool,
}

impl Table {
    /// Reads a UTF-8 table. With `names` the columns have these names and a header line, if there is one, is
    /// skipped; without, the first line names them.
    ///
    /// # Errors
    /// The file cannot be read or is too large; its header is not UTF-8; a column's name is there twice.
    pub fn read(path: &Path, delimiter: Delimiter, header: bool, names: &[String]) -> Result<Self> {
        let bytes = read_bytes(path)?;
        let mut lines = cells(&bytes, delimiter);
        let first = if header { lines.next().transpose().map_err(|error| unreadable(path, error))? } else { None };
        let columns: Vec<String> = match (names, first) {
            ([], Some((line, first))) => {
                let first =
                    first.map_err(|why| unreadable(path, format!("line {line}, with the columns' names: {why}")));
                first?.iter().map(|name| name.trim().to_string()).collect()
            }
            (names, _) => names.to_vec(),
        };
        if let Some((i, twice)) = columns.iter().enumerate().find(|(i, name)| columns[..*i].contains(name)) {
            return Err(Error::bad_input(format!(
                "`{}`: columns {} and another are both `{twice}`",
                path.display(),
                i + 1
            )));
        }
        drop(lines);
        Ok(Self { columns, path: path.to_path_buf(), bytes, delimiter, header })
    }

    /// Calls `take` with each row's line number (from 1) and its cells, one per column; a line that is not UTF-8 or
    /// has too few or too many cells comes with what is wrong.
    ///
    /// # Errors
    /// There are no rows.
    pub fn each(&self, mut take: impl FnMut(usize, Result<StringRecord, String>)) -> Result<()> {
        let mut lines = cells(&self.bytes, self.delimiter).skip(usize::from(self.header)).peekable();
        if lines.peek().is_none() {
            return Err(Error::bad_input(format!("`{}` has no rows", self.path.display())));
        }
        for line in lines {
            match line.map_err(|error| unreadable(&self.path, error))? {
                (number, Ok(cells)) if cells.len() == self.columns.len() => take(number, Ok(cells)),
                (number, Ok(cells)) => {
                    let (found, wanted) = (cells.len(), self.columns.len());
                    take(number, Err(format!("{found} cells, where the table has {wanted} columns")));
                }
                (number, Err(why)) => take(number, Err(why.to_string())),
            }
        }
        Ok(())
    }

    /// The position of a column, or a message for `key` of the recipe.
    pub fn column(&self, key: &str, name: &str) -> Result<usize, String> {
        self.columns.iter().position(|column| column == name).ok_or_else(|| {
            let names = || self.columns.iter().map(String::as_str);
            format!("{key}: no column is named `{name}`; there is {}{}", one_of(names()), did_you_mean(name, names()))
        })
    }
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::bad_input(format!("`{}` is not a table that can be read: {error}", path.display()))
}

/// What is wrong with bytes that should be text.
pub(super) const NOT_UTF8: &str = "not UTF-8 text; save the table as UTF-8";

/// The bytes of a text file, without a mark of their order.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    let shown = path.display();
    if metadata.is_dir() {
        return Err(Error::bad_input(format!("`{shown}` is a folder, not a table")));
    }
    if metadata.len() > MAX_TABLE_BYTES {
        let size = metadata.len();
        return Err(Error::bad_input(format!("`{shown}` has {size} bytes; at most {MAX_TABLE_BYTES} are read")));
    }
    let mut bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

/// The lines of a text file that are not empty, with their numbers from 1; those that are not UTF-8 with what is
/// wrong.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, Result<&str, &'static str>)> {
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line).map_err(|_| NOT_UTF8));
    lines
        .zip(1..)
        .map(|(line, number)| (number, line))
        .filter(|(_, line)| line.is_ok_and(|text| !text.trim().is_empty()) || line.is_err())
}

/// A line's number and its cells, or what is wrong with it.
type Line = (usize, Result<StringRecord, &'static str>);

/// The lines of a table that are not empty.
fn cells(bytes: &[u8], delimiter: Delimiter) -> Box<dyn Iterator<Item = Result<Line, csv::Error>> + '_> {
    let byte = match delimiter {
        Delimiter::Comma => b',',
        Delimiter::Semicolon => b';',
        Delimiter::Tab => b'\t',
        Delimiter::Pipe => b'|',
        Delimiter::Whitespace => {
            let split = |line: &str| line.split_whitespace().collect::<StringRecord>();
            return Box::new(lines(bytes).map(move |(number, line)| Ok((number, line.map(split)))));
        }
    };
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(byte)
        .quoting(delimiter != Delimiter::Tab)
        .from_reader(bytes);
    // The reader's own line numbers are those of where it began to look, before empty lines.
    let (mut line, mut counted) = (1, 0);
    Box::new(reader.into_byte_records().map(move |record| {
        let cells = record?;
        let begin = cells.position().map_or(counted, |position| position.byte() as usize);
        let start = begin + bytes[begin..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        line += bytes[counted..start].iter().filter(|byte| **byte == b'\n').count();
        counted = start;
        Ok((line, StringRecord::from_byte_record(cells).map_err(|_| NOT_UTF8)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Seen {
        columns: Vec<String>,
        rows: Vec<(usize, StringRecord)>,
        bad: Vec<(usize, String)>,
    }

    fn table(bytes: &[u8], delimiter: Delimiter, header: bool, names: &[&str]) -> Result<Seen> {
        let table = open(bytes, delimiter, header, names)?;
        let (mut rows, mut bad) = (Vec::new(), Vec::new());
        table.each(|line, cells| match cells {
            Ok(cells) => rows.push((line, cells)),
            Err(why) => bad.push((line, why)),
        })?;
        Ok(Seen { columns: table.columns, rows, bad })
    }

    fn open(bytes: &[u8], delimiter: Delimiter, header: bool, names: &[&str]) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, bytes).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Table::read(&path, delimiter, header, &names)
    }

    fn row(table: &Seen, i: usize) -> (usize, Vec<&str>) {
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
    fn every_bad_line_is_found_and_the_others_are_read() {
        let ragged = |number, cells| (number, format!("{cells} cells, where the table has 2 columns"));
        let garbled = |number| (number, NOT_UTF8.to_string());
        let read = table(b"a,b\n1\n1,2\n1,\"\xff\n\"\n\n1,2,3\n3,4", Delimiter::Comma, true, &[]).unwrap();
        assert_eq!(read.bad, [ragged(2, 1), garbled(4), ragged(7, 3)]);
        assert_eq!((row(&read, 0), row(&read, 1)), ((3, vec!["1", "2"]), (8, vec!["3", "4"])));
        let read = table(b"1\n1 \xff\r\n\n 1 2 ", Delimiter::Whitespace, false, &["a", "b"]).unwrap();
        assert_eq!((read.bad.as_slice(), row(&read, 0)), (&[ragged(1, 1), garbled(2)][..], (4, vec!["1", "2"])));
    }

    #[test]
    fn an_empty_table_a_double_column_and_a_garbled_header_are_refused() {
        let error = |bytes: &[u8]| table(bytes, Delimiter::Comma, true, &[]).err().unwrap().to_string();
        assert!(error(b"").ends_with("has no rows"));
        assert!(error(b"a,b\n").ends_with("has no rows"));
        assert!(error(b"a,a\n1,2\n").contains("both `a`"));
        assert!(error(b"\xff\xfea\0").contains("line 1, with the columns' names: not UTF-8"));
        let folder = tempfile::tempdir().unwrap();
        assert!(Table::read(folder.path(), Delimiter::Comma, true, &[]).unwrap_err().to_string().contains("a folder"));
    }

    #[test]
    fn a_missing_column_names_those_there_are() {
        let read = open(b"path,label\nx,1\n", Delimiter::Comma, true, &[]).unwrap();
        assert_eq!(read.column("data.label", "label"), Ok(1));
        let message = read.column("data.label", "lable").unwrap_err();
        assert_eq!(
            message,
            "data.label: no column is named `lable`; there is `path` or `label`; did you mean `label`?"
        );
    }
}
