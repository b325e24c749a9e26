//! A client's body on its way to the upstream.

use std::pin::Pin;

use bytes::Bytes;

use super::Error;
use crate::http::{Next, Received, Source};
use crate::upstream::{Payload, Streamed};

/// The body, to be sent as it comes.
pub(super) fn payload(received: Received) -> Result<Payload, Error> {
    let length = received.length();
    if length == Some(0) {
        return Ok(Payload::Empty);
    }
    if length.is_some_and(|length| length > UPLOAD_BYTES_MAX) {
        return Err(Error::TooLong { max: UPLOAD_BYTES_MAX });
    }
    let passing = Passing { received, left: UPLOAD_BYTES_MAX };
    Ok(Payload::Streamed(Streamed::new(Box::new(passing), length)))
}

struct Passing {
    received: Received,
    /// How many more bytes are passed on.
    left: u64,
}

impl Source for Passing {
    fn next_now(&mut self) -> Option<Next> {
        None
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = Next> + Send + '_>> {
        Box::pin(async {
            let next = self.received.chunk().await?;
            let bytes = next.as_ref().map_or(0, Bytes::len) as u64;
            match self.left.checked_sub(bytes) {
                Some(left) => self.left = left,
                None => return Err(format!("more than {UPLOAD_BYTES_MAX} bytes came").into()),
            }
            Ok(next.map(Into::into))
        })
    }
}

/// The longest body that is passed on: more than the largest blob that any registry takes.
pub(super) const UPLOAD_BYTES_MAX: u64 = 512 << 30;
