//! The conformance of HTTP/2, as h2spec sees it.

use std::process::Command;

use crate::support::{Process, ScriptedRegistry};
use crate::table::Row;

const PART: &str = "http";

/// The port speaks HTTP/1.1 too, so a preface that is none is a bad request of that, and is closed
/// after an answer in text.
const EXPECTED: &[&str] = &["Sends invalid connection preface"];

pub async fn run() -> Vec<Row> {
    let larder = Process::before(ScriptedRegistry::new().listen().await, "").await;
    let port = larder.address.port().to_string();
    let host = larder.address.ip().to_string();
    let mut command = Command::new("h2spec");
    let output = command.args(["-h", &host, "-p", &port, "-P", "/", "-o", "5"]).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            let why = format!("h2spec cannot be started: {error}");
            return vec![Row::skipped(PART, "rows of h2spec", why)];
        }
    };
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary = out.lines().rev().find(|line| line.contains(" passed"));
    let passed = summary.and_then(|line| {
        let text = line.split(", ").find_map(|part| part.strip_suffix(" passed"))?;
        text.parse().ok()
    });
    let mut row = Row::new(PART, "rows of h2spec passed", passed.unwrap_or_default());
    let failed = out.lines().filter_map(|line| line.trim().strip_prefix("\u{d7} "));
    for line in failed {
        let is_expected = EXPECTED.iter().any(|expected| line.contains(expected));
        let list = if is_expected { &mut row.skipped } else { &mut row.defects };
        if !list.iter().any(|seen| seen == line) {
            list.push(line.to_owned());
        }
    }
    if passed.is_none() {
        row.defects
            .push(format!("h2spec did not end: {}", String::from_utf8_lossy(&output.stderr)));
    }
    vec![row]
}
