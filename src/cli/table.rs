//! A plain table: columns as wide as they need, two spaces between, no lines.

use std::fmt;

/// Rows of text under headings.
pub struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with its headings.
    pub fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_uppercase)] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<&[String]> = self.rows.iter().map(|row| &row[..]).collect();
        draw(&rows, f)
    }
}

/// A table whose columns are known only when it is made.
pub struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with its headings.
    pub fn new(headings: Vec<String>) -> Self {
        Self { rows: vec![headings.into_iter().map(|heading| heading.to_uppercase()).collect()] }
    }

    /// Adds a row, of as many cells as there are headings.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<&[String]> = self.rows.iter().map(Vec::as_slice).collect();
        draw(&rows, f)
    }
}

fn draw(rows: &[&[String]], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let columns = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let of_column = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let width = |column| of_column(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["name", "size"]);
        table.row(["élan".into(), "10".into()]);
        table.row(["a".into(), "2".into()]);
        assert_eq!(table.to_string(), "NAME  SIZE\nélan  10\na     2\n");
    }
}
