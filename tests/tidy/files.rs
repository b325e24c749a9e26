//! Files are short and say what they are for, and the top level holds what the owner put there.

use std::fs;

use crate::source::sources;

const FILE_LINES_MAX: usize = 400;

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "src/{}: no module header", path.display());
        let lines = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        assert!(lines <= FILE_LINES_MAX, "src/{}: {lines} lines before its tests", path.display());
    }
}

#[test]
fn the_top_level_is_as_the_owner_drew_it() {
    let expected = [
        ".cargo",
        ".ci",
        ".git",
        ".github",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "RELEASING.md",
        "SECURITY.md",
        "benches",
        "clippy.toml",
        "config.example.toml",
        "deny.toml",
        "docs",
        // Where cargo-fuzz looks for its programs.
        "fuzz",
        "justfile",
        "rustfmt.toml",
        "src",
        "target",
        "tests",
    ];
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the top level is readable") {
        let name = entry.expect("the top level is readable").file_name();
        let name = name.to_string_lossy();
        assert!(expected.contains(&&*name), "{name} does not belong at the top level");
    }
}
