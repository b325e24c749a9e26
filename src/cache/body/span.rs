//! The bytes of a blob that an answer brings, and how many of them may leave before verification.

/// The bytes that are still to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodySpan {
    /// The offset of the next byte.
    pub(crate) at: u64,
    /// The offset behind the last byte; `None` while the blob's length is unknown.
    pub(crate) end: Option<u64>,
    /// Whether the last byte is the blob's last, and waits for verification: a footer does not.
    pub(crate) reaches_end: bool,
}

impl BodySpan {
    pub(crate) fn is_over(&self) -> bool {
        self.end == Some(self.at)
    }

    /// The offset up to which may be sent of `written` bytes that are not verified.
    pub(crate) fn released(&self, written: u64, total: Option<u64>) -> u64 {
        let released = if self.reaches_end {
            written.min(total.unwrap_or(written).saturating_sub(TAIL_BYTES))
        } else {
            written
        };
        released.min(self.end.unwrap_or(u64::MAX))
    }
}

/// The most that is held back until a blob is verified: enough that no client has the whole, and
/// little enough that it does not notice.
pub(crate) const TAIL_BYTES: u64 = 64 << 10;
