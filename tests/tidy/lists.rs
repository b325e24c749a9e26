//! The lists under `tests/lists`: each row has a test, by its name, or says why it has none yet.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

use crate::source::files_under;

/// A row of this many columns ends with its tests.
const LISTS: &[(&str, usize)] = &[
    ("attacks.tsv", 4),
    ("hostile.tsv", 4),
    ("faults.tsv", 4),
    ("regressions.tsv", 3),
    ("mutations.tsv", 5),
];

/// Stands in the place of tests, before the reason.
const NOT_YET: &str = "not yet: ";

#[test]
fn every_row_of_the_lists_names_tests_that_exist() {
    let tests = test_names();
    let mut faults = Vec::new();
    for (list, columns) in LISTS {
        for row in rows(list) {
            let fields: Vec<_> = row.split('\t').collect();
            if fields.len() != *columns || fields.iter().any(|field| field.is_empty()) {
                faults.push(format!("{list}: not {columns} columns: {row}"));
            }
            let last = fields.last().copied().unwrap_or_default();
            let named = last.split(", ").filter(|_| !last.starts_with(NOT_YET));
            for test in named.filter(|test| !tests.contains(*test)) {
                faults.push(format!("{list}: {}: there is no test {test}", fields[0]));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// A list with holes would be a list of the easy ones.
#[test]
fn numbered_rows_have_no_holes() {
    for (list, prefix) in [("attacks.tsv", "A"), ("hostile.tsv", ""), ("faults.tsv", "F")] {
        let rows = rows(list);
        let numbers = rows.iter().map(|row| row.split('\t').next().unwrap_or_default().to_owned());
        let expected = (1..=rows.len()).map(|number| format!("{prefix}{number}"));
        assert!(numbers.eq(expected), "{list}: the rows are not numbered one by one");
    }
}

/// Each can be removed from the source as it is now, to show that its tests then fail.
#[test]
fn every_check_that_can_be_removed_is_where_its_row_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for row in rows("mutations.tsv") {
        let fields: Vec<_> = row.split('\t').collect();
        let source = fs::read_to_string(root.join(fields[1])).expect("the file is readable");
        let text = fields[2].replace("\\n", "\n");
        assert_eq!(source.matches(&text).count(), 1, "{}: {text}", fields[0]);
    }
}

/// The rows of a list, without comments and the names of its columns.
fn rows(list: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lists").join(list);
    let text = fs::read_to_string(path).expect("the list is readable");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.skip(1).map(str::to_owned).collect()
}

fn test_names() -> BTreeSet<String> {
    let mut tests = TestNames::default();
    for folder in ["src", "tests"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for (_, text) in files_under(&root, "rs") {
            tests.visit_file(&syn::parse_file(&text).expect("source is valid Rust"));
        }
    }
    tests.names
}

#[derive(Default)]
struct TestNames {
    names: BTreeSet<String>,
}

impl<'a> Visit<'a> for TestNames {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().segments.last().is_some_and(|last| last.ident == "test")
        };
        if item.attrs.iter().any(is_test) {
            self.names.insert(item.sig.ident.to_string());
        }
        visit::visit_item_fn(self, item);
    }

    /// Some tests are written by a macro: there, every `fn name` counts.
    fn visit_macro(&mut self, item: &'a syn::Macro) {
        let mut is_name = false;
        for token in item.tokens.clone() {
            if is_name {
                self.names.insert(token.to_string());
            }
            is_name = token.to_string() == "fn";
        }
    }
}
