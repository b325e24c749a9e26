//! The parts that are tests of other suites, run longer: which tests, how long, what they count.

use std::process::Command;

use crate::Arguments;
use crate::table::Row;

/// Tests of one suite, by a part of their names.
pub struct CargoTests {
    pub part: &'static str,
    /// As cargo names it: `--lib`, or `--test` and a name.
    pub suite: &'static [&'static str],
    pub filters: &'static [&'static str],
    /// The unit in which successes are counted.
    pub what: &'static str,
    /// A variable of the environment that says how often each test does it, and how often that is
    /// in the long form.
    pub times: Option<(&'static str, u64)>,
}

/// All of them. A plain `cargo test` runs them as well, for a shorter time.
pub const ALL: &[CargoTests] = &[
    CargoTests {
        part: "kill",
        suite: &["--test", "it"],
        filters: &["under_fire::"],
        what: "kills in evictions, fills and pushes",
        times: Some(("LARDER_ROUNDS", 300)),
    },
    CargoTests {
        part: "kill",
        suite: &["--test", "it"],
        filters: &["kill::"],
        what: "kills and stops at named points",
        times: None,
    },
    CargoTests {
        part: "disk",
        suite: &["--test", "it"],
        filters: &["disk::", "inodes::", "rot::", "failing_disk::", "hung_disk::", "capacity::"],
        what: "tests of full, failing, hung, rotten disks",
        times: None,
    },
    CargoTests {
        part: "fuzz",
        suite: &["--lib"],
        filters: &["fuzz::tests::no_variant"],
        what: "inputs of each of 13 targets",
        times: Some(("LARDER_FUZZ_RUNS", 1_000_000)),
    },
];

impl CargoTests {
    pub fn run(&self, arguments: &Arguments) -> Row {
        if !arguments.long {
            return Row::skipped(self.part, self.what, "short form: `cargo test` runs them");
        }
        let mut command = Command::new("cargo");
        command.args(["test", "--locked"]).args(self.suite).arg("--").args(self.filters);
        command.args(["--show-output", "--test-threads=2"]);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TERM_COLOR", "never");
        command.envs(self.times.map(|(name, times)| (name, times.to_string())));
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => return Row::skipped(self.part, self.what, error.to_string()),
        };
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let ended = |how: &str| {
            let lines = out.lines().filter(|line| line.starts_with("test "));
            lines.filter(|line| line.ends_with(how)).map(str::to_owned).collect::<Vec<_>>()
        };
        let passed = ended("... ok").len() as u64;
        let mut row = Row::new(self.part, self.what, passed * self.times.map_or(1, |it| it.1));
        row.defects = ended("FAILED");
        if passed == 0 && row.defects.is_empty() {
            row.defects.push(format!("no test ran: {}", String::from_utf8_lossy(&output.stderr)));
        }
        row.skipped = skipped(&[output.stdout, output.stderr].concat());
        row
    }
}

fn skipped(output: &[u8]) -> Vec<String> {
    let output = String::from_utf8_lossy(output);
    let mut lines: Vec<_> =
        output.lines().filter(|line| line.contains("skipped: ")).map(str::to_owned).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}
