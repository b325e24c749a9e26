//! One image in a list: what `larder ls --json` prints on a line.

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;
use crate::oci::{Digest, RegistryName, RepositoryName, Tag};

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// `registry/repository:tag`, or `registry/repository@digest` without a tag.
    pub name: String,
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// The tag, if it has one.
    pub tag: Option<String>,
    /// The digest of its manifest.
    pub digest: String,
    /// The bytes of its manifests and of what they list, each content once, children that were
    /// never pulled left out.
    pub size: u64,
    /// The bytes of that which are stored.
    pub stored: u64,
    /// Whether all of it is stored: a pull of it needs no upstream.
    #[serde(rename = "complete")]
    pub is_complete: bool,
    /// Whether it is pinned: it is kept whatever else has to go.
    #[serde(rename = "pinned", default)]
    pub is_pinned: bool,
    /// The platforms of an index; `null` for an image of one platform.
    pub platforms: Option<ImagePlatforms>,
    /// When it was last pulled, about.
    pub last_pull: Timestamp,
    /// How often it was pulled under this name, as far as the log of pulls goes.
    #[serde(default)]
    pub pulls: u64,
    /// When the upstream last said that the tag has this digest; `null` without a tag.
    pub checked_at: Option<Timestamp>,
}

/// How many platforms an index has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePlatforms {
    /// The platforms that were pulled.
    pub pulled: usize,
    /// Those that the index lists.
    pub listed: usize,
}

/// The full name of an image.
pub(super) fn image_name(
    registry: &RegistryName,
    repository: &RepositoryName,
    tag: Option<&Tag>,
    digest: &Digest,
) -> String {
    match tag {
        Some(tag) => format!("{registry}/{repository}:{tag}"),
        None => format!("{registry}/{repository}@{digest}"),
    }
}
