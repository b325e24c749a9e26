//! The images that a `[[warm]]` table of the configuration has fetched.
//!
//! It decides which names and tags are meant. `control/warm_schedule.rs` fetches them.

use std::fmt;
use std::time::Duration;

use super::name::{ImageName, InvalidImageName};
use crate::registry::{RegistryOptions, RepositoryPattern};

/// One `[[warm]]` table of the configuration, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmOptions {
    /// The images. With a threshold, the tags that it is for; all of them if there is none.
    pub images: Vec<ImageSelection>,
    /// The pulls that a tag needs to be fetched; `None` for images that are fetched in any case.
    pub pulled: Option<PullThreshold>,
    /// The platforms of an index, such as `linux/arm64`; all of them if there is none.
    pub platforms: Vec<String>,
    /// Whether signatures and other referrers are wanted.
    pub with_referrers: bool,
    /// The time from one run to the next.
    pub every: Duration,
}

/// The pulls that a tag needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullThreshold {
    /// At least so many times,
    pub pulls: u64,
    /// within this time up to now.
    pub within: Duration,
}

/// An image, or those tags of a repository that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSelection {
    /// The image; its tag says nothing if there is a pattern.
    pub name: ImageName,
    /// The pattern of the tags.
    pub tags: Option<RepositoryPattern>,
}

impl ImageSelection {
    /// The images that a client of these registries means by a name, whose tag may be a pattern.
    ///
    /// # Errors
    ///
    /// If the text is no name, or the pattern is malformed.
    pub fn resolve(text: &str, registries: &[RegistryOptions]) -> Result<Self, InvalidImageName> {
        let is_pattern = |tag: &str| tag.contains(['*', '?', '[', '{']);
        let tagged = text.rsplit_once(':').filter(|(_, tag)| is_pattern(tag));
        let (image, tags) = match tagged {
            Some((image, tags)) => (image, Some(tags.parse().map_err(|_| InvalidImageName)?)),
            None => (text, None),
        };
        Ok(Self { name: ImageName::resolve(image, registries)?, tags })
    }

    /// Whether this image is meant.
    pub(super) fn matches(&self, image: &ImageName) -> bool {
        let ImageName { registry, repository, reference } = &self.name;
        let is_meant = match (&self.tags, image.tag()) {
            (Some(pattern), Some(tag)) => pattern.matches(tag.as_str()),
            (Some(_), None) => false,
            (None, _) => *reference == image.reference,
        };
        is_meant && *registry == image.registry && *repository == image.repository
    }
}

impl fmt::Display for ImageSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tags {
            Some(tags) => write!(f, "{}/{}:{tags}", self.name.registry, self.name.repository),
            None => self.name.fmt(f),
        }
    }
}

/// The platform of this machine, by its name in indexes.
pub fn own_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn a_tag_may_be_a_pattern_and_nothing_else() {
        let hub = RegistryOptions {
            is_default: true,
            ..RegistryOptions::for_test("docker.io", Url::parse("http://a.test").unwrap())
        };
        for (text, name, tags) in [
            ("alpine", "docker.io/library/alpine:latest", None),
            ("alpine:3.*", "docker.io/library/alpine:latest", Some("3.*")),
            ("ghcr.io/a/b:{v1,v2}", "ghcr.io/a/b:latest", Some("{v1,v2}")),
            ("localhost:5000/a:*", "localhost:5000/a:latest", Some("*")),
        ] {
            let selected = ImageSelection::resolve(text, std::slice::from_ref(&hub)).unwrap();
            assert_eq!(selected.name.to_string(), name, "{text}");
            let pattern = selected.tags.map(|pattern| pattern.to_string());
            assert_eq!(pattern.as_deref(), tags, "{text}");
        }
        for bad in ["alpine:[", "ghcr.io/*:v1", "team/*", "alpine@sha256:*", ":*"] {
            let selected = ImageSelection::resolve(bad, std::slice::from_ref(&hub));
            assert_eq!(selected, Err(InvalidImageName), "{bad}");
        }
    }
}
