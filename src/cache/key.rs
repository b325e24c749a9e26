//! Names for what is held in memory, asked for, and invalidated by a push or a delete.
//!
//! Every such name is built here, so that two rooms cannot name one thing in two ways.

use crate::access::Grant;
use crate::oci::{Digest, RegistryName, Tag};
use crate::upstream::ClientCredential;

/// The name of something in one repository, or of a question about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RecordKey(String);

// No registry, repository, reference or query of a list contains a space. No tag has a slash or a
// colon.
impl RecordKey {
    /// The digests that the repository has.
    pub(super) fn contents(grant: &Grant) -> Self {
        Self::of(grant, "")
    }

    /// A manifest or a blob in the repository.
    pub(super) fn digest(grant: &Grant, digest: &Digest) -> Self {
        Self::of(grant, digest.as_str())
    }

    /// A digest in any repository of the registry.
    pub(super) fn in_registry(registry: &RegistryName, digest: &Digest) -> Self {
        Self(format!("{registry} {digest}"))
    }

    /// A page of a list of the repository.
    pub(super) fn list(grant: &Grant, name: &str) -> Self {
        Self::of(grant, name)
    }

    /// All lists of the repository.
    pub(super) fn lists(grant: &Grant) -> Self {
        Self::of(grant, "/lists")
    }

    /// A tag of the repository, under the full `Accept` list.
    pub(super) fn tag(grant: &Grant, tag: &Tag) -> Self {
        Self::of(grant, tag.as_str())
    }

    /// A tag under the `Accept` list that is called `view`; `None` is the full one.
    pub(super) fn tag_in_view(grant: &Grant, tag: &Tag, view: Option<&str>) -> Self {
        let mut key = Self::tag(grant, tag);
        if let Some(view) = view {
            key.0.push(' ');
            key.0.push_str(view);
        }
        key
    }

    /// A question that is shared only by clients with this credential.
    pub(super) fn asked_with(self, credential: Option<&ClientCredential>) -> Self {
        match credential.and_then(ClientCredential::tag) {
            Some(id) => Self(format!("{} as {id}", self.0)),
            None => Self(format!("{} as nobody", self.0)),
        }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn of(grant: &Grant, what: &str) -> Self {
        let (registry, repository) = (grant.registry().name(), grant.repository());
        Self([registry.as_str(), repository.as_str(), what].join(" "))
    }

    #[cfg(test)]
    pub(super) fn for_test(number: usize) -> Self {
        Self(number.to_string())
    }
}
