//! Finding out whether a host is back although no client asks.
//!
//! A breaker that has opened is closed by the answer to a request. On an idle Larder none comes,
//! and it would stay degraded for ever. So each opening starts a task that asks in place of a
//! client, ever less often and at most once a minute, until the host answers or the upstream is
//! gone. Nothing is asked for, and no credential goes along: `/v2/` of the upstream, and `/` of a
//! host to which it points. If that fails, no client has to wait longer for its own turn.

use std::sync::Weak;

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use url::Url;

use super::breaker::{OpenHook, OpenedHost, WAIT, WAIT_MAX};
use super::error::UpstreamError;
use super::payload::ChangePayload;
use super::request::UpstreamRequest;
use super::status::StatusClass;
use super::transport::{HEAD_WAIT, UpstreamTransport};

/// Starts a task for each breaker of `transport` that opens.
pub(super) fn hook(transport: Weak<UpstreamTransport>) -> OpenHook {
    Box::new(move |opened| {
        // A request may be dropped when its runtime has ended.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(probe(transport.clone(), opened));
        }
    })
}

async fn probe(transport: Weak<UpstreamTransport>, opened: OpenedHost) {
    let mut wait = WAIT;
    loop {
        // A client that asks as soon as it may comes first.
        sleep(wait.mul_f64(1.1 + 0.4 * fastrand::f64())).await;
        wait = (wait * 2).min(WAIT_MAX);
        let Some(transport) = transport.upgrade() else { return };
        if !transport.is_open_since(&opened) {
            return;
        }
        let Some(request) = request(&transport, &opened) else { return };
        let answer = timeout(HEAD_WAIT, transport.exchange(&request, ChangePayload::Empty, None));
        let error = answer.await.ok().and_then(Result::err);
        tracing::debug!(host = opened.host, error = error.map(|it| it.to_string()), "probed");
    }
}

/// Whether the upstream answers, with whatever status but a gateway's. Sent beside the requests of
/// clients, so that they cannot delay it.
pub(super) async fn answers(transport: &UpstreamTransport) -> bool {
    let request = UpstreamRequest::probe(transport.base.api_url());
    match transport.exchange(&request, ChangePayload::Empty, None).await {
        Ok(reply) => reply.class() != StatusClass::Gateway,
        Err(error) => matches!(error, UpstreamError::Throttled { .. }),
    }
}

fn request(transport: &UpstreamTransport, opened: &OpenedHost) -> Option<UpstreamRequest> {
    if opened.host == transport.host {
        return Some(UpstreamRequest::probe(transport.base.api_url()));
    }
    let url = Url::parse(&format!("{}://{}/", opened.scheme.as_str(), opened.host)).ok()?;
    Some(UpstreamRequest::probe(url))
}
