//! The presence of each digest in each repository, in memory and on disk, both in step.
//!
//! The files are the truth: the manifests that are held, and a log of the digests that an upstream
//! confirmed otherwise. When the registry last confirmed a digest is in memory alone: after a
//! restart the registry is asked once more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::holders::HolderIndex;
use crate::access::Grant;
use crate::cache::disk::{records_of, warn_of};
use crate::cache::epoch::{Epoch, EpochTable};
use crate::cache::key::RecordKey;
use crate::cache::memory::{MemoryTable, MemoryUse};
use crate::clock::WallClock;
use crate::oci::{Digest, ManifestFacts, RegistryName, RepositoryName};
use crate::store::{MemberSizes, RepositoryRecords, Store};

/// The knowledge of a digest that a repository has.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cache) struct Presence {
    /// Its length in bytes, where a manifest or the upstream states it.
    pub(in crate::cache) size: Option<u64>,
    /// When the registry itself last said that the repository has it.
    confirmed_at: Option<Instant>,
}

type RepositoryContents = Arc<Mutex<HashMap<Digest, Presence>>>;

/// The presence of each digest in each repository.
#[derive(Debug)]
pub(in crate::cache) struct PresenceTable {
    store: Arc<Store>,
    clock: Arc<dyn WallClock>,
    epochs: Arc<EpochTable>,
    contents: MemoryTable<RepositoryContents>,
    holders: HolderIndex,
}

impl PresenceTable {
    /// A table that takes about `bytes_max` bytes of memory.
    pub(in crate::cache) fn new(
        store: Arc<Store>,
        clock: Arc<dyn WallClock>,
        epochs: Arc<EpochTable>,
        bytes_max: u64,
    ) -> Self {
        let bytes_of = |contents: &RepositoryContents| contents.lock().len() * PRESENCE_BYTES;
        let contents = MemoryTable::new("members", bytes_max / 8 * 7, bytes_of);
        Self { store, clock, epochs, contents, holders: HolderIndex::new(bytes_max / 8) }
    }

