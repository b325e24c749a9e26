//! Hostile clients and upstreams as one table: each row of `tests/lists/hostile.tsv`, with the
//! outcome of its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::table::Row;

const PART: &str = "http";

/// Outcomes by the names of tests.
type Outcomes = BTreeMap<String, bool>;

pub fn run() -> Vec<Row> {
    let list = include_str!("../lists/hostile.tsv");
    let lines = list.lines().filter(|line| !line.starts_with('#')).skip(1);
    let rows: Vec<Vec<_>> = lines.map(|line| line.split('\t').collect()).collect();
    let names = |row: &[&'static str]| row[3].split(", ").collect::<Vec<_>>();
    let all: BTreeSet<_> = rows.iter().flat_map(|row| names(row)).collect();
    let outcomes =
        outcomes(&all.into_iter().filter(|name| !name.contains(' ')).collect::<Vec<_>>());
    let mut held = Row::new(PART, "hostile inputs that are answered as listed", 0);
    let mut absent = 0;
    println!("\n| row | input | answer | tests |\n| ---: | --- | --- | --- |");
    for row in &rows {
        let ran: Vec<_> = names(row).into_iter().filter_map(|name| outcomes.get(name)).collect();
        let outcome = match (ran.is_empty(), ran.iter().all(|is_ok| **is_ok)) {
            (true, _) => "not here",
            (false, true) => "ok",
            (false, false) => "FAILED",
        };
        println!("| {} | {} | {} | {outcome} |", row[0], row[1], row[2]);
        match outcome {
            "ok" => held.count += 1,
            "FAILED" => held.defects.push(format!("row {}: {}", row[0], row[3])),
            _ => absent += 1,
        }
    }
    if absent > 0 {
        held.skipped.push(format!("{absent} rows have tests in other suites (e2e), or none yet"));
    }
    vec![held]
}

fn outcomes(names: &[&str]) -> Outcomes {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--no-fail-fast", "--lib", "--test", "it", "--"]);
    command.args(names).arg("--test-threads=2").current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.env("CARGO_TERM_COLOR", "never").output();
    let out = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let out = out.unwrap_or_default();
    let ended = out.lines().filter_map(|line| {
        let (path, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        let name = path.rsplit("::").next()?;
        Some((name.to_owned(), outcome == "ok"))
    });
    ended.collect()
}
