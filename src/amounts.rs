//! Amounts in words for people: bytes, and spans of time.

use std::time::Duration;

use bytesize::ByteSize;

/// A size in bytes: `1.5 GiB`.
pub fn bytes(size: u64) -> String {
    ByteSize(size).display().iec().to_string()
}

/// A past moment in its largest unit: `3 days ago`.
pub fn ago(age: Duration) -> String {
    if age.as_secs() == 0 { "now".to_owned() } else { format!("{} ago", duration(age)) }
}

/// A span of time in its largest unit: `3 days`.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.unwrap_or((1, "second"));
    let count = seconds / length;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}
