//! The blobs that an index knows when it is opened, handed over one by one.
//!
//! Only an index that is what the files are hands them over. All others say that they do not, and
//! the files are listed instead.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::db::{IndexDb, IndexFault};
use super::rows::RowName;
use crate::oci::Digest;

/// A blob, as the index knows it.
#[derive(Clone, Debug)]
pub(in crate::store) struct BlobRow {
    pub(in crate::store) digest: Digest,
    /// In bytes.
    pub(in crate::store) len: u64,
    /// Seconds since 1970.
    pub(in crate::store) used: u32,
}

/// The receiving side; the default receives nothing.
#[derive(Debug, Default)]
pub(in crate::store) struct BlobRows(Option<Receiver<Option<BlobRow>>>);

impl BlobRows {
    /// Shows every blob. Returns whether these are all. Blocks until the index is open.
    pub(in crate::store) fn receive(self, mut show: impl FnMut(BlobRow)) -> bool {
        let Some(receiver) = self.0 else { return false };
        loop {
            match receiver.recv_timeout(ROW_WAIT_MAX) {
                Ok(Some(row)) => show(row),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// The sending side, which is used once.
#[derive(Clone, Debug)]
pub(super) struct BlobRowsSender(Arc<Mutex<Option<SyncSender<Option<BlobRow>>>>>);

impl BlobRowsSender {
    pub(super) fn new(sender: SyncSender<Option<BlobRow>>) -> Self {
        Self(Arc::new(Mutex::new(Some(sender))))
    }

    /// Hands over every blob, if the index has all; else says that it does not. What the other side
    /// does not want is dropped.
    pub(super) fn send(&self, ledger: &IndexDb, is_whole: bool) -> Result<(), IndexFault> {
        let Some(sender) = self.0.lock().take().filter(|_| is_whole) else { return Ok(()) };
        let mut is_wanted = true;
        ledger.scan(|name, facts| {
            if let RowName::Blob(digest) = name
                && is_wanted
            {
                let row = BlobRow { digest, len: facts.size, used: facts.used };
                is_wanted = sender.send(Some(row)).is_ok();
            }
        })?;
        // Nobody left to hear it is as well.
        drop(sender.send(None));
        Ok(())
    }

    /// Says that the index has nothing to hand over.
    pub(super) fn close(&self) {
        drop(self.0.lock().take());
    }
}

pub(super) fn channel() -> (SyncSender<Option<BlobRow>>, BlobRows) {
    let (sender, receiver) = sync_channel(ROWS_MAX);
    (sender, BlobRows(Some(receiver)))
}

/// Rows on their way.
const ROWS_MAX: usize = 256;

/// An index that takes longer to open, as after an unclean stop, is not waited for.
const ROW_WAIT_MAX: Duration = Duration::from_secs(2);
