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

/// The sending side, which is used once. Without a message at the end the index has not all blobs.
pub(super) type BlobRowsSender = Arc<Mutex<Option<SyncSender<Option<BlobRow>>>>>;

/// Hands over every blob. Rows that the other side does not want are dropped.
pub(super) fn send(rows: &SyncSender<Option<BlobRow>>, ledger: &IndexDb) -> Result<(), IndexFault> {
    let mut is_wanted = true;
    ledger.scan(|name, facts| {
        if let RowName::Blob(digest) = name
            && is_wanted
        {
            let row = BlobRow { digest, len: facts.size, used: facts.used };
            is_wanted = rows.send(Some(row)).is_ok();
        }
    })?;
    // A receiver that has left needs none.
    drop(rows.send(None));
    Ok(())
}

pub(super) fn channel() -> (BlobRowsSender, BlobRows) {
    let (sender, receiver) = sync_channel(ROWS_MAX);
    (Arc::new(Mutex::new(Some(sender))), BlobRows(Some(receiver)))
}

/// Rows on their way.
const ROWS_MAX: usize = 256;

/// An index that takes longer to open, as after an unclean stop, is not waited for.
const ROW_WAIT_MAX: Duration = Duration::from_secs(2);
