//! Rows that cannot be used: told all at once, or left out and remembered.

use std::path::Path;

use super::{LeftOut, OnError};
use crate::base::{Error, Place, Problems, Result};
use crate::sample::Lines;

/// The most problems that are listed; the rest is counted.
const MOST_PROBLEMS: usize = 20;

/// Problems of which only the first few are kept.
pub(super) struct Listed {
    problems: Problems,
    more: usize,
}

impl Listed {
    pub fn new(title: impl Into<String>) -> Self {
        Self { problems: Problems::new(title), more: 0 }
    }

    pub fn push(&mut self, place: Option<Place>, message: impl Into<String>) {
        if self.problems.list.len() < MOST_PROBLEMS {
            self.problems.push(place, "", message);
        } else {
            self.more += 1;
        }
    }

    pub fn into_result(mut self) -> Result<()> {
        if self.more > 0 {
            self.problems.title = format!("{} ({} more of the kind below)", self.problems.title, self.more);
        }
        self.problems.into_result()
    }
}

/// The bad rows of one file, with what `on_error` says about them.
pub(super) struct BadRows {
    on_error: OnError,
    listed: Listed,
    left_out: Vec<LeftOut>,
}

impl BadRows {
    /// None yet; `title` says of what they are.
    pub fn new(on_error: OnError, title: impl Into<String>) -> Self {
        Self { on_error, listed: Listed::new(title), left_out: Vec::new() }
    }

    /// One at a line (or record) of a file.
    pub fn push_at(&mut self, path: &Path, line: usize, reason: impl Into<String>) {
        let place = Place::File { path: path.into(), line, column: 1 };
        self.push(Some(place), || Lines::of(path).at(line).to_string(), reason.into());
    }

    /// One that is known by its origin.
    pub fn push_row(&mut self, origin: &str, reason: &str) {
        match self.on_error {
            OnError::Fail => self.listed.push(None, format!("{origin}: {reason}")),
            OnError::Skip => self.push(None, || origin.into(), reason.into()),
        }
    }

    fn push(&mut self, place: Option<Place>, origin: impl FnOnce() -> String, reason: String) {
        match self.on_error {
            OnError::Fail => self.listed.push(place, reason),
            OnError::Skip => self.left_out.push(LeftOut { origin: origin(), reason }),
        }
    }

    /// Those to leave out.
    ///
    /// # Errors
    /// All of them at once, unless they are to be left out.
    pub fn finish(self) -> Result<Vec<LeftOut>> {
        self.listed.into_result().map(|()| self.left_out)
    }
}

/// Refuses to leave out more than a share of the rows that were read.
///
/// # Errors
/// There are more, with what is wrong with the first of them.
pub(super) fn refuse_more_than(most: f64, left_out: &[LeftOut], read: usize) -> Result<()> {
    if left_out.len() as f64 <= most * read as f64 {
        return Ok(());
    }
    let count = left_out.len();
    let what = format!("{count} of {read} rows cannot be used, more than the share of {most} of `data.max_skipped`");
    let mut listed = Listed::new(what);
    left_out.iter().for_each(|row| listed.push(None, format!("{}: {}", row.origin, row.reason)));
    listed.into_result()
}

/// The error of a set of which no row is left.
pub(super) fn nothing_left(name: &str, path: &str, left_out: &[LeftOut]) -> Error {
    let none = Error::bad_input(format!("data.{name}: `{path}` has no rows"));
    match left_out.first() {
        Some(LeftOut { origin, reason }) => none.hint(format!("all were left out; the first, `{origin}`: {reason}")),
        None => none,
    }
}

#[cfg(test)]
mod tests {
    use crate::base::Result;
    use crate::data::Dataset;
    use crate::data::load::tests::Fixture;
    use crate::data::parquet_file::tests::write;
    use serde_json::{Value, json};

    /// What was left out, as `origin: reason`.
    fn left_out(data: &Dataset) -> Vec<String> {
        data.left_out.iter().map(|row| format!("{}: {}", row.origin, row.reason)).collect()
    }

    fn load(fixture: &Fixture, mut config: Value, on_error: &str, max_skipped: f64) -> Result<Dataset> {
        config["on_error"] = json!(on_error);
        config["max_skipped"] = json!(max_skipped);
        fixture.load(config)
    }

