//! `docs/operations.md` lists log messages by the very words that the code has: operators search
//! for them, and alerts match them.

use std::fs;
use std::path::Path;

use crate::source::CrateSource;

const HEADER: &str = "| message | meaning | what to do |";

#[test]
fn every_message_on_the_page_of_operations_is_one_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/operations.md")).expect("readable");
    let crate_source = CrateSource::read(&root.join("src"));
    let code: String = crate_source.files.iter().map(|file| joined(&file.text)).collect();
    assert!(messages_in(&page).len() > 10, "the table is found");

    assert_eq!(unknown(&page, &code), Vec::<&str>::new());
}

#[test]
fn a_message_that_the_code_words_otherwise_is_found() {
    let code = "warn!(%error, \"fill failed\"); info!(\"a long \\\n    message\");";
    let rows = "| fill failed | x | y |\n| a long message | x | y |";
    let page = format!("{HEADER}\n| --- | --- | --- |\n{rows}\n\nx");
    assert_eq!(unknown(&page, &joined(code)), Vec::<&str>::new());
    assert_eq!(unknown(&page.replace("fill", "the fill"), &joined(code)), ["the fill failed"]);
}

fn unknown<'p>(page: &'p str, code: &str) -> Vec<&'p str> {
    let is_unknown = |message: &&str| !code.contains(&format!("\"{message}\""));
    messages_in(page).into_iter().filter(is_unknown).collect()
}

fn messages_in(page: &str) -> Vec<&str> {
    let table = page.split_once(HEADER).map(|(_, table)| table).unwrap_or_default();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| row.split('|').nth(1).map(str::trim)).collect()
}

/// The code with the strings that go on in the next line in one.
fn joined(code: &str) -> String {
    let mut parts = code.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |whole, part| whole + part.trim_start())
}
