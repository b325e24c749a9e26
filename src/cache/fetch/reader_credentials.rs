//! Who reads along with a fill, where each client brings a credential of its own.
//!
//! Such a fill has no credential: whenever it has to ask, it asks with that of a reader who is there at
//! the time, in that reader's own repository. What a reader brought goes with it.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::access::Grant;
use crate::oci::RepositoryName;
use crate::upstream::ClientCredential;

/// The readers of one fill. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct FillReaders {
    entered: Arc<Mutex<Vec<Weak<FillReader>>>>,
}

/// One reader, there as long as anybody holds it.
#[derive(Debug)]
pub(crate) struct FillReader {
    repository: RepositoryName,
    client: Option<ClientCredential>,
    is_refused: AtomicBool,
}

impl FillReaders {
    /// One more.
    pub(crate) fn enter(&self, grant: &Grant) -> Arc<FillReader> {
        let reader = Arc::new(FillReader {
            repository: grant.repository().clone(),
            client: grant.client().cloned(),
            is_refused: AtomicBool::new(false),
        });
        let mut entered = self.entered.lock();
        // Those who have left, before there is more room to be made.
        if entered.len() == entered.capacity() {
            entered.retain(|reader| reader.strong_count() > 0);
        }
        entered.push(Arc::downgrade(&reader));
        reader
    }

    /// Those who are there, the first come first, and were not refused; of one repository only, if
    /// there is one `in_repository`.
    pub(crate) fn present(&self, in_repository: Option<&RepositoryName>) -> Vec<Arc<FillReader>> {
        let is_there = |reader: &Arc<FillReader>| {
            let is_right = in_repository.is_none_or(|name| *name == reader.repository);
            is_right && !reader.is_refused.load(Ordering::Relaxed)
        };
        self.entered.lock().iter().filter_map(Weak::upgrade).filter(is_there).collect()
    }
}

impl FillReader {
    /// In which repository it may read.
    pub(crate) fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// What it presented.
    pub(crate) fn client(&self) -> Option<&ClientCredential> {
        self.client.as_ref()
    }

    /// The upstream has refused it: it is not asked with again.
    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}
