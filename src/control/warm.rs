//! Images that are fetched before a client asks for them, by `larder warm` or on a schedule.
//!
//! Everything goes through the fetches of pulls, with their limits, and is shared with clients that
//! ask meanwhile. A fetch that was interrupted is resumed by the next.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::lines::LineSender;
use crate::access::Grant;
use crate::cache::{Cache, CacheError, CachedManifest, KnownRegistries, ListKind};
use crate::inventory::{ImageName, ManifestDocument, ManifestPart, PartKind};
use crate::oci::{AcceptSet, Digest, MANIFEST_ACCEPT, PageQuery, Reference};

/// The parts of an image that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmWishes {
    /// The platforms of an index, such as `linux/arm64`; all of them if there is none.
    pub platforms: Vec<String>,
    /// Whether signatures and other referrers are wanted.
    pub with_referrers: bool,
}

/// The progress of an image that is fetched; the last update has its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUpdate {
    /// Whether it has ended.
    #[serde(rename = "done")]
    pub is_done: bool,
    /// Contents that are stored, manifests among them.
    pub stored: u64,
    /// Contents that the image has, as far as that is known.
    pub of: u64,
    /// Bytes of the contents that are stored.
    pub stored_bytes: u64,
    /// Bytes of all of them, as far as manifests state them.
    pub of_bytes: u64,
    /// The layers and configurations that are fetched now: a few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetching: Vec<LayerProgress>,
    /// The reason that not all of it is stored, at the end.
    pub error: Option<String>,
}

/// The progress of one content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerProgress {
    /// Its digest.
    pub digest: String,
    /// Bytes that have come.
    pub stored_bytes: u64,
    /// Its length, as its manifest states it.
    pub of_bytes: u64,
}

/// Why not all of an image is stored.
#[derive(Debug, thiserror::Error)]
enum WarmError {
    /// A content cannot be had.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// An index that lists none of the platforms.
    #[error("the index lists none of the platforms that are wanted")]
    NoPlatform,
    /// More manifests than an image has.
    #[error("it has more than {MANIFESTS_MAX} manifests")]
    TooMany,
    /// The command that reads the updates has ended.
    #[error("the client has gone")]
    ClientGone,
    /// The task of a fetch ended before it.
    #[error("a fetch was lost")]
    Lost,
}

/// An image that is being fetched.
pub(super) struct WarmJob {
    pub(super) cache: Cache,
    pub(super) grant: Grant,
    pub(super) wishes: WarmWishes,
    /// The reader of the updates, if there is one.
    lines: Option<LineSender>,
    seen: HashSet<Digest>,
    blobs: Vec<ManifestPart>,
    update: WarmUpdate,
    /// When an update was sent last.
    shown: Instant,
}

impl WarmJob {
    pub(super) fn new(
        cache: Cache,
        grant: Grant,
        wishes: WarmWishes,
        lines: Option<LineSender>,
    ) -> Self {
        let (seen, blobs, update) = (HashSet::new(), Vec::new(), WarmUpdate::default());
        Self { cache, grant, wishes, lines, seen, blobs, update, shown: Instant::now() }
    }

    /// Fetches the image, and shows how far it is, until the client goes away. Returns the last
    /// update.
    pub(super) async fn run(mut self, reference: Reference) -> WarmUpdate {
        let fetched = match self.manifests(reference).await {
            Ok(()) => self.fetch_blobs().await,
            Err(error) => Err(error),
        };
        let error = fetched.err().map(|error| error.to_string());
        let last = WarmUpdate { is_done: true, error, fetching: Vec::new(), ..self.update };
        if let Some(lines) = &self.lines {
            lines.send(&last).await;
        }
        last
    }

    /// The manifests of the image, all that are wanted.
    async fn manifests(&mut self, reference: Reference) -> Result<(), WarmError> {
        let mut todo = vec![reference];
        while let Some(reference) = todo.pop() {
            self.show().await?;
            let accept = AcceptSet::parse([MANIFEST_ACCEPT]);
            let pulled = self.cache.manifest(&self.grant, &reference, &accept).await?;
            let Some(digest) = pulled.what.digest().cloned() else { continue };
            if !self.seen.insert(digest.clone()) {
                continue;
            }
            if self.seen.len() > MANIFESTS_MAX {
                return Err(WarmError::TooMany);
            }
            let document = self.note(&pulled.what);
            let wanted: Vec<_> = document.parts.iter().filter(|part| self.wants(part)).collect();
            if wanted.is_empty() && document.children().next().is_some() {
                return Err(WarmError::NoPlatform);
            }
            for part in wanted {
                if part.is_content() {
                    self.blobs.push(part.clone());
                } else {
                    todo.push(Reference::Digest(part.digest.clone()));
                }
            }
            if self.wishes.with_referrers {
                todo.extend(self.referrers(&digest).await);
            }
        }
        Ok(())
    }

