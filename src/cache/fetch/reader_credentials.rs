//! The readers of a fill, where each client brings a credential of its own (`identity = "client"`).
//!
//! Such a fill has no credential. Each of its requests uses that of a reader which is connected at
//! the time, in that reader's own repository. A credential is gone when its reader is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::access::Grant;
use crate::http::ClientPresence;
use crate::oci::RepositoryName;
use crate::upstream::ClientCredential;

/// The readers of one fill. Clones are the same readers.
#[derive(Clone, Debug, Default)]
pub(crate) struct FillReaders {
    entered: Arc<Mutex<Vec<Weak<FillReader>>>>,
}

/// One reader, which counts as connected until the last `Arc` of it is dropped.
#[derive(Debug)]
pub(crate) struct FillReader {
    repository: RepositoryName,
    client: Option<ClientCredential>,
    is_refused: AtomicBool,
    /// Set once its answer begins.
    presence: OnceLock<ClientPresence>,
}

impl FillReaders {
    /// Adds a reader.
    pub(crate) fn enter(&self, grant: &Grant) -> Arc<FillReader> {
        let reader = Arc::new(FillReader {
            repository: grant.repository().clone(),
            client: grant.client().cloned(),
            is_refused: AtomicBool::new(false),
            presence: OnceLock::new(),
        });
        let mut entered = self.entered.lock();
        // The readers that have left, before the list grows.
        if entered.len() == entered.capacity() {
            entered.retain(|reader| reader.strong_count() > 0);
        }
        entered.push(Arc::downgrade(&reader));
        reader
    }

    /// The connected readers that the upstream has not refused, in the order in which they came;
    /// only those of one repository, if `in_repository` names it.
    pub(crate) fn present(&self, in_repository: Option<&RepositoryName>) -> Vec<Arc<FillReader>> {
        let is_usable = |reader: &Arc<FillReader>| {
            let is_in_place = in_repository.is_none_or(|name| *name == reader.repository);
            let has_left = reader.presence.get().is_some_and(ClientPresence::may_have_left);
            is_in_place && !has_left && !reader.is_refused.load(Ordering::Relaxed)
        };
        self.entered.lock().iter().filter_map(Weak::upgrade).filter(is_usable).collect()
    }
}

impl FillReader {
    /// The repository in which the reader may read.
    pub(crate) fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The credential that the client presented.
    pub(crate) fn client(&self) -> Option<&ClientCredential> {
        self.client.as_ref()
    }

    /// Ends the use of the credential with this presence.
    pub(crate) fn read_while(&self, presence: &ClientPresence) {
        self.presence.get_or_init(|| presence.clone());
    }

    /// Notes that the upstream refused the credential, which is not used again.
    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}