    #[test]
    fn bad_rows_of_a_table_are_all_told_or_left_out_one_by_one() {
        let fixture = Fixture::new();
        fixture.write("d/1.png", b"");
        fixture.write("d/t.csv", b"image,label\n1.png,a\n1.png\n1.png,\xff\n/1.png,a\n1.png,\n1.png,b\n");
        fixture.write("d/v.csv", b"image,label\n1.png,b\n1.png,c\n");
        let config = json!({"kind": "csv", "root": "d", "train": {"path": "t.csv"}, "valid": {"path": "v.csv"}});
        let error = load(&fixture, config.clone(), "fail", 1.0).unwrap_err().to_string();
        for expected in ["t.csv:3:1  1 cells", "t.csv:4:1  not UTF-8", "t.csv:5:1  `/1.png` is outside", "t.csv:6:1"] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let data = load(&fixture, config.clone(), "skip", 0.8).unwrap();
        assert_eq!((data.rows.len(), data.splits.train.len(), data.splits.valid.len()), (3, 2, 1));
        let told = left_out(&data);
        for (told, expected) in told.iter().zip([
            "t.csv:3: 1 cells, where the table has 2 columns",
            "t.csv:4: not UTF-8 text",
            "t.csv:5: `/1.png` is outside of",
            "t.csv:6: `label` is empty",
            "v.csv:3: the label `c` never occurs in training",
        ]) {
            assert!(told.starts_with(expected), "{expected}: {told}");
        }
        assert_eq!(told.len(), 5);
        let error = load(&fixture, config, "skip", 0.5).unwrap_err().to_string();
        assert!(
            error.contains("5 of 8 rows cannot be used, more than the share of 0.5 of `data.max_skipped`"),
            "{error}"
        );
        assert!(error.contains("v.csv:3: the label `c`"), "{error}");
    }

    #[test]
    fn a_set_of_bad_rows_alone_is_refused_whatever_the_share() {
        let fixture = Fixture::new();
        fixture.table("t.csv", 4);
        let config = json!({"kind": "csv", "train": {"path": "t.csv"}, "valid": {"path": "v.csv"}});
        for (table, expected) in [("image,label\n1.png\n", "v.csv:2`: 1 cells"), ("image,label\n1.png,z\n", "`z`")] {
            fixture.write("v.csv", table.as_bytes());
            let error = load(&fixture, config.clone(), "skip", 1.0).unwrap_err();
            assert!(error.to_string().ends_with("has no rows"), "{error}");
            assert!(error.hint_text().unwrap().contains(expected), "{error:?}");
        }
    }

    #[test]
    fn other_formats_leave_out_their_bad_rows_too() {
        let fixture = Fixture::new();
        fixture.write("1.png", b"");
        fixture.write("t.jsonl", b"{\"image\": \"1.png\", \"label\": 1}\n{\"image\": \"\xff\"}\n[1]\n");
        write(&fixture.path("t.parquet"), &[(Some(b"words"), 1), (Some(b"\xff\xfe"), 0)], None);
        write(&fixture.path("c.parquet"), &[(Some(b"x"), 9), (Some(b"y"), 10)], None);
        let mut binary = vec![0; 2 * 3073];
        binary[3073] = 77;
        fixture.write("c.bin", &binary);
        for (config, expected) in [
            (
                json!({"kind": "jsonl", "train": {"path": "t.jsonl"}}),
                vec!["t.jsonl:2: not UTF-8", "t.jsonl:3: not a JSON"],
            ),
            (
                json!({"kind": "parquet", "train": {"path": "t.parquet"}, "text": "img"}),
                vec!["t.parquet:2: column `img.bytes` is not UTF-8 text"],
            ),
            (
                json!({"kind": "cifar10", "train": {"path": "c.parquet"}}),
                vec!["c.parquet:2: record 2: the label is 10"],
            ),
            (json!({"kind": "cifar10", "train": {"path": "c.bin"}}), vec!["c.bin:2: record 2: the label is 77"]),
        ] {
            assert!(load(&fixture, config.clone(), "fail", 1.0).is_err(), "{config}");
            let data = load(&fixture, config.clone(), "skip", 1.0).unwrap();
            let told = left_out(&data);
            assert_eq!((data.rows.len(), told.len()), (1, expected.len()), "{told:?}");
            assert!(told.iter().zip(&expected).all(|(told, expected)| told.starts_with(expected)), "{told:?}");
        }
    }
}
