//! A client's body on its way to the upstream, and the copy that it leaves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::PushError;
use super::upload_copy::CopySink;
use crate::http::{BodySource, NextBytes, RequestBody};
use crate::upstream::{ChangePayload, UploadBody};

/// Counts the bytes of a body as they pass.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteCount(Arc<AtomicU64>);

impl ByteCount {
    /// How many there were.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The body, to be sent as it comes, and copied by `spout`.
pub(super) fn payload(
    received: RequestBody,
    mut spout: Option<CopySink>,
) -> Result<(ChangePayload, ByteCount), PushError> {
    let (length, passed) = (received.length(), ByteCount::default());
    if length.is_some_and(|length| length > UPLOAD_BYTES_MAX) {
        return Err(PushError::TooLong { max: UPLOAD_BYTES_MAX });
    }
    if length == Some(0) {
        if let Some(spout) = &mut spout {
            spout.end();
        }
        return Ok((ChangePayload::Empty, passed));
    }
    let passing = CountedBody { received, length, passed: passed.clone(), spout };
    Ok((ChangePayload::Streamed(UploadBody::new(Box::new(passing), length)), passed))
}

struct CountedBody {
    received: RequestBody,
    length: Option<u64>,
    passed: ByteCount,
    spout: Option<CopySink>,
}

impl CountedBody {
    /// Counts and copies a piece, or the end.
    fn pass(&mut self, piece: Option<&Bytes>) -> Result<(), String> {
        let bytes = piece.map_or(0, Bytes::len) as u64;
        let passed = self.passed.0.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if passed > UPLOAD_BYTES_MAX {
            return Err(format!("more than {UPLOAD_BYTES_MAX} bytes came"));
        }
        let Some(spout) = &mut self.spout else { return Ok(()) };
        if let Some(piece) = piece {
            spout.push(piece);
        }
        // Who knows the length does not ask for what comes after the last byte.
        if piece.is_none() || self.length == Some(passed) {
            spout.end();
        }
        Ok(())
    }
}

impl BodySource for CountedBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        None
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async {
            let next = self.received.chunk().await?;
            self.pass(next.as_ref())?;
            Ok(next.map(Into::into))
        })
    }
}

/// The longest body that is passed on: more than the largest blob that any registry takes.
pub(super) const UPLOAD_BYTES_MAX: u64 = 512 << 30;
