//! Uses of blobs on their way from readers, which wait for nothing, to the order of eviction.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parking_lot::Mutex;

use super::key::BlobKey;

/// The uses that are not counted yet.
#[derive(Debug)]
pub(super) struct HitQueue {
    sender: SyncSender<BlobKey>,
    receiver: Mutex<Receiver<BlobKey>>,
}

impl HitQueue {
    pub(super) fn new() -> Self {
        let (sender, receiver) = sync_channel(HITS_MAX);
        Self { sender, receiver: Mutex::new(receiver) }
    }

    /// Notes a use. If there are more than can be taken, some are lost. Does not block.
    pub(super) fn note(&self, key: BlobKey) {
        drop(self.sender.try_send(key));
    }

    /// Takes all uses that were noted.
    pub(super) fn drain(&self, mut take: impl FnMut(&BlobKey)) {
        let receiver = self.receiver.lock();
        while let Ok(key) = receiver.try_recv() {
            take(&key);
        }
    }
}

/// Uses that wait to be counted, of 48 bytes each.
const HITS_MAX: usize = 1 << 13;