    /// Counts a manifest, and reads it.
    fn note(&mut self, manifest: &Arc<CachedManifest>) -> ManifestDocument {
        let len = manifest.body().len() as u64;
        self.update.stored += 1;
        self.update.of += 1;
        self.update.stored_bytes += len;
        self.update.of_bytes += len;
        ManifestDocument::read(manifest.body()).unwrap_or_default()
    }

    fn wants(&self, part: &ManifestPart) -> bool {
        let platforms = &self.wishes.platforms;
        match (part.kind, &part.platform) {
            (PartKind::Foreign, _) => false,
            (PartKind::Attestation, _) => platforms.is_empty(),
            (PartKind::Child, Some(platform)) => {
                let is_of = |wanted: &String| {
                    let rest = platform.strip_prefix(wanted.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                platforms.is_empty() || platforms.iter().any(is_of)
            }
            _ => true,
        }
    }

    /// The referrers that the registry lists; none if it has no such list.
    async fn referrers(&self, digest: &Digest) -> Vec<Reference> {
        let listing = ListKind::Referrers(digest.clone());
        let listed = self.cache.list(&self.grant, &listing, &PageQuery::default()).await;
        let Ok(list) = listed else { return Vec::new() };
        let document = ManifestDocument::read(&list.what.body).unwrap_or_default();
        document.parts.into_iter().map(|part| Reference::Digest(part.digest)).collect()
    }

    /// Fetches the configurations and layers, some at a time.
    async fn fetch_blobs(&mut self) -> Result<(), WarmError> {
        let mut known = HashSet::new();
        self.blobs.retain(|part| known.insert(part.digest.clone()));
        self.update.of += self.blobs.len() as u64;
        self.update.of_bytes += self.blobs.iter().filter_map(|part| part.size).sum::<u64>();
        let mut waiting = std::mem::take(&mut self.blobs).into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < AT_ONCE
                && let Some(part) = waiting.next()
            {
                let (cache, grant) = (self.cache.clone(), self.grant.clone());
                self.begin(&part);
                running.spawn(async move {
                    let fetched = cache.fetch_blob(&grant, &part.digest).await;
                    fetched.map(|()| part)
                });
            }
            match timeout(UPDATE_EVERY, running.join_next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(fetched))) => self.end(&fetched?),
                Ok(Some(Err(_))) => return Err(WarmError::Lost),
                Err(_) => {}
            }
            self.show().await?;
        }
    }

    fn begin(&mut self, part: &ManifestPart) {
        let digest = part.digest.to_string();
        let of_bytes = part.size.unwrap_or_default();
        self.update.fetching.push(LayerProgress { digest, stored_bytes: 0, of_bytes });
    }

    fn end(&mut self, part: &ManifestPart) {
        self.update.fetching.retain(|layer| layer.digest != part.digest.as_str());
        self.update.stored_bytes += part.size.unwrap_or_default();
        self.update.stored += 1;
    }

    /// Sends an update, if the last one is old enough.
    async fn show(&mut self) -> Result<(), WarmError> {
        let Some(lines) = &self.lines else { return Ok(()) };
        if self.shown.elapsed() >= UPDATE_EVERY {
            self.shown = Instant::now();
            let fills = self.cache.fills();
            let registry = self.grant.registry().name();
            for fill in fills.iter().filter(|fill| fill.registry == *registry) {
                let digest = fill.digest.as_str();
                let mut layers = self.update.fetching.iter_mut();
                if let Some(layer) = layers.find(|layer| layer.digest == digest) {
                    layer.stored_bytes = fill.received;
                }
            }
            lines.send(&self.update).await;
        }
        if lines.is_closed() { Err(WarmError::ClientGone) } else { Ok(()) }
    }
}

/// The right to fetch an image; `None` if its registry is not fetched from.
pub(super) fn grant_to_warm(known: &KnownRegistries, name: &ImageName) -> Option<Grant> {
    known(&name.registry).and_then(|registry| Grant::to_restore(&registry, &name.repository))
}

/// Layers that are fetched at once: as many as containerd and dockerd fetch.
const AT_ONCE: usize = 3;

/// Manifests of one image, its referrers and theirs included: a registry that makes up ever new
/// ones would keep the fetch busy for good.
const MANIFESTS_MAX: usize = 1000;

/// The time between two updates.
const UPDATE_EVERY: Duration = Duration::from_millis(500);
