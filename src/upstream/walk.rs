//! The walk along redirects, from the upstream to the first answer that is none.
//!
//! Registries answer a blob with a redirect to storage whose URL is signed. Such a URL is followed
//! at once and forgotten: never cached, logged or shown. Storage refuses requests that carry a
//! second credential, and must not learn ours: `Authorization` goes to the origin that was asked
//! first, and not even there again once the walk has left it, because the host that points back
//! chooses the path.

use http::header::VIA;
use http::{HeaderValue, StatusCode};

use super::error::UpstreamError;
use super::payload::ChangePayload;
use super::redirect::{RedirectPolicy, is_redirect, next_url};
use super::reply::UpstreamReply;
use super::request::{CallPurpose, UpstreamRequest};
use super::shown::{host_of, origin_of};
use super::transport::UpstreamTransport;

/// The most redirects that are followed for one request. Two are common (registry, storage, CDN).
const HOPS_MAX: usize = 5;

/// Sends `request` and follows its redirects as its policy says. The answer keeps the permit of a
/// read until its body was read; that of a change has been read, as far as it is an error.
///
/// # Errors
///
/// When no answer came, or a redirect must not be followed.
pub(super) async fn follow(
    transport: &UpstreamTransport,
    request: &UpstreamRequest,
    payload: ChangePayload,
    authorization: Option<&HeaderValue>,
) -> Result<UpstreamReply, UpstreamError> {
    transport.check(request)?;
    let permits = transport.room.permits(request, &transport.host).await?;
    let mut request = request.clone();
    request.headers.extend(request.via.header(transport.instance).map(|value| (VIA, value)));
    let mut payload = payload;
    let mut status = StatusCode::FOUND;
    let asked = request.url.origin();
    let mut authorization = authorization;
    for _ in 0..=HOPS_MAX {
        let again = payload.again();
        let mut reply = transport.exchange(&request, payload, authorization).await?;
        if !is_redirect(reply.status) {
            if request.is_change() {
                reply.read_error().await;
            } else {
                reply.body.hold(permits);
            }
            return Ok(reply);
        }
        status = reply.status;
        redirect(transport, &mut request, &reply)?;
        authorization = authorization.filter(|_| request.url.origin() == asked);
        payload = again.ok_or_else(|| not_repeatable(transport, status))?;
    }
    let reason = format!("it leads through more than {HOPS_MAX} redirects");
    Err(UpstreamError::unexpected(host_of(&request.url), status, reason))
}

/// Has `request` go where `reply` points, if it may.
fn redirect(
    transport: &UpstreamTransport,
    request: &mut UpstreamRequest,
    reply: &UpstreamReply,
) -> Result<(), UpstreamError> {
    if !request.redirects.allows(reply.status) {
        return Err(not_repeatable(transport, reply.status));
    }
    let next = next_url(&request.url, reply.status, &reply.headers)?;
    if request.redirects == RedirectPolicy::SameHost && next.host() != transport.base.url().host() {
        let host = transport.host.clone();
        return Err(UpstreamError::NotFound { host, said: None, is_proven: false });
    }
    let is_within = next.origin() == request.url.origin();
    if request.redirects == RedirectPolicy::SameOrigin && !is_within {
        let reason = format!("as a token server: it redirects to {}", origin_of(&next));
        return Err(UpstreamError::unexpected(host_of(&request.url), reply.status, reason));
    }
    if !is_within {
        request.purpose = CallPurpose::Redirect;
    }
    request.target = reply.written_location();
    request.url = next;
    Ok(())
}

fn not_repeatable(transport: &UpstreamTransport, status: StatusCode) -> UpstreamError {
    let reason = "it redirects a body that cannot be sent again";
    UpstreamError::unexpected(transport.host.clone(), status, reason)
}
