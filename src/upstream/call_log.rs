//! The line of one request to an upstream, its token server or its storage, in the log at DEBUG.
//!
//! No URL is in it: the path of a storage, its query and the id of an upload can be keys.

use http::StatusCode;
use tokio::time::Instant;

use super::error::UpstreamError;
use super::request::UpstreamRequest;
use super::shown::host_of;

/// Logs a request that began then, when the head of its answer is there, or none will be.
pub(super) fn log_call(
    request: &UpstreamRequest,
    began: Instant,
    outcome: Result<StatusCode, &UpstreamError>,
) {
    let head_ms = (began.elapsed().as_secs_f64() * 1_000_000.0).round() / 1000.0;
    tracing::debug!(
        method = request.method.as_str(),
        host = host_of(&request.url),
        purpose = request.purpose.as_str(),
        object = request.class.object(),
        repository = request.scope.repository(),
        status = outcome.ok().map(|status| status.as_u16()),
        head_ms,
        error = outcome.err().map(tracing::field::display),
        "upstream request"
    );
}
