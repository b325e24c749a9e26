//! The example file.

use std::path::Path;

use super::super::keys::TABLES;
use super::*;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// The example with its keys in force.
fn uncommented() -> String {
    let is_key = |line: &&str| line.len() > 1 && !line.starts_with("# ") && !line.starts_with("#:");
    let keys = EXAMPLE.lines().filter(is_key).filter_map(|line| line.strip_prefix('#'));
    keys.flat_map(|line| [line, "\n"]).collect()
}

/// An operator who copies a line from the example to change it later must change nothing by copying
/// it.
#[test]
fn the_example_is_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, uncommented()).unwrap();
    let environment = [("HOME", "/home/test")].into_iter().collect();
    let load = |config| {
        let arguments = ConfigArgs { config, listen: Vec::new() };
        load_with(&arguments, &environment, Path::new("/nowhere")).unwrap()
    };
    let (example, defaults) = (load(Some(path)), load(None));

    assert_eq!(format!("{:#?}", example.settings), format!("{:#?}", defaults.settings));
    let changed: Vec<_> = example.changed.iter().filter(|it| it.default.is_some()).collect();
    assert!(changed.is_empty(), "{changed:#?}");
}

#[test]
fn the_example_changes_nothing_as_it_is() {
    for line in EXAMPLE.lines() {
        assert!(line.is_empty() || line.starts_with('#'), "{line}");
        assert!(line.len() <= 110, "{line}");
    }
}

const WITHOUT_DEFAULT: [&str; 20] = [
    "access",
    "access_log",
    "ca",
    "cache",
    "certificate",
    "client_cert",
    "client_key",
    "dashboard",
    "grant_grace",
    "grant_ttl",
    "htpasswd",
    "import",
    "listener",
    "pin",
    "warm",
    "registry",
    "rule",
    "session_key_file",
    "tls",
    "traces",
];

/// A key that is not in the example does not exist for anybody but us.
#[test]
fn every_key_is_in_the_example() {
    let words: Vec<&str> =
        EXAMPLE.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for table in TABLES {
        for key in table.keys {
            assert!(words.contains(&key.name), "{} {}", table.title, key.name);
        }
    }
    // Those with a default stand on a line of their own.
    let is_shown = |title: &str| title.is_empty() || title == "[cache]" || title == "[access]";
    for table in TABLES.iter().filter(|table| is_shown(table.title)) {
        for key in table.keys.iter().filter(|key| !WITHOUT_DEFAULT.contains(&key.name)) {
            assert!(EXAMPLE.contains(&format!("\n#{} = ", key.name)), "{}", key.name);
        }
    }
}
