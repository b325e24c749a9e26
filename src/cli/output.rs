//! How commands write to their writers.

use std::io;
use std::io::Write;

use serde::Serialize;

/// Writes `text`; a reader that has gone away is no failure.
pub(super) fn say(to: &mut dyn Write, text: &str) {
    let written: io::Result<()> = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    drop(written);
}

/// A line of a report for people: a name in a column, and its value.
pub(super) fn labelled(name: &str, value: &str) -> String {
    format!("{name:<16} {value}\n")
}

/// An object on a line of its own, for programs.
pub(super) fn json(object: &impl Serialize) -> String {
    // Structs of strings, numbers and lists of such always serialise.
    let mut text = serde_json::to_string(object).unwrap_or_default();
    text.push('\n');
    text
}
