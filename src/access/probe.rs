//! Asks a registry, with a client's credential, whether the client may read in a repository.
//!
//! The question is a `HEAD` of the resource that the client asks for. A 200 confirms the right if
//! it is about that resource: login and maintenance pages answer 200 to everything. Lists are not
//! asked for themselves, because registries give them to other clients than those that may pull,
//! and any page may be one; the first tag of the list is asked for.
//!
//! The token is requested anew each time. Registries accept a token as long as it lives, whatever
//! has been revoked since, so an older one would confirm a right that is gone. How long an answer
//! is cached is decided in `rights.rs`.

use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::resource_head::ResourceHead;
use super::rights_query::RightsQuery;
use crate::oci::{Digest, MANIFEST_ACCEPT, Reference, Resource};
use crate::upstream::{Answer, Question, ReadMethod, UpstreamError};

/// When the probe began, and when it has to be over.
#[derive(Clone, Copy)]
struct ProbeTiming {
    begin: Instant,
    deadline: Instant,
}

/// Returns `Ok` if the registry has confirmed the right, with its answer if that is about the
/// resource itself.
///
/// # Errors
///
/// [`UpstreamError::NotFound`] or [`UpstreamError::Denied`] if it has not, and the others if it
/// could not be asked before `deadline`.
pub(super) async fn probe(
    query: RightsQuery<'_>,
    deadline: Instant,
) -> Result<Option<ResourceHead>, UpstreamError> {
    let timing = ProbeTiming { begin: Instant::now(), deadline };
    match query.resource {
        Resource::Blob(digest) => head_of_blob(query, digest, timing).await,
        Resource::Manifest(reference) => {
            let answer = head(query, reference, timing).await?;
            Ok(Some(ResourceHead::of(query.resource, answer, timing.begin)))
        }
        Resource::Referrers(digest) => {
            match head(query, &Reference::Digest(digest.clone()), timing).await {
                // Referrers may be pushed before their subject (distribution-spec, "Referrers").
                Err(UpstreamError::NotFound { .. }) => head_of_first_tag(query, timing).await?,
                other => drop(other?),
            }
            Ok(None)
        }
        Resource::Tags => {
            head_of_first_tag(query, timing).await?;
            Ok(None)
        }
        Resource::Upload(_) => {
            let host = query.registry.upstream().host().to_owned();
            Err(UpstreamError::NotFound { host, said: None, is_proven: true })
        }
    }
}

/// The storage of a blob is mostly another host, and states no digest but a length.
async fn head_of_blob(
    query: RightsQuery<'_>,
    digest: &Digest,
    timing: ProbeTiming,
) -> Result<Option<ResourceHead>, UpstreamError> {
    let answer = ask_head(query, query.resource, timing).await?;
    let RightsQuery { registry, repository, lengths, .. } = query;
    if answer.is_of_blob(digest, None)
        || answer.is_of_blob(digest, lengths.length(registry, repository, digest).await)
    {
        return Ok(Some(ResourceHead::of(query.resource, answer, timing.begin)));
    }
    // One that has a body holds the client's share of the upstream.
    drop(answer);
    head_of_first_tag(query, timing).await.map(|()| None)
}

async fn head(
    query: RightsQuery<'_>,
    reference: &Reference,
    timing: ProbeTiming,
) -> Result<Answer, UpstreamError> {
    let answer = ask_head(query, &Resource::Manifest(reference.clone()), timing).await?;
    // Another host was not shown the client's credential.
    if !answer.is_foreign && answer.is_of_manifest(reference) {
        return Ok(answer);
    }
    let reason = "it is not about the manifest that was asked for";
    Err(UpstreamError::unexpected(query.registry.upstream().host(), answer.status, reason))
}

async fn ask_head(
    query: RightsQuery<'_>,
    resource: &Resource,
    timing: ProbeTiming,
) -> Result<Answer, UpstreamError> {
    match ask(query, resource, ReadMethod::Head, "", timing).await {
        // Some registries have no HEAD. The body of the GET is not read.
        Err(error) if error.is_without_head() => {
            ask(query, resource, ReadMethod::Get, "", timing).await
        }
        other => other,
    }
}

async fn head_of_first_tag(
    query: RightsQuery<'_>,
    timing: ProbeTiming,
) -> Result<(), UpstreamError> {
    let host = || query.registry.upstream().host().to_owned();
    let answer = ask(query, &Resource::Tags, ReadMethod::Get, "n=1", timing).await?;
    let collected = timeout_at(timing.deadline, answer.body.collect(LIST_BYTES_MAX)).await;
    let body = collected.unwrap_or_else(|_| {
        Err(UpstreamError::Stalled { host: host(), waited: timing.begin.elapsed() })
    })?;
    let list: TagList = serde_json::from_slice(&body).unwrap_or_default();
    let first = list.tags.unwrap_or_default().into_iter().find_map(|tag| tag.parse().ok());
    let tag = first.ok_or_else(|| UpstreamError::NotFound {
        host: host(),
        said: None,
        is_proven: true,
    })?;
    head(query, &Reference::Tag(tag), timing).await.map(drop)
}

async fn ask(
    query: RightsQuery<'_>,
    resource: &Resource,
    method: ReadMethod,
    url_query: &str,
    timing: ProbeTiming,
) -> Result<Answer, UpstreamError> {
    let accept = matches!(resource, Resource::Manifest(_)).then(|| MANIFEST_ACCEPT.to_owned());
    let question = Question {
        query: url_query.to_owned(),
        accept,
        client: query.client.cloned(),
        token_since: Some(timing.begin),
        via: query.via.clone(),
        asker: Some(query.address),
        ..Question::new(method, query.repository.clone(), resource.clone())
    };
    query.registry.upstream().ask(&question, timing.deadline).await
}

/// The answer of distribution-spec, "Listing Tags". Some registries send `null` for an empty list.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TagList {
    tags: Option<Vec<String>>,
}

/// In bytes. Registries that do not know `n` send the whole list.
const LIST_BYTES_MAX: usize = 4 << 20;
