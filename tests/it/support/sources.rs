//! The tests of this repository by name, so that a table that refers to them cannot go stale.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::proxy::files_under;

/// Fails for every name that no test function has.
#[track_caller]
pub fn assert_are_tests<'a>(names: impl IntoIterator<Item = &'a str>) {
    let tests = tests();
    let missing: Vec<_> = names.into_iter().filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "there are no such tests: {missing:#?}");
}

/// The names of all functions with a `#[test]` or a `#[tokio::test]` on them.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["src", "tests"].map(|dir| files_under(&root.join(dir)));
    let rust = files.iter().flatten().filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let mut tests = BTreeSet::new();
    for path in rust {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                let function = lines.find(|line| line.contains("fn ")).unwrap_or_default();
                let name = function.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
                tests.extend(name.map(str::to_owned));
            }
        }
    }
    tests
}
