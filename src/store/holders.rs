//! All contents of a store, and the repositories that have one: for their verification, and to
//! fetch anew what is wrong.

use std::io;
use std::sync::Arc;

use super::blob_store::BlobStore;
use super::blocking::blocking;
use super::layout::StoreLayout;
use super::open::Store;
use super::record_store::RecordStore;
use super::repository_records::RepositoryRecords;
use super::repository_view::{RepositoryView, RepositoryWalk};
use super::view::{ContentView, StoreView};
use crate::clock::BootId;
use crate::oci::{Algorithm, Digest, ManifestFacts, RegistryName, RepositoryName};

/// A repository that is known to have a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHolder {
    /// The registry of the repository.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    /// Whether the content is held as a manifest there.
    pub is_manifest: bool,
}

/// The number of groups that the stored contents are in, by their algorithm and the first byte of
/// their hash.
pub const CONTENT_GROUPS: usize = Algorithm::ALL.len() << 8;

/// The stored contents of a group, a number below [`CONTENT_GROUPS`], by name.
///
/// # Errors
///
/// Those of listing a directory.
pub async fn contents_of(store: &Store, group: usize) -> io::Result<Vec<(Digest, ContentView)>> {
    let view = StoreView::of(&store.layout);
    let [first, algorithm, ..] = group.to_le_bytes();
    let list = move || match Algorithm::ALL.get(usize::from(algorithm)) {
        Some(algorithm) => view.contents_of(*algorithm, first),
        None => Ok(Vec::new()),
    };
    blocking(list).await
}

/// Repositories that are known to have a content: those whose manifests name it, or where the
/// upstream has confirmed it; at most `HOLDERS_MAX` of each registry. Reads all manifests, so it
/// takes long for a large cache.
///
/// # Errors
///
/// Those of the file system.
pub async fn holders_of(store: &Store, digest: &Digest) -> io::Result<Vec<ContentHolder>> {
    let search = HolderSearch {
        layout: store.layout.clone(),
        records: Arc::clone(&store.records),
        blobs: Arc::clone(&store.blobs),
        boot: store.boot,
        digest: digest.clone(),
    };
    blocking(move || search.run()).await
}

struct HolderSearch {
    layout: StoreLayout,
    records: Arc<dyn RecordStore>,
    blobs: Arc<BlobStore>,
    boot: BootId,
    digest: Digest,
}

impl HolderSearch {
    fn run(&self) -> io::Result<Vec<ContentHolder>> {
        let mut holders: Vec<ContentHolder> = Vec::new();
        for of in RepositoryWalk::new(&self.layout) {
            let of = of?;
            let is_of_registry = |holder: &&ContentHolder| holder.registry == of.registry;
            if holders.iter().filter(is_of_registry).count() < HOLDERS_MAX {
                holders.extend(self.holder(of)?);
            }
        }
        Ok(holders)
    }

    /// The repository, if it has the content.
    fn holder(&self, of: RepositoryView) -> io::Result<Option<ContentHolder>> {
        let records = RepositoryRecords {
            records: Arc::clone(&self.records),
            blobs: Arc::clone(&self.blobs),
            registry: of.registry.clone(),
            repository: of.repository.clone(),
            boot: self.boot,
        };
        let is_manifest = records.manifest_type(&self.digest)?.is_some();
        let is_there = is_manifest
            || records.member_log().read()?.present.contains(&self.digest)
            || self.is_named(&of)?;
        let RepositoryView { registry, repository, .. } = of;
        Ok(is_there.then_some(ContentHolder { registry, repository, is_manifest }))
    }

    /// Whether a manifest of the repository names the content. One that is wrong is left to its own
    /// verification.
    fn is_named(&self, of: &RepositoryView) -> io::Result<bool> {
        let view = StoreView::of(&self.layout);
        for manifest in of.manifests()? {
            let body = view.manifest(&manifest.digest)?;
            let facts = body.and_then(|body| ManifestFacts::read(&body).ok());
            let mut named = facts.into_iter().flat_map(|facts| facts.descriptors);
            if named.any(|descriptor| descriptor.digest == self.digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A content that so many repositories of a registry do not have any more is gone there.
const HOLDERS_MAX: usize = 8;
