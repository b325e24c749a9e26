//! Patterns of repositories, tags and users, as an operator writes them.
//!
//! `*` and `?` match characters within one component of a name, `**` any number of components;
//! `[a-z]` and `{a,b}` work as in a shell. Only this file names the library that matches.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

/// A pattern that matches whole names.
#[derive(Clone)]
pub struct RepositoryPattern {
    text: Box<str>,
    /// `None` matches every name.
    glob: Option<GlobMatcher>,
}

impl RepositoryPattern {
    /// `**`, which matches every name.
    pub fn any() -> Self {
        Self { text: ANY.into(), glob: None }
    }

    /// Whether the pattern matches this name, from its first character to its last.
    pub fn matches(&self, name: &str) -> bool {
        self.glob.as_ref().is_none_or(|glob| glob.is_match(name))
    }
}

impl PartialEq for RepositoryPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RepositoryPattern {}

impl FromStr for RepositoryPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == ANY {
            return Ok(Self::any());
        }
        if text.is_empty() || text.len() > LEN_MAX {
            return Err(InvalidPattern);
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|_| InvalidPattern)?.compile_matcher();
        Ok(Self { text: text.into(), glob: Some(glob) })
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// The text is not a [`RepositoryPattern`]: empty, longer than 1,024 bytes, or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern cannot be read")]
pub struct InvalidPattern;

const ANY: &str = "**";

/// The longest pattern, in bytes: a name of 255, with alternatives.
const LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule that matches one repository too many gives it away.
    #[test]
    fn a_pattern_matches_whole_names_component_by_component() {
        for (pattern, matched, others) in [
            ("**", vec!["a", "a/b/c"], vec![]),
            ("library/*", vec!["library/alpine"], vec!["library", "library/a/b", "xlibrary/a"]),
            ("team/**", vec!["team/a", "team/a/b"], vec!["team", "teams/a", "x/team/a"]),
            ("**/app", vec!["app", "a/app", "a/b/app"], vec!["app/x", "a/xapp"]),
            ("team/app", vec!["team/app"], vec!["team/app2", "team/ap", "a/team/app"]),
            ("v*", vec!["v1.2-rc_3", "v"], vec!["1v", "V1"]),
            ("v?.?", vec!["v1.2"], vec!["v1.20", "v12"]),
            ("{a,b}/[0-9]*", vec!["a/1x", "b/0"], vec!["c/1", "a/x"]),
        ] {
            let pattern: RepositoryPattern = pattern.parse().unwrap();
            for name in matched {
                assert!(pattern.matches(name), "{pattern} {name}");
            }
            for name in others {
                assert!(!pattern.matches(name), "{pattern} {name}");
            }
        }
        for bad in ["", "[", "{a", "a[b", &"a".repeat(1025)] {
            assert!(bad.parse::<RepositoryPattern>().is_err(), "{bad:.20}");
        }
    }
}
