//! Where a row comes from, in little memory: there may be millions of rows.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a row comes from: `labels.csv:17`, `train/cat/1.jpg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line or record of a file, from 1.
    Line(Arc<str>, u32),
    /// Anything else.
    Text(Box<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(file, line) => write!(f, "{file}:{line}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<String> for Origin {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// The name of a file of many rows, which their origins share.
#[derive(Debug, Clone)]
pub struct Lines(Arc<str>);

impl Lines {
    /// Of a file.
    pub fn of(path: &Path) -> Self {
        Self(path.file_name().unwrap_or_default().to_string_lossy().into())
    }

    /// A line or record, from 1.
    pub fn at(&self, line: usize) -> Origin {
        match u32::try_from(line) {
            Ok(line) => Origin::Line(self.0.clone(), line),
            Err(_) => Origin::Text(format!("{}:{line}", self.0).into()),
        }
    }
}

/// What is said of where an item comes from.
#[derive(Debug, Clone, Copy)]
pub enum Named<'a> {
    /// The origin of a row.
    Row(&'a Origin),
    /// In the caller's words, such as the path that a user gave.
    Text(&'a str),
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(origin) => origin.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl<'a> From<&'a Origin> for Named<'a> {
    fn from(origin: &'a Origin) -> Self {
        Self::Row(origin)
    }
}

impl<'a> From<&'a str> for Named<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Named<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_file_share_its_name() {
        let lines = Lines::of(Path::new("data/labels.csv"));
        assert_eq!(lines.at(17).to_string(), "labels.csv:17");
        assert_eq!(lines.at(1 << 40).to_string(), "labels.csv:1099511627776");
        assert_eq!(Named::from(&Origin::from("a/b.png".to_string())).to_string(), "a/b.png");
        assert!(size_of::<Origin>() <= 24);
    }
}
