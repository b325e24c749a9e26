//! A registry that a redirect leads to, and that wants a token of its own.
//!
//! Vanity hosts redirect manifests and blobs to another registry, which gives a token to everyone.
//! It gets an anonymous one, never one that a credential was shown for. Which token server is asked
//! for it is decided by the same rules as for the upstream's own: on the upstream's domain, or in
//! `token_hosts`. Pushes are not led on like this.

use http::{HeaderValue, StatusCode};
use url::Url;

use super::challenge::{self, ChallengeOffer};
use super::error::UpstreamError;
use super::payload::ChangePayload;
use super::reply::UpstreamReply;
use super::request::{CallPurpose, UpstreamRequest};
use super::scope::TokenScope;
use super::token_fetcher::TokenFetcher;
use super::transport::UpstreamTransport;
use super::walk::follow;
use crate::oci::ApiCall;

/// Sends `request` and follows its redirects as [`follow`] does, past the login of the registry at
/// their end if it takes anonymous tokens.
///
/// # Errors
///
/// Those of [`follow`], and [`UpstreamError::Forbidden`] if the token server may not be asked.
pub(super) async fn follow_to_registry(
    transport: &UpstreamTransport,
    tokens: &TokenFetcher,
    request: &UpstreamRequest,
    payload: ChangePayload,
    authorization: Option<&HeaderValue>,
) -> Result<UpstreamReply, UpstreamError> {
    let mut reply = follow(transport, request, payload, authorization).await?;
    let Some(ChallengeOffer::Bearer { realm, service }) = challenge_of(request, &reply) else {
        return Ok(reply);
    };
    let realm = tokens.realm(&realm)?;
    let scope = scope_at(&reply.url, &request.scope);
    let there = UpstreamRequest {
        url: reply.url.clone(),
        purpose: CallPurpose::Redirect,
        ..request.clone()
    };
    loop {
        // Waiting for another permit while holding one could deadlock.
        reply.close();
        let held = tokens.obtain(&realm, service.as_deref(), &scope, None).await;
        let held = held.map_err(outage)?;
        let header = held.token.header();
        reply = follow(transport, &there, ChangePayload::Empty, header.as_ref()).await?;
        if held.is_fresh || reply.status != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        tokens.discard(&held);
    }
}

/// The challenge of the host that a redirect of a read has led to.
fn challenge_of(request: &UpstreamRequest, reply: &UpstreamReply) -> Option<ChallengeOffer> {
    let wants_login = reply.is_foreign && reply.status == StatusCode::UNAUTHORIZED;
    (wants_login && !request.is_change()).then(|| challenge::read(&reply.headers))?
}

/// To read what is at `url`, by the name that it has there.
fn scope_at(url: &Url, asked: &TokenScope) -> TokenScope {
    let call = url.path().split_once("/v2/").map(|(_, rest)| ApiCall::parse(&format!("/{rest}")));
    let texts = match call {
        Some(Ok(ApiCall::In(name, _))) => TokenScope::pull(name.as_str()).texts,
        _ => asked.texts.clone(),
    };
    TokenScope { client: None, asker: asked.asker, texts, need: asked.need }
}

/// The token server's refusal, which says nothing about the repository at the upstream.
fn outage(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Denied { host, status, .. } => {
            UpstreamError::unexpected(host, status, "as a token server: to an anonymous request")
        }
        error => error,
    }
}
