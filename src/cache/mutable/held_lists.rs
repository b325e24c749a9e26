//! Lists of a registry that is offline, made of what the cache holds: an import brings manifests
//! and tags, and no lists.
//!
//! All manifests of a repository are read for them, so they are made once for all who ask and kept
//! in memory for a minute, or until content is imported or removed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::access::Grant;
use crate::cache::disk::records_of;
use crate::cache::flight::FlightTable;
use crate::cache::key::RecordKey;
use crate::cache::memory::{MemoryTable, MemoryUse};
use crate::cache::tasks::DetachedTasks;
use crate::cache::{CacheError, ListKind, ListPage};
use crate::oci::{Digest, MANIFEST_BYTES_MAX, PageQuery, Tag};
use crate::store::{ListRecord, RepositoryRecords, Store};

/// The lists of repositories that were asked for.
#[derive(Debug)]
pub(super) struct HeldLists {
    store: Arc<Store>,
    memory: MemoryTable<Arc<HeldRepository>>,
    flights: FlightTable<(RecordKey, u64), Arc<HeldRepository>>,
    /// Raised when content was imported or removed.
    generation: AtomicU64,
}

/// The tags and referrers of one repository.
#[derive(Debug)]
struct HeldRepository {
    generation: u64,
    made: Instant,
    tags: Vec<Tag>,
    manifests: HashSet<Digest>,
    /// By the manifest that they refer to.
    referrers: HashMap<Digest, HeldReferrers>,
    /// Bytes of the tags and the descriptors.
    bytes: usize,
}

/// The descriptors of the manifests that refer to one, and their length together in bytes.
#[derive(Debug, Default)]
struct HeldReferrers {
    entries: Vec<Box<RawValue>>,
    bytes: usize,
}

impl HeldLists {
    /// Keeps lists in about `bytes_max` bytes of memory.
    pub(super) fn new(store: Arc<Store>, tasks: DetachedTasks, bytes_max: u64) -> Self {
        let bytes_of = |held: &Arc<HeldRepository>| held.bytes;
        let memory = MemoryTable::new("held", bytes_max, bytes_of);
        Self { store, memory, flights: FlightTable::new(tasks), generation: AtomicU64::default() }
    }

    /// The page of a list of what is held; `None` if nothing is, or it cannot be read.
    pub(super) async fn page(
        self: &Arc<Self>,
        grant: &Grant,
        listing: &ListKind,
        page: &PageQuery,
    ) -> Option<Arc<ListPage>> {
        let held = self.repository(grant).await?;
        let (body, next) = match listing {
            ListKind::Tags => held.tags(grant, page)?,
            ListKind::Referrers(subject) => (held.referrers(subject)?, None),
        };
        let media_type = listing.media_type().to_owned();
        let body = Bytes::from(body.to_string());
        Some(Arc::new(ListPage { media_type, filters_applied: None, next, body }))
    }

    async fn repository(self: &Arc<Self>, grant: &Grant) -> Option<Arc<HeldRepository>> {
        let (key, generation) = (RecordKey::lists(grant), self.generation.load(Ordering::Acquire));
        let is_current = |held: &Arc<HeldRepository>| {
            held.generation == generation && held.made.elapsed() < FRESH_FOR
        };
        if let Some(held) = self.memory.get(&key).filter(is_current) {
            return Some(held);
        }
        let (this, of, at) = (Arc::clone(self), grant.clone(), key.clone());
        let make = move || async move {
            let made = Instant::now();
            let read =
                move |records: &RepositoryRecords| HeldRepository::read(records, generation, made);
            let held = records_of(&this.store, &of).blocking(read).await.map_err(|error| {
                tracing::warn!(%error, "cannot read the records of a repository for a list");
                CacheError::Internal("the records of a repository cannot be read")
            })?;
            let held = Arc::new(held);
            this.memory.put(at, Arc::clone(&held));
            Ok(held)
        };
        let (_, held) = self.flights.join((key, generation), make);
        held.landed().await.ok()
    }

