//! Patterns of registries' names: one entry of the configuration for all accounts and regions.
//!
//! A pattern has the labels of a host; each `*` stands for one label, or for a part of one. So
//! `*.dkr.ecr.*.amazonaws.com` matches no longer and no shorter name, and the end of a name, which
//! says who owns it, is never left open.

use std::fmt;
use std::str::FromStr;

use crate::oci::RegistryName;

/// A pattern that matches whole names of registries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryNamePattern {
    text: Box<str>,
    /// The sample name, in whose place others come.
    sample: RegistryName,
}

impl RegistryNamePattern {
    /// Whether it matches this name.
    pub fn matches(&self, name: &RegistryName) -> bool {
        // An address has no labels, and no name ends in a number.
        let ours = self.text.split('.');
        let theirs = name.as_str().split('.');
        ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|(ours, theirs)| label_matches(ours, theirs))
    }

    /// A name that it matches.
    pub fn sample(&self) -> &RegistryName {
        &self.sample
    }

    /// The pattern, as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn label_matches(pattern: &str, label: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == label };
    label.len() > before.len() + after.len() && label.starts_with(before) && label.ends_with(after)
}

impl FromStr for RegistryNamePattern {
    type Err = InvalidNamePattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.to_ascii_lowercase();
        let labels: Vec<_> = text.split('.').collect();
        let is_closed = labels.iter().rev().take(CLOSED_LABELS).all(|label| !label.contains('*'));
        if !text.contains('*') || labels.len() <= CLOSED_LABELS || !is_closed {
            return Err(InvalidNamePattern::Open);
        }
        if text.contains(':') || labels.iter().any(|label| label.matches('*').count() > 1) {
            return Err(InvalidNamePattern::Grammar);
        }
        let sample = text.replace('*', SAMPLE_LABEL);
        let sample = sample.parse().map_err(|_| InvalidNamePattern::Grammar)?;
        Ok(Self { text: text.into(), sample })
    }
}

impl fmt::Display for RegistryNamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a [`RegistryNamePattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNamePattern {
    /// It could match hosts of anyone.
    #[error("a pattern needs at least two last labels without `*`")]
    Open,
    /// It has more than one `*` in a label, a port, or is no name but for its `*`.
    #[error("a pattern is a host without a port, with at most one `*` in each label")]
    Grammar,
}

/// The last labels of a name, which a pattern has to spell out: those of a domain that is bought.
const CLOSED_LABELS: usize = 2;

/// The text for `*` in the sample: the account of a registry has twelve digits, and a region may.
const SAMPLE_LABEL: &str = "000000000000";

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that matches though it should not is a host that Larder calls for anyone.
    #[test]
    fn a_pattern_matches_whole_names_label_by_label() {
        for (pattern, matched, others) in [
            (
                "*.dkr.ecr.*.amazonaws.com",
                vec!["1.dkr.ecr.eu-west-1.amazonaws.com", "A.DKR.ecr.x.amazonaws.com.:443"],
                vec![
                    "dkr.ecr.eu-west-1.amazonaws.com",
                    "1.dkr.ecr.amazonaws.com",
                    "1.2.dkr.ecr.eu-west-1.amazonaws.com",
                    "1.dkr.ecr.eu-west-1.a.amazonaws.com",
                    "1.dkr.ecr.eu-west-1.amazonaws.com.evil.test",
                    "1.dkr.ecr.eu-west-1.amazonaws.com:5000",
                    "1.dkr.ecr.eu-west-1.amazonaws.org",
                ],
            ),
            (
                "*-docker.pkg.dev",
                vec!["europe-west1-docker.pkg.dev"],
                vec!["docker.pkg.dev", "-docker.pkg.dev", "a.b-docker.pkg.dev", "a-docker.pkg.de"],
            ),
            ("*.Azurecr.io", vec!["corp.azurecr.io"], vec!["azurecr.io", "a.b.azurecr.io"]),
        ] {
            let pattern: RegistryNamePattern = pattern.parse().unwrap();
            assert!(pattern.matches(pattern.sample()));
            for name in matched {
                assert!(pattern.matches(&name.parse().unwrap()), "{pattern} {name}");
            }
            for name in others {
                let is_matched = name.parse().is_ok_and(|name| pattern.matches(&name));
                assert!(!is_matched, "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_pattern_that_could_mean_anyone_is_none() {
        use InvalidNamePattern::{Grammar, Open};
        for (text, want) in [
            ("*", Open),
            ("*.*", Open),
            ("*.com", Open),
            ("a.*.com", Open),
            ("a.b.*", Open),
            ("a.example.com", Open),
            ("*a*.example.com", Grammar),
            ("*.example.com:5000", Grammar),
            ("-*.example.com", Grammar),
            ("*..example.com", Grammar),
            ("*/a.example.com", Grammar),
        ] {
            assert_eq!(text.parse::<RegistryNamePattern>(), Err(want), "{text}");
        }
    }
}
