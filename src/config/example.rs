//! The example file, compiled in so that it cannot drift from the code that reads it.

/// `config.example.toml`: every key, commented out, at its default.
///
/// A line that begins with `# ` or is a lone `#` is prose; one that begins with `#` and anything
/// else is configuration.
pub const EXAMPLE: &str = include_str!("../../config.example.toml");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::{ConfigArgs, load_with};
    use super::super::written::sections;
    use super::*;

    /// The example with its keys in force.
    fn uncommented() -> String {
        let is_key = |line: &&str| line.len() > 1 && !line.starts_with("# ");
        let keys = EXAMPLE.lines().filter(is_key).filter_map(|line| line.strip_prefix('#'));
        keys.flat_map(|line| [line, "\n"]).collect()
    }

    /// Who copies a line from the example to change it later must change nothing by copying it.
    #[test]
    fn the_example_is_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, uncommented()).unwrap();
        let environment = [("HOME", "/home/test")].into_iter().collect();
        let settings = |config| {
            let arguments = ConfigArgs { config, listen: Vec::new() };
            load_with(&arguments, &environment, Path::new("/nowhere")).unwrap().settings
        };

        assert_eq!(format!("{:#?}", settings(Some(path))), format!("{:#?}", settings(None)));
    }

    #[test]
    fn the_example_changes_nothing_as_it_is() {
        for line in EXAMPLE.lines() {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
            assert!(line.len() <= 110, "{line}");
        }
    }

    const WITHOUT_DEFAULT: [&str; 14] = [
        "access",
        "ca",
        "cache",
        "certificate",
        "client_cert",
        "client_key",
        "grant_grace",
        "grant_ttl",
        "htpasswd",
        "listener",
        "registry",
        "rule",
        "session_key_file",
        "tls",
    ];

    /// A key that is not in the example does not exist for anybody but us.
    #[test]
    fn every_key_is_in_the_example() {
        let words: Vec<&str> =
            EXAMPLE.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        for (section, keys) in sections() {
            assert!(!keys.is_empty(), "{section}");
            for key in keys {
                assert!(words.contains(key), "{section} {key}");
            }
        }
        // Those with a default stand on a line of their own.
        for (section, keys) in &sections()[..4] {
            for key in keys.iter().filter(|key| !WITHOUT_DEFAULT.contains(key)) {
                assert!(EXAMPLE.contains(&format!("\n#{key} = ")), "{section} {key}");
            }
        }
    }
}