    /// Forgets the lists: content was imported or removed.
    pub(super) fn clear_memory(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.memory.clear();
    }

    /// How much memory they take.
    pub(super) fn usage(&self) -> MemoryUse {
        self.memory.usage()
    }
}

impl HeldRepository {
    /// Reads all manifests. Blocks.
    fn read(records: &RepositoryRecords, generation: u64, made: Instant) -> io::Result<Self> {
        let tags = records.tags()?;
        let bytes = tags.iter().map(|tag| tag.as_str().len() + 32).sum();
        let mut held = Self {
            generation,
            made,
            tags,
            bytes,
            manifests: HashSet::new(),
            referrers: HashMap::new(),
        };
        for digest in records.manifests_held()? {
            held.add(records, &digest)?;
            held.bytes += ENTRY_BYTES;
            held.manifests.insert(digest);
        }
        Ok(held)
    }

    /// Adds a manifest to the referrers of its subject, if it has one.
    fn add(&mut self, records: &RepositoryRecords, digest: &Digest) -> io::Result<()> {
        let held = records.manifest(digest, MANIFEST_BYTES_MAX as u64)?;
        let Some((media_type, body)) = held else { return Ok(()) };
        let body = body.content();
        let Ok(manifest) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
        let subject = manifest.pointer("/subject/digest").and_then(Value::as_str);
        let Some(Ok(subject)) = subject.map(str::parse::<Digest>) else { return Ok(()) };
        let entry = descriptor(digest, &media_type.to_string(), body.len(), &manifest);
        let listed = self.referrers.entry(subject).or_default();
        let len = entry.get().len();
        if listed.bytes + len > ListRecord::BODY_BYTES_MAX {
            tracing::warn!(%digest, "a referrer is not listed: the list of its subject is full");
            return Ok(());
        }
        self.bytes += len + ENTRY_BYTES;
        listed.bytes += len;
        listed.entries.push(entry);
        Ok(())
    }

    /// The tags of a page, and the page behind it; `None` if there are none.
    fn tags(&self, grant: &Grant, page: &PageQuery) -> Option<(Value, Option<PageQuery>)> {
        if self.tags.is_empty() {
            return None;
        }
        let behind = self.tags.iter().map(Tag::as_str);
        let mut behind = behind.filter(|tag| page.last().is_none_or(|last| *tag > last));
        let max = page.count().unwrap_or(PageQuery::COUNT_MAX) as usize;
        let shown: Vec<&str> = behind.by_ref().take(max).collect();
        let next = shown.last().filter(|_| behind.next().is_some()).map(|last| page.behind(last));
        Some((json!({ "name": grant.repository().to_string(), "tags": shown }), next))
    }

    /// The index of the manifests that refer to one that is held. It is empty where none does: from
    /// a 404 oras concludes that no image of the registry has such a list.
    fn referrers(&self, subject: &Digest) -> Option<Value> {
        if !self.manifests.contains(subject) {
            return None;
        }
        let found = self.referrers.get(subject).map_or(&[][..], |found| &found.entries);
        Some(json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found }))
    }
}

/// The entry of a manifest in the list of its subject's referrers.
fn descriptor(digest: &Digest, media_type: &str, size: usize, manifest: &Value) -> Box<RawValue> {
    let mut entry = json!({ "mediaType": media_type, "digest": digest.as_str(), "size": size });
    // The kind of an artifact is its own word, else that of its configuration
    // (distribution-spec, "Listing Referrers").
    let kind = manifest.get("artifactType").filter(|kind| kind.as_str() != Some(""));
    if let Some(kind) = kind.or(manifest.pointer("/config/mediaType")) {
        entry["artifactType"] = kind.clone();
    }
    if let Some(annotations) = manifest.get("annotations") {
        entry["annotations"] = annotations.clone();
    }
    // A value always serialises.
    RawValue::from_string(entry.to_string()).unwrap_or_default()
}

/// For how long lists are taken from memory: an eviction does not tell.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// Bytes of a digest and its place in a map.
const ENTRY_BYTES: usize = 128;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
