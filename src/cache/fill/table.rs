//! The fills under way: one per registry and digest.
//!
//! Two registries' fills of one digest are separate, so that neither can slow or poison the
//! other; the first verified wins. Within a registry whoever misses joins the running fill.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::access::Grant;
use crate::cache::body::ahead::SideFetches;
use crate::cache::body::relay::RelayPoint;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::fetch::reader_credentials::{FillReader, FillReaders};
use crate::cache::fill::task::FillTask;
use crate::cache::presence::Presence;
use crate::cache::{CacheError, Shared};
use crate::oci::{Digest, RegistryName, RepositoryName};
use crate::store::{Store, StoredBlob};

/// The fills under way.
#[derive(Debug, Default)]
pub(crate) struct FillTable {
    under_way: Mutex<HashMap<(RegistryName, Digest), FillHandle>>,
}

/// How far a fill is.
#[derive(Clone, Debug)]
pub(crate) enum FillProgress {
    /// The upstream has not answered yet.
    Asking,
    /// Verified.
    Done {
        /// The whole blob.
        blob: StoredBlob,
        /// As in [`FillProgress::Filling`].
        generation: u32,
    },
    /// Given up. What readers have is not whole.
    Failed(CacheError),
    /// Bytes are on disk, not verified.
    Filling {
        /// The whole length, where it is known.
        total: Option<u64>,
        /// The partial file.
        file: Arc<File>,
        /// How many of its bytes may be read.
        written: u64,
        /// Raised when the fill starts again from zero: what was read before is void.
        generation: u32,
    },
    /// The disk takes no more: readers go on from the upstream.
    Relaying {
        /// From where on, and how.
        point: Arc<RelayPoint>,
        /// As in [`FillProgress::Filling`].
        generation: u32,
    },
}

impl FillProgress {
    /// Notes how much may be read of this generation; whether that is news. A job that was given up
    /// as stuck may come back with it when the fill has long gone on without.
    pub(crate) fn advance(&mut self, of: u32, now: u64) -> bool {
        match self {
            Self::Filling { written, generation, .. } if *generation == of && *written < now => {
                *written = now;
                true
            }
            _ => false,
        }
    }
}

/// A fill, as those see it who follow it.
#[derive(Clone, Debug)]
pub(crate) struct FillHandle {
    /// In which repository the upstream is asked.
    pub(crate) repository: RepositoryName,
    /// How far it is.
    pub(crate) progress: watch::Receiver<FillProgress>,
    /// What may be fetched beside it.
    pub(crate) side: SideFetches,
    /// Who reads along, where that matters.
    readers: Option<FillReaders>,
    /// This one.
    pub(crate) reader: Option<Arc<FillReader>>,
}

impl FillHandle {
    fn with(self, grant: &Grant) -> Self {
        let reader = self.readers.as_ref().map(|readers| readers.enter(grant));
        Self { reader, ..self }
    }
}

impl FillTable {
    /// How many there are.
    pub(crate) fn running(&self) -> usize {
        self.under_way.lock().len()
    }

    /// Where the partial files of the running fills lie.
    pub(crate) fn paths(&self, store: &Store) -> HashSet<PathBuf> {
        let under_way = self.under_way.lock();
        under_way.keys().map(|(registry, digest)| store.partial_path(registry, digest)).collect()
    }
}

impl Shared {
    /// Whether a fill of a digest is under way.
    pub(crate) fn is_filling(&self, grant: &Grant, digest: &Digest) -> bool {
        let key = (grant.registry().name().clone(), digest.clone());
        self.fills.under_way.lock().contains_key(&key)
    }

    /// The blob whose fill has nothing left to do but to have it on disk.
    pub(crate) fn proven(&self, grant: &Grant, digest: &Digest) -> Option<StoredBlob> {
        let key = (grant.registry().name().clone(), digest.clone());
        match &*self.fills.under_way.lock().get(&key)?.progress.borrow() {
            FillProgress::Done { blob, .. } => Some(blob.clone()),
            _ => None,
        }
    }

    /// Joins the fill of a digest, or starts it. Returns whether it was joined.
    pub(crate) fn join_fill(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        member: Option<Presence>,
    ) -> (bool, FillHandle) {
        let key = (grant.registry().name().clone(), digest.clone());
        let mut under_way = self.fills.under_way.lock();
        if let Some(filling) = under_way.get(&key) {
            return (true, filling.clone().with(grant));
        }
        let (sender, progress) = watch::channel(FillProgress::Asking);
        let readers = grant.uses_client_credential().then(FillReaders::default);
        let source = BlobOrigin::new(grant, digest, readers.clone());
        let side = SideFetches::new(source.clone().of_any_reader());
        let repository = grant.repository().clone();
        let filling = FillHandle { repository, progress, side, readers, reader: None };
        under_way.insert(key.clone(), filling.clone());
        drop(under_way);

        // Before the fill asks for the first time.
        let filling = filling.with(grant);
        let seat = FillGuard { shared: Arc::clone(self), key };
        let (shared, grant) = (Arc::clone(self), grant.clone());
        let fill = FillTask::new((shared, grant, source), digest.clone(), member, sender);
        self.tasks.spawn(fill.run(seat));
        (false, filling)
    }
}

/// A fill's place among those under way. Dropping it, also by a panic, frees the place.
#[derive(Debug)]
pub(crate) struct FillGuard {
    shared: Arc<Shared>,
    key: (RegistryName, Digest),
}

impl Drop for FillGuard {
    fn drop(&mut self) {
        self.shared.fills.under_way.lock().remove(&self.key);
    }
}
