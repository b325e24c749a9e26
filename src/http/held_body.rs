//! The body of an answer whose request is in flight until the last of its bytes has left.
//!
//! hyper takes a body's last frame long before a client whose window is closed takes it. So each
//! piece of data bears the permit of its request, which counts as long as one of them is held.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::connection_load::RequestPermit;
use super::{BodyData, BodyError};

/// A body that notes each frame that is asked for as progress.
#[derive(Debug)]
pub(super) struct HeldBody<B> {
    body: B,
    permit: Arc<RequestPermit>,
}

impl<B> HeldBody<B> {
    pub(super) fn new(body: B, permit: RequestPermit) -> Self {
        permit.note_answer();
        Self { body, permit: Arc::new(permit) }
    }
}

impl<B: Body<Data = BodyData, Error = BodyError> + Unpin> Body for HeldBody<B> {
    type Data = HeldData;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<HeldData>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map_ok(|frame| {
            self.permit.note_progress();
            frame.map_data(|data| HeldData { data, _permit: Arc::clone(&self.permit) })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Data that keeps its request in flight.
#[derive(Debug)]
pub(super) struct HeldData {
    data: BodyData,
    _permit: Arc<RequestPermit>,
}

impl Buf for HeldData {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        self.data.copy_to_bytes(len)
    }
}
