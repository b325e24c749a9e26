//! The table at the end: how often each thing was done, and what was found.

use std::fmt::Write as _;

/// A line of the table.
#[derive(Debug, Default)]
pub struct Row {
    pub part: &'static str,
    /// The things that were counted, as in "faults injected".
    pub what: String,
    pub count: u64,
    /// Each with what is needed to have it again.
    pub defects: Vec<String>,
    /// Not done here, and why.
    pub skipped: Vec<String>,
}

impl Row {
    pub fn new(part: &'static str, what: impl Into<String>, count: u64) -> Self {
        Self { part, what: what.into(), count, ..Self::default() }
    }

    /// A thing that cannot be done on this machine.
    pub fn skipped(part: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        let skipped = vec![why.into()];
        Self { part, what: what.into(), skipped, ..Self::default() }
    }

    pub fn has_defects(&self) -> bool {
        !self.defects.is_empty()
    }
}

/// The table as Markdown, and below it the defects.
pub fn show(rows: &[Row]) -> String {
    let mut out =
        "\n| part | counted | times | defects |\n| --- | --- | ---: | ---: |\n".to_owned();
    for row in rows {
        let times = match row.skipped.first() {
            Some(_) if row.count == 0 => "skipped".to_owned(),
            _ => row.count.to_string(),
        };
        let Row { part, what, defects, .. } = row;
        writeln!(out, "| {part} | {what} | {times} | {} |", defects.len()).unwrap();
    }
    for row in rows {
        let lines = row.skipped.iter().map(|why| ("skipped", why));
        let lines = lines.chain(row.defects.iter().map(|defect| ("DEFECT", defect)));
        for (kind, text) in lines {
            writeln!(out, "\n{kind}: {} ({}): {text}", row.part, row.what).unwrap();
        }
    }
    out
}
