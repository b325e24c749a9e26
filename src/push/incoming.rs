//! A client's body on its way to the upstream: counted, limited, and copied.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::PushError;
use super::upload_copy::CopySink;
use crate::http::{BodySource, NextBytes, RequestBody};
use crate::upstream::{ChangePayload, UploadBody};

/// The bytes of a body that have passed so far. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteCount(Arc<AtomicU64>);

impl ByteCount {
    /// The number of bytes.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The body as a payload that is sent as it arrives, and copied into `sink`.
///
/// # Errors
///
/// [`PushError::TooLong`] if it announces more than 512 GiB.
pub(super) fn payload(
    body: RequestBody,
    mut sink: Option<CopySink>,
) -> Result<(ChangePayload, ByteCount), PushError> {
    let (length, passed) = (body.length(), ByteCount::default());
    if length.is_some_and(|length| length > UPLOAD_BYTES_MAX) {
        return Err(PushError::TooLong { max: UPLOAD_BYTES_MAX });
    }
    if length == Some(0) {
        if let Some(sink) = &mut sink {
            sink.end();
        }
        return Ok((ChangePayload::Empty, passed));
    }
    let passing = CountedBody { body, length, passed: passed.clone(), sink };
    Ok((ChangePayload::Streamed(UploadBody::new(Box::new(passing), length)), passed))
}

struct CountedBody {
    body: RequestBody,
    length: Option<u64>,
    passed: ByteCount,
    sink: Option<CopySink>,
}

impl CountedBody {
    /// Counts and copies a piece, or the end.
    fn pass(&mut self, piece: Option<&Bytes>) -> Result<(), String> {
        let bytes = piece.map_or(0, Bytes::len) as u64;
        let passed = self.passed.0.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if passed > UPLOAD_BYTES_MAX {
            return Err(format!("the body is longer than {UPLOAD_BYTES_MAX} bytes"));
        }
        let Some(sink) = &mut self.sink else { return Ok(()) };
        if let Some(piece) = piece {
            sink.push(piece);
        }
        // A reader that knows the length does not ask for the end of the body.
        if piece.is_none() || self.length == Some(passed) {
            sink.end();
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
            let next = self.body.chunk().await?;
            self.pass(next.as_ref())?;
            Ok(next.map(Into::into))
        })
    }
}

/// The longest body that is sent on, in bytes: more than the largest blob that any registry
/// accepts.
pub(super) const UPLOAD_BYTES_MAX: u64 = 512 << 30;
