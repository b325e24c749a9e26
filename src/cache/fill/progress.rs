//! How far a fill is, as its readers see it.

use std::fs::File;
use std::sync::Arc;

use crate::cache::CacheError;
use crate::cache::fill::handover::RelayPoint;
use crate::store::StoredBlob;

/// How far a fill is.
#[derive(Clone, Debug)]
pub(crate) enum FillProgress {
    /// The upstream has not answered yet.
    Asking,
    /// The bytes are verified.
    Done {
        /// The whole blob.
        blob: StoredBlob,
        /// The attempt that brought it, as in [`FillProgress::Filling`].
        attempt: u32,
    },
    /// Given up. Readers do not have the whole blob.
    Failed(CacheError),
    /// Bytes are on disk, not verified.
    Filling {
        /// The length of the whole blob, if it is known.
        total: Option<u64>,
        /// The partial file.
        file: Arc<File>,
        /// How many of its bytes may be read.
        written: u64,
        /// Raised when the fill starts again from zero, in another file. Bytes of an earlier
        /// attempt are void.
        attempt: u32,
    },
    /// The disk takes no more. Readers go on from the upstream.
    Relaying {
        /// The offset to go on from, and the way.
        point: Arc<RelayPoint>,
        /// The attempt that it belongs to, as in [`FillProgress::Filling`].
        attempt: u32,
    },
}

impl FillProgress {
    /// Why it failed, if that is a fault: that the upstream has no such blob is an answer, and
    /// clients choose what they ask for.
    pub(crate) fn fault(&self) -> Option<&CacheError> {
        match self {
            Self::Failed(error) if !error.is_an_answer() => Some(error),
            _ => None,
        }
    }

    /// Begins this attempt, or raises how much may be read of its file. Returns whether that
    /// changed anything: a write that was given up as stuck may end long after the fill has gone on
    /// without it.
    pub(crate) fn advance(
        &mut self,
        of: u32,
        now: u64,
        total: Option<u64>,
        file: &Arc<File>,
    ) -> bool {
        match self {
            Self::Filling { written, attempt, .. } if *attempt == of => {
                let is_news = *written < now;
                *written = now.max(*written);
                is_news
            }
            Self::Filling { attempt, .. } if *attempt > of => false,
            Self::Asking | Self::Filling { .. } => {
                *self = Self::Filling { total, file: Arc::clone(file), written: now, attempt: of };
                true
            }
            Self::Done { .. } | Self::Failed(_) | Self::Relaying { .. } => false,
        }
    }

    /// How many bytes have come to the disk.
    pub(crate) fn received(&self) -> u64 {
        match self {
            Self::Asking | Self::Failed(_) | Self::Relaying { .. } => 0,
            Self::Done { blob, .. } => blob.content().len(),
            Self::Filling { written, .. } => *written,
        }
    }

    /// The length of the whole blob, if it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        match self {
            Self::Asking | Self::Failed(_) => None,
            Self::Done { blob, .. } => Some(blob.content().len()),
            Self::Filling { total, .. } => *total,
            Self::Relaying { point, .. } => point.total(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_ends_after_it_was_given_up_does_not_change_the_progress() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut now = FillProgress::Asking;
        assert!(now.advance(0, 5, None, &file), "it begins");
        assert!(now.advance(0, 9, None, &file), "it goes on");
        assert!(!now.advance(0, 9, None, &file), "no news");
        assert!(!now.advance(0, 7, None, &file), "fewer bytes than are known");

        assert!(now.advance(1, 0, None, &file), "it starts again from zero");
        assert!(!now.advance(0, 100, None, &file), "of a file that was given up");
        assert!(matches!(now, FillProgress::Filling { written: 0, attempt: 1, .. }));

        let mut failed = FillProgress::Failed(CacheError::Internal("over"));
        assert!(!failed.advance(1, 100, None, &file));
        assert!(matches!(failed, FillProgress::Failed(_)));
    }
}
