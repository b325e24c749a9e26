//! The meaning of a file in an archive, by its path.

use super::BundleError;
use super::signature::SIGNATURE_FILE;
use crate::oci::{Digest, RepositoryName, Tag};

/// The meaning of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EntryRole {
    /// `oci-layout`.
    LayoutVersion,
    /// `index.json` of an OCI layout.
    LayoutIndex,
    /// `index.json.sig`, which is Larder's.
    IndexSignature,
    /// `manifest.json` of `docker save`.
    DockerIndex,
    /// A content by its digest.
    Content(Digest),
    /// A content of `docker save` by some name.
    Loose,
    /// A tag in the tree of a registry.
    TreeTag(RepositoryName, Tag),
    /// A manifest in the tree of a registry.
    TreeManifest(RepositoryName, Digest),
    /// A file that no image needs.
    Ignored,
}

impl EntryRole {
    /// The meaning of the file at this path.
    ///
    /// # Errors
    ///
    /// [`BundleError::NoDigest`] where only contents may be, and its name is no digest.
    pub(super) fn of(name: &str) -> Result<Self, BundleError> {
        let parts: Vec<&str> = name.split('/').collect();
        if let Some(at) = parts.windows(3).position(|parts| parts == TREE) {
            return in_tree(name, &parts[at + TREE.len()..]);
        }
        Ok(match parts.as_slice() {
            ["oci-layout"] => Self::LayoutVersion,
            ["index.json"] => Self::LayoutIndex,
            [SIGNATURE_FILE] => Self::IndexSignature,
            ["manifest.json"] => Self::DockerIndex,
            ["blobs", algorithm, hex] => Self::Content(digest(name, algorithm, hex)?),
            ["blobs", ..] => return Err(BundleError::NoDigest(name.to_owned())),
            [_, "layer.tar"] => Self::Loose,
            [file] if is_loose(file) => Self::Loose,
            _ => Self::Ignored,
        })
    }

    /// Whether something of it is stored or becomes an image.
    pub(super) fn is_taken(&self) -> bool {
        !matches!(
            self,
            Self::LayoutVersion
                | Self::LayoutIndex
                | Self::IndexSignature
                | Self::DockerIndex
                | Self::Ignored
        )
    }
}

/// The meaning of a file in the tree of a registry, by its path behind `docker/registry/v2`.
fn in_tree(name: &str, parts: &[&str]) -> Result<EntryRole, BundleError> {
    let repository = |parts: &[&str]| parts.join("/").parse::<RepositoryName>();
    let role = match parts {
        ["blobs", algorithm, _, hex, "data"] => {
            return Ok(EntryRole::Content(digest(name, algorithm, hex)?));
        }
        ["repositories", path @ .., "_manifests", "tags", tag, "current", "link"] => {
            let tag = tag.parse().ok();
            repository(path).ok().zip(tag).map(|(path, tag)| EntryRole::TreeTag(path, tag))
        }
        ["repositories", path @ .., "_manifests", "revisions", algorithm, hex, "link"] => {
            let digest = digest(name, algorithm, hex)?;
            repository(path).ok().map(|path| EntryRole::TreeManifest(path, digest))
        }
        _ => None,
    };
    Ok(role.unwrap_or(EntryRole::Ignored))
}

fn digest(name: &str, algorithm: &str, hex: &str) -> Result<Digest, BundleError> {
    let digest = format!("{algorithm}:{hex}").parse();
    digest.map_err(|_| BundleError::NoDigest(name.to_owned()))
}

/// Whether Docker, podman, crane or kaniko name a configuration or a layer so.
fn is_loose(file: &str) -> bool {
    let endings = [".json", ".tar", ".tar.gz"];
    file.starts_with("sha256:") || endings.iter().any(|ending| file.ends_with(ending))
}

const TREE: [&str; 3] = ["docker", "registry", "v2"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_a_file_is() {
        let hex = "ab".repeat(32);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let repository = |name: &str| name.parse::<RepositoryName>().unwrap();
        let tree = "var/lib/registry/docker/registry/v2";
        for (name, want) in [
            ("oci-layout", EntryRole::LayoutVersion),
            ("index.json", EntryRole::LayoutIndex),
            ("index.json.sig", EntryRole::IndexSignature),
            ("manifest.json", EntryRole::DockerIndex),
            ("repositories", EntryRole::Ignored),
            (&format!("blobs/sha256/{hex}"), EntryRole::Content(digest.clone())),
            (&format!("{hex}.json"), EntryRole::Loose),
            (&format!("sha256:{hex}"), EntryRole::Loose),
            (&format!("{hex}/layer.tar"), EntryRole::Loose),
            (&format!("{hex}/json"), EntryRole::Ignored),
            (&format!("{hex}/VERSION"), EntryRole::Ignored),
            (&format!("{tree}/blobs/sha256/ab/{hex}/data"), EntryRole::Content(digest.clone())),
            (
                &format!("{tree}/repositories/a/b/_manifests/tags/v1/current/link"),
                EntryRole::TreeTag(repository("a/b"), "v1".parse().unwrap()),
            ),
            (
                &format!("{tree}/repositories/a/_manifests/revisions/sha256/{hex}/link"),
                EntryRole::TreeManifest(repository("a"), digest.clone()),
            ),
            (&format!("{tree}/repositories/a/_layers/sha256/{hex}/link"), EntryRole::Ignored),
            (
                &format!("{tree}/repositories/a/_manifests/tags/v1/index/sha256/{hex}/link"),
                EntryRole::Ignored,
            ),
        ] {
            assert_eq!(EntryRole::of(name).unwrap(), want, "{name}");
        }
        for bad in ["blobs/sha256/12", "blobs/md5/x", "blobs/x", "blobs/sha256/ab/cd"] {
            assert!(EntryRole::of(bad).is_err(), "{bad}");
        }
    }
}