    /// The presence of the digest, if the repository is known to have it. An error of the disk
    /// counts as no.
    pub(in crate::cache) async fn find(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Option<Presence> {
        let contents = if let Some(contents) = self.contents.get(&RecordKey::contents(grant)) {
            contents
        } else {
            let (this, of) = (Arc::clone(self), grant.clone());
            let load = move |records: &RepositoryRecords| Ok(this.load(records, &of));
            records_of(&self.store, grant).blocking(load).await.ok()?
        };
        contents.lock().get(digest).copied()
    }

    /// A manifest that is held for the repository and names the digest.
    pub(in crate::cache) async fn manifest_naming(
        &self,
        grant: &Grant,
        digest: &Digest,
    ) -> Option<Digest> {
        let digest = digest.clone();
        let find = move |records: &RepositoryRecords| records.manifest_naming(&digest);
        records_of(&self.store, grant).blocking(find).await.ok().flatten()
    }

    /// The length in bytes that a manifest of the repository states for the digest.
    pub(in crate::cache) async fn stated_length(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Option<u64> {
        let records = self.store.repository(registry, repository);
        let sizes = records.blocking(RepositoryRecords::members).await.ok()?;
        sizes.get(digest).copied().flatten()
    }

    /// Whether the registry has said within `membership_ttl` that the repository has the digest, so
    /// that a client that may push can be told so.
    pub(in crate::cache) fn is_confirmed(&self, grant: &Grant, digest: &Digest) -> bool {
        let Some(ttl) = grant.registry().membership_ttl() else { return false };
        let contents = self.contents.get(&RecordKey::contents(grant));
        let confirmed_at = contents.and_then(|contents| contents.lock().get(digest)?.confirmed_at);
        confirmed_at.is_some_and(|at| at.elapsed() < ttl)
    }

    /// The repositories of a registry that were last known to have the digest, the latest first.
    pub(in crate::cache) fn repositories_with(
        &self,
        registry: &RegistryName,
        digest: &Digest,
    ) -> Vec<RepositoryName> {
        self.holders.of(registry, digest)
    }

    /// Notes that the registry has the blob in the repository, as it answered a question of
    /// `since`; with its length in bytes, if the answer states it.
    pub(in crate::cache) async fn confirm(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        size: Option<u64>,
        since: Epoch,
    ) {
        self.note(grant, digest, Presence { size, confirmed_at: now_if_pushed_to(grant) }, since)
            .await;
    }

    /// Notes that the registry has the manifest in the repository, as it answered a question of
    /// `since`. The record on disk that the repository has it is the manifest's own.
    pub(in crate::cache) async fn confirm_manifest(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        since: Epoch,
    ) {
        let found = Presence { size: None, confirmed_at: now_if_pushed_to(grant) };
        let (this, of, digest) = (Arc::clone(self), grant.clone(), digest.clone());
        let note = move |records: &RepositoryRecords| {
            this.add(records, &of, &digest, found, since);
            Ok(())
        };
        // Until it is done nothing is known, and the registry is asked again.
        records_of(&self.store, grant).behind(note).await;
    }

    /// Notes that an upstream, maybe a mirror of the registry, serves the blob in the repository,
    /// as it answered a question of `since`; with its length in bytes, if the answer states it.
    pub(in crate::cache) async fn note_served(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        size: Option<u64>,
        since: Epoch,
    ) {
        self.note(grant, digest, Presence { size, confirmed_at: None }, since).await;
    }

    /// Notes what a manifest names that is held for the repository. Blocks.
    pub(in crate::cache) fn note_named(
        &self,
        records: &RepositoryRecords,
        grant: &Grant,
        facts: &ManifestFacts,
    ) {
        self.change(records, grant, |known| {
            for descriptor in &facts.descriptors {
                self.holders.add(grant, &descriptor.digest);
                let presence = known.entry(descriptor.digest.clone()).or_default();
                presence.size = descriptor.size.or(presence.size);
            }
        });
    }

    /// As [`PresenceTable::forget`].
    pub(in crate::cache) async fn deny(self: &Arc<Self>, grant: &Grant, digests: Vec<Digest>) {
        let (this, of) = (Arc::clone(self), grant.clone());
        let forget = move |records: &RepositoryRecords| {
            this.forget(records, &of, &digests);
            Ok(())
        };
        // As above.
        drop(records_of(&self.store, grant).blocking(forget).await);
    }

    /// Notes that the registry does not have these digests in the repository. Voids every
    /// confirmation for the repository that is in flight. Blocks.
    pub(in crate::cache) fn forget(
        &self,
        records: &RepositoryRecords,
        grant: &Grant,
        digests: &[Digest],
    ) {
        let key = RecordKey::contents(grant);
        self.epochs.exclusively(&key, || {
            let now = self.clock.now();
            self.epochs.invalidate(&key, now);
            let contents = self.load(records, grant);
            // Others have no record that would have to be denied: clients make digests up.
            let is_known = |digest: &&Digest| contents.lock().contains_key(*digest);
            let known: Vec<_> = digests.iter().filter(is_known).cloned().collect();
            let noted = records.drop_members(&known, now);
            warn_of(records, noted, "cannot record that blobs are no longer in the repository");
            for digest in &known {
                contents.lock().remove(digest);
                self.holders.remove(grant, digest);
            }
        });
    }

    /// Forgets what is in memory of the repository, so that it is read from disk again.
    pub(in crate::cache) fn reload(&self, grant: &Grant) {
        self.contents.remove(&RecordKey::contents(grant));
    }

    /// Forgets what is in memory, so that it is read from disk again.
    pub(in crate::cache) fn clear_memory(&self) {
        self.contents.clear();
    }

    /// How much memory it takes.
    pub(in crate::cache) fn usage(&self) -> [MemoryUse; 2] {
        [self.contents.usage(), self.holders.usage()]
    }

    async fn note(self: &Arc<Self>, grant: &Grant, digest: &Digest, found: Presence, since: Epoch) {
        let (this, of, digest) = (Arc::clone(self), grant.clone(), digest.clone());
        let note = move |records: &RepositoryRecords| {
            let key = RecordKey::contents(&of);
            this.epochs.if_current(&key, since, || {
                if !this.load(records, &of).lock().contains_key(&digest) {
                    let noted = records.put_member(&digest, this.clock.now());
                    warn_of(records, noted, "cannot record that a blob is in the repository");
                }
                this.add(records, &of, &digest, found, since);
            });
            Ok(())
        };
        // As above.
        records_of(&self.store, grant).behind(note).await;
    }

    /// Whether nothing was deleted from the repository since.
    pub(in crate::cache) fn is_current(&self, grant: &Grant, since: Epoch) -> bool {
        self.epochs.is_current(|| RecordKey::contents(grant), since)
    }

    /// Adds to what is in memory, unless it was voided after `since`. Blocks.
    fn add(
        &self,
        records: &RepositoryRecords,
        grant: &Grant,
        digest: &Digest,
        found: Presence,
        since: Epoch,
    ) {
        self.change(records, grant, |known| {
            // Under the lock of the contents: a delete invalidates before it removes.
            if self.is_current(grant, since) {
                self.holders.add(grant, digest);
                let presence = known.entry(digest.clone()).or_default();
                presence.size = presence.size.or(found.size);
                presence.confirmed_at = found.confirmed_at.or(presence.confirmed_at);
            }
        });
    }

    /// Changes what is in memory. Blocks.
    fn change(
        &self,
        records: &RepositoryRecords,
        grant: &Grant,
        change: impl FnOnce(&mut HashMap<Digest, Presence>),
    ) {
        let contents = self.load(records, grant);
        let mut known = contents.lock();
        let before = known.len();
        change(&mut known);
        let has_grown = known.len() > before;
        drop(known);
        if has_grown {
            self.contents.weigh_again(RecordKey::contents(grant), &contents);
        }
    }

    /// The contents of the repository. Blocks.
    fn load(&self, records: &RepositoryRecords, grant: &Grant) -> RepositoryContents {
        self.contents.get_or_load(RecordKey::contents(grant), || {
            let sizes = records.members().unwrap_or_else(|error| {
                let (registry, repository) = (records.registry(), records.repository());
                tracing::warn!(%registry, %repository, %error, "cannot read memberships");
                MemberSizes::new()
            });
            let presence = |size| Presence { size, confirmed_at: None };
            Arc::new(Mutex::new(sizes.into_iter().map(|(it, size)| (it, presence(size))).collect()))
        })
    }
}

/// `None` for a registry that takes no pushes: it may have mirrors, and is not asked itself.
fn now_if_pushed_to(grant: &Grant) -> Option<Instant> {
    grant.registry().membership_ttl().map(|_| Instant::now())
}

/// Memory of a digest, in bytes: the text of a sha256 digest, its box, a presence, a slot.
const PRESENCE_BYTES: usize = 176;
