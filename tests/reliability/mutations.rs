//! Checks are removed one at a time in a copy of the tree, and the tests of each must then fail.
//!
//! The list is `tests/lists/mutations.tsv`. The copy and what is built of it are under `target`,
//! with the dependencies of this build, so that only this crate is compiled for each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Arguments;
use crate::table::Row;

const PART: &str = "mutations";

struct Mutation {
    name: String,
    file: PathBuf,
    text: String,
    instead: String,
    tests: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Vec<Row> {
    let list = include_str!("../lists/mutations.tsv");
    let lines = list.lines().filter(|line| !line.starts_with('#')).skip(1);
    let all: Vec<_> = lines.map(read).collect();
    if !arguments.long {
        let why = "long form only; that each still applies is a test of tests/tidy";
        return vec![Row::skipped(PART, "checks removed", why)];
    }
    let copy = Copy::new();
    let mut removed = Row::new(PART, "checks removed", 0);
    let mut caught = Row::new(PART, "tests that then fail", 0);
    for mutation in all.iter().filter(|it| it.name.contains(&arguments.only)) {
        match copy.tests_that_fail(mutation) {
            Ok(failed) => {
                println!("{}: caught by {}", mutation.name, failed.join(", "));
                removed.count += 1;
                caught.count += failed.len() as u64;
            }
            Err(why) => {
                println!("{}: {why}", mutation.name);
                removed.defects.push(format!("{}: {why}", mutation.name));
            }
        }
    }
    vec![removed, caught]
}

fn read(row: &str) -> Mutation {
    let fields: Vec<_> = row.split('\t').collect();
    let text = |at: usize| fields[at].replace("\\n", "\n");
    Mutation {
        name: text(0),
        file: text(1).into(),
        text: text(2),
        instead: text(3),
        tests: fields[4].split(", ").map(str::to_owned).collect(),
    }
}

/// The tree again.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
        let (root, target) = (dir.join("tree"), dir.join("target"));
        drop(fs::remove_dir_all(&root));
        fs::create_dir_all(&root).unwrap();
        for part in ["src", "tests", "benches", "docs"] {
            command("cp", &["-a", &show(&here.join(part)), &show(&root)]);
        }
        for file in fs::read_dir(here).unwrap().flatten().filter(|it| it.path().is_file()) {
            fs::copy(file.path(), root.join(file.file_name())).unwrap();
        }
        if !target.exists() {
            share_dependencies(&target);
        }
        Self { root, target }
    }

    /// Removes the check, has its tests run, and puts it back.
    fn tests_that_fail(&self, mutation: &Mutation) -> Result<Vec<String>, String> {
        let file = self.root.join(&mutation.file);
        let source = fs::read_to_string(&file).unwrap();
        if source.matches(&mutation.text).count() != 1 {
            return Err(format!("it is not in {}", mutation.file.display()));
        }
        fs::write(&file, source.replace(&mutation.text, &mutation.instead)).unwrap();
        let out = self.test(&mutation.tests);
        fs::write(&file, source).unwrap();
        let out = out?;
        let failed = out.lines().filter_map(|line| {
            let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
            Some(name.rsplit("::").next().unwrap_or(name).to_owned())
        });
        let failed: Vec<_> = failed.collect();
        match (failed.is_empty(), out.contains("test result:")) {
            (false, _) => Ok(failed),
            (true, true) => Err(format!("no test notices: {}", mutation.tests.join(", "))),
            (true, false) => Err(format!("it cannot be built: {}", last(&out))),
        }
    }

    fn test(&self, tests: &[String]) -> Result<String, String> {
        let mut command = Command::new("timeout");
        // A test that hangs without its check is stopped, as one that does not notice.
        command.args(["900", "cargo", "test", "--locked", "--offline", "--no-fail-fast"]);
        command.args(["--lib", "--test", "it", "--"]).args(tests);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command.env("CARGO_TERM_COLOR", "never").env("RUST_BACKTRACE", "0");
        let output = command.output().map_err(|error| error.to_string())?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Hard links to all that was built of other crates: cargo replaces files and writes into none.
fn share_dependencies(target: &Path) {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("debug");
    let to = target.join("debug");
    fs::create_dir_all(&to).unwrap();
    for part in ["build", "deps", ".fingerprint"] {
        command("cp", &["-al", &show(&built.join(part)), &show(&to)]);
        for entry in fs::read_dir(to.join(part)).unwrap().flatten() {
            let own = ["larder", "it-", "e2e-", "tidy-", "compare-", "reliability-", "liblarder"];
            let name = entry.file_name().to_string_lossy().into_owned();
            if own.iter().any(|own| name.starts_with(own)) {
                drop(fs::remove_dir_all(entry.path()));
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn command(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "{program} {arguments:?}");
}

fn last(text: &str) -> String {
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("error")).collect();
    errors.join(" / ")
}
