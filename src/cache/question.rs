//! Questions for an upstream on behalf of a client, and by when they must be answered.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::CacheError;
use crate::access::Grant;
use crate::oci::Resource;
use crate::upstream::{Question, ReadMethod};

/// Retries, queueing and failover before the headers of an answer share this much time: containerd
/// gives up after 30 s.
pub(super) const HEADERS_WAIT_MAX: Duration = Duration::from_secs(25);

/// The time by which an upstream must have answered a question that is asked now.
pub(super) fn deadline() -> Instant {
    Instant::now() + HEADERS_WAIT_MAX
}

/// Lets the questions of a pull, one after the other, share the time of one of them. The pull is
/// pinned by the caller: as a value it would be in the caller's future three times.
pub(super) async fn in_time<T>(
    grant: &Grant,
    mut pull: Pin<&mut impl Future<Output = Result<T, CacheError>>>,
) -> Result<T, CacheError> {
    // A hit is there at once, and needs no timer.
    match poll_fn(|cx| Poll::Ready(pull.as_mut().poll(cx))).await {
        Poll::Ready(pulled) => pulled,
        Poll::Pending => {
            let pulled = timeout(HEADERS_WAIT_MAX, pull).await;
            pulled.unwrap_or_else(|_| Err(timed_out(grant)))
        }
    }
}

/// The error that it is when the upstream gave no answer in [`HEADERS_WAIT_MAX`].
pub(super) fn timed_out(grant: &Grant) -> CacheError {
    let host = grant.registry().upstream().host().to_owned();
    CacheError::TimedOut { host, waited: HEADERS_WAIT_MAX }
}

/// A question on behalf of the client that holds the grant.
pub(super) fn question_of(grant: &Grant, method: ReadMethod, resource: Resource) -> Question {
    Question {
        client: grant.client().cloned(),
        via: grant.via().clone(),
        asker: Some(grant.address()),
        ..Question::new(method, grant.repository().clone(), resource)
    }
}
