//! How commands write to their writers.

use std::io;
use std::io::Write;
use std::time::Duration;

use bytesize::ByteSize;
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

/// A size in bytes, for people.
pub(super) fn bytes(size: u64) -> String {
    ByteSize(size).display().iec().to_string()
}

/// An object on a line of its own, for programs.
pub(super) fn json(object: &impl Serialize) -> String {
    // Structs of strings, numbers and lists of such always serialise.
    let mut text = serde_json::to_string(object).unwrap_or_default();
    text.push('\n');
    text
}

/// A past moment in its largest unit: `3 days ago`.
pub(super) fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    let Some((length, name)) = unit else { return "now".to_owned() };
    let count = seconds / length;
    format!("{count} {name}{} ago", if count == 1 { "" } else { "s" })
}
