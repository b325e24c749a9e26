//! The verification of stored content that no client reads: from the disk, at a pace.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::content::ContentStore;
use super::recheck::RecheckVerdict;
use crate::oci::Digest;

/// How fast content is read to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPace {
    /// Bytes in a second, at most; `None` for any number.
    pub bytes_per_second: Option<u64>,
    /// The pause after a read, as a multiple of the time that it took. It leaves the disk to
    /// clients, the longer the busier it is.
    pub rest: u32,
}

impl DiskPace {
    /// Reads a content from the disk and verifies it; `None` if it is not stored. One that is wrong
    /// is removed. `read` is told of bytes that were read, again and again.
    ///
    /// # Errors
    ///
    /// It cannot be read now. This is no verdict.
    pub async fn check(
        self,
        content: &ContentStore,
        digest: &Digest,
        read: impl Fn(u64),
    ) -> io::Result<Option<RecheckVerdict>> {
        let Some(blob) = content.open_on_disk(digest).await? else { return Ok(None) };
        while let Some(at) = blob.first_open() {
            let begun = Instant::now();
            blob.step(at).await?;
            read(blob.step_len());
            self.pause(blob.step_len(), begun.elapsed()).await;
        }
        Ok(Some(blob.verdict()))
    }

    async fn pause(self, bytes: u64, took: Duration) {
        let due = self.bytes_per_second.map(|rate| {
            let nanos = u128::from(bytes) * NANOS / u128::from(rate.max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).saturating_sub(took)
        });
        sleep(due.unwrap_or_default().max(took * self.rest)).await;
    }
}

const NANOS: u128 = 1_000_000_000;
