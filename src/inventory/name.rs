//! Names of images, as an operator writes them.

use std::fmt;
use std::str::FromStr;

use crate::oci::{Digest, Reference, RegistryName, RepositoryName, Tag};
use crate::registry::RegistryOptions;

/// The full name of an image: `registry/repository:tag` or `registry/repository@digest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// The registry, by its name in the configuration if it is there.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag or the digest.
    pub reference: Reference,
}

impl ImageName {
    /// The image that a client of these registries means by a name: without a registry the default
    /// one, `library/` for names of one component at Docker Hub, `latest` without a tag.
    ///
    /// # Errors
    ///
    /// If the text is no name.
    pub fn resolve(text: &str, registries: &[RegistryOptions]) -> Result<Self, InvalidImageName> {
        let (first, rest) = text.split_once('/').unwrap_or(("", text));
        let named: Option<RegistryName> = first.parse().ok();
        let known = registries.iter().find(|registry| {
            let is_named =
                |name: &RegistryName| registry.name == *name || registry.aliases.contains(name);
            registry.prefix.as_deref() == Some(first) || named.as_ref().is_some_and(is_named)
        });
        let is_host = first.contains(['.', ':']) || first == "localhost";
        let (registry, path) = match (known, named) {
            (Some(known), _) => (known.name.clone(), rest),
            (None, Some(named)) if is_host => (named, rest),
            _ => (default_registry(registries)?, text),
        };
        let name = path.split(['@', ':']).next().unwrap_or_default();
        let library =
            if registry.as_str() == DOCKER_HUB && !name.contains('/') { "library/" } else { "" };
        Self::of(registry, &format!("{library}{path}"))
    }

    /// Its tag, if it has one.
    pub fn tag(&self) -> Option<&Tag> {
        match &self.reference {
            Reference::Digest(_) => None,
            Reference::Tag(tag) => Some(tag),
        }
    }

    /// Its digest, if it has one.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        }
    }

    fn of(registry: RegistryName, path: &str) -> Result<Self, InvalidImageName> {
        // A digest says all; a tag before it is for people.
        let (tagged, digest) = match path.split_once('@') {
            Some((tagged, digest)) => (tagged, Some(digest)),
            None => (path, None),
        };
        let (repository, tag) = match tagged.rsplit_once(':') {
            Some((repository, tag)) => (repository, tag),
            None => (tagged, "latest"),
        };
        let invalid = |_| InvalidImageName;
        let reference = match digest {
            Some(digest) => Reference::Digest(digest.parse().map_err(|_| InvalidImageName)?),
            None => Reference::Tag(tag.parse().map_err(|_| InvalidImageName)?),
        };
        Ok(Self { registry, repository: repository.parse().map_err(invalid)?, reference })
    }
}

fn default_registry(registries: &[RegistryOptions]) -> Result<RegistryName, InvalidImageName> {
    match registries.iter().find(|registry| registry.is_default) {
        Some(registry) => Ok(registry.name.clone()),
        None => Err(InvalidImageName),
    }
}

impl FromStr for ImageName {
    type Err = InvalidImageName;

    /// Reads a full name, as it is written here.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (registry, path) = text.split_once('/').ok_or(InvalidImageName)?;
        Self::of(registry.parse().map_err(|_| InvalidImageName)?, path)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.tag().is_some() { ':' } else { '@' };
        write!(f, "{}/{}{mark}{}", self.registry, self.repository, self.reference)
    }
}

/// The text is not the name of an image, or names no registry where none is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of an image is `registry/repository:tag` or `registry/repository@digest`")]
pub struct InvalidImageName;

/// Clients call its official images by one component.
const DOCKER_HUB: &str = "docker.io";

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn options(name: &str) -> RegistryOptions {
        RegistryOptions::for_test(name, Url::parse("http://a.test").unwrap())
    }

    #[test]
    fn a_name_means_what_a_client_means_by_it() {
        let hub = RegistryOptions { is_default: true, ..options("docker.io") };
        let harbor = RegistryOptions {
            prefix: Some("harbor.corp".to_owned()),
            aliases: vec!["old.corp".parse().unwrap()],
            ..options("harbor.corp:8443")
        };
        let registries = [hub, harbor];
        let hex = "ab".repeat(32);
        let by_digest = format!("docker.io/library/alpine@sha256:{hex}");
        for (text, want) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("docker.io/alpine:3.20", "docker.io/library/alpine:3.20"),
            ("team/app", "docker.io/team/app:latest"),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
            ("localhost/a:v1", "localhost/a:v1"),
            ("harbor.corp/team/app:v1", "harbor.corp:8443/team/app:v1"),
            ("harbor.corp:8443/team/app:v1", "harbor.corp:8443/team/app:v1"),
            ("old.corp/team/app:v1", "harbor.corp:8443/team/app:v1"),
            (&format!("alpine@sha256:{hex}"), &by_digest),
            (&format!("alpine:3.20@sha256:{hex}"), &by_digest),
        ] {
            let name = ImageName::resolve(text, &registries).unwrap();
            assert_eq!(name.to_string(), want, "{text}");
            assert_eq!(want.parse(), Ok(name), "{text}");
        }
        for bad in
            ["", "A", "alpine:", "alpine@sha256:12", "a//b", "alpine:a/b", "ghcr.io/", "../x"]
        {
            assert_eq!(ImageName::resolve(bad, &registries), Err(InvalidImageName), "{bad}");
        }
        assert_eq!(ImageName::resolve("alpine", &registries[1..]), Err(InvalidImageName));
    }
}
