//! Tables for people, written while their rows are found.
//!
//! The width of a column is that of its widest cell among the first rows. Later cells that are
//! wider push the rest of their row to the right.

use std::io::Write;

/// A table that is being written.
pub(super) struct TableWriter<'w, const COLUMNS: usize> {
    out: &'w mut dyn Write,
    widths: [usize; COLUMNS],
    /// The first rows, the names of the columns among them, until the widths are known.
    waiting: Vec<[String; COLUMNS]>,
    is_begun: bool,
    is_broken: bool,
}

impl<'w, const COLUMNS: usize> TableWriter<'w, COLUMNS> {
    /// A table with these names of its columns.
    pub(super) fn new(out: &'w mut dyn Write, names: [&str; COLUMNS]) -> Self {
        let waiting = vec![names.map(str::to_owned)];
        Self { out, widths: [0; COLUMNS], waiting, is_begun: false, is_broken: false }
    }

    /// Adds a row. Returns whether its reader is still there.
    pub(super) fn row(&mut self, cells: [String; COLUMNS]) -> bool {
        self.waiting.push(cells);
        if self.is_begun || self.waiting.len() >= FIRST_ROWS {
            self.flush();
        }
        !self.is_broken
    }

    /// Writes the rows that wait.
    pub(super) fn finish(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.waiting);
        if !self.is_begun {
            self.is_begun = true;
            for (column, width) in self.widths.iter_mut().enumerate() {
                let widths = rows.iter().map(|row| row[column].chars().count());
                *width = widths.max().unwrap_or_default();
            }
        }
        let text: String = rows.iter().map(|row| self.line(row)).collect();
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        // A reader that has gone away is no failure.
        self.is_broken |= written.is_err();
    }

    fn line(&self, row: &[String; COLUMNS]) -> String {
        let cells = row.iter().zip(self.widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    }
}

/// Rows that are waited for: with some dozens, most tables are straight.
const FIRST_ROWS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_straight_and_the_first_rows_do_not_wait_for_the_last() {
        let mut out = Vec::new();
        let mut table = TableWriter::new(&mut out, ["NAME", "SIZE"]);
        assert!(table.row(["a".to_owned(), "1".to_owned()]));
        assert!(table.row(["longer".to_owned(), "2".to_owned()]));
        table.finish();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME    SIZE\na       1\nlonger  2\n");

        let mut out = Vec::new();
        let mut table = TableWriter::new(&mut out, ["N"]);
        for number in 0..FIRST_ROWS {
            table.row([number.to_string()]);
        }
        drop(table);
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), FIRST_ROWS + 1);
    }
}
