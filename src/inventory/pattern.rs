//! Patterns of images, as an operator writes them.

use std::fmt;
use std::str::FromStr;

use crate::registry::RepositoryPattern;

/// A pattern of images' names: `registry/repository` or `registry/repository:tag`.
///
/// A text with `*`, `?`, `[` or `{` matches whole names, as patterns of the configuration do, and
/// may leave out the first components and the tag. Any other text matches where it is a part of the
/// name.
#[derive(Clone, Debug)]
pub struct ImagePattern {
    text: String,
    /// The pattern from the beginning of the name, and from the beginning of any component.
    globs: Option<[RepositoryPattern; 2]>,
}

impl ImagePattern {
    /// Whether it matches a repository, and with it all of its images.
    pub fn matches_repository(&self, name: &str) -> bool {
        match &self.globs {
            Some(globs) => globs.iter().any(|glob| glob.matches(name)),
            None => name.contains(&self.text),
        }
    }

    /// Whether it matches a tag of a repository.
    pub fn matches_tag(&self, repository: &str, tag: &str) -> bool {
        self.matches_repository(repository)
            || self.matches_repository(&format!("{repository}:{tag}"))
    }

    /// Whether it matches an image by its full name, with a tag or a digest.
    pub fn matches_image(&self, name: &str) -> bool {
        let before = name.split_once('@').or_else(|| name.rsplit_once(':'));
        let repository = before.map_or(name, |(repository, _)| repository);
        self.matches_repository(repository) || self.matches_repository(name)
    }
}

impl Default for ImagePattern {
    /// Every image.
    fn default() -> Self {
        Self { text: String::new(), globs: None }
    }
}

impl FromStr for ImagePattern {
    type Err = InvalidImagePattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let globs = if text.contains(['*', '?', '[', '{']) {
            let parse = |text: &str| text.parse().map_err(|_| InvalidImagePattern);
            Some([parse(text)?, parse(&format!("**/{text}"))?])
        } else {
            None
        };
        Ok(Self { text: text.to_owned(), globs })
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text is not an [`ImagePattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern cannot be read")]
pub struct InvalidImagePattern;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_parts_of_names_and_with_an_asterisk_whole_ones() {
        let name = "docker.io/library/alpine";
        for (pattern, tag, is_match) in [
            ("", "3.20", true),
            ("alpine", "3.20", true),
            ("alpine:3", "3.20", true),
            ("library/alpine:3.20", "3.20", true),
            ("docker.io", "3.20", true),
            ("alpine:3.21", "3.20", false),
            ("debian", "3.20", false),
            ("**", "3.20", true),
            ("alpine*", "3.20", true),
            ("library/*", "3.20", true),
            ("docker.io/*", "3.20", false),
            ("docker.io/**", "3.20", true),
            ("*:3.2?", "3.20", true),
            ("alpine:{3.20,edge}", "3.20", true),
            ("alpin?", "3.20", true),
            ("lpine*", "3.20", false),
            ("*:3.2", "3.20", false),
        ] {
            let pattern: ImagePattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches_tag(name, tag), is_match, "{pattern}");
        }
        for bad in ["[", "a{b", "*[z"] {
            assert!(bad.parse::<ImagePattern>().is_err(), "{bad}");
        }
    }
}
