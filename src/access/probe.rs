//! Asks a registry, with a client's credential, whether the client may read in a repository.
//!
//! What the client asks for is what is asked after: if it is there for the client, the right is
//! confirmed. Lists are not asked after themselves, for registries give them to others than those who
//! may pull; the first tag of the list is.
//!
//! The token that is shown is asked for anew. Registries believe one as long as it lives, whatever has
//! been taken back since, so one from before would confirm what was and not what is.

use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::rights::RightsQuery;
use crate::oci::{MANIFEST_ACCEPT, Reference, Resource};
use crate::upstream::{Answer, Question, ReadMethod, UpstreamError};

/// Between which instants all of it happens.
#[derive(Clone, Copy)]
struct ProbeTiming {
    begin: Instant,
    deadline: Instant,
}

/// Returns when the registry has confirmed it.
pub(super) async fn probe(wish: RightsQuery<'_>, deadline: Instant) -> Result<(), UpstreamError> {
    let span = ProbeTiming { begin: Instant::now(), deadline };
    match wish.resource {
        Resource::Blob(_) | Resource::Manifest(_) => head(wish, wish.resource, span).await,
        Resource::Referrers(digest) => {
            let subject = Resource::Manifest(Reference::Digest(digest.clone()));
            match head(wish, &subject, span).await {
                // Referrers may be there before what they refer to.
                Err(UpstreamError::NotFound { .. }) => head_of_first_tag(wish, span).await,
                other => other,
            }
        }
        Resource::Tags => head_of_first_tag(wish, span).await,
        Resource::Upload(_) => {
            let host = wish.registry.upstream().host().to_owned();
            Err(UpstreamError::NotFound { host, said: None })
        }
    }
}

async fn head(
    wish: RightsQuery<'_>,
    resource: &Resource,
    span: ProbeTiming,
) -> Result<(), UpstreamError> {
    match ask(wish, resource, ReadMethod::Head, "", span).await {
        // The GET's headers say the same; its body is not read.
        Err(error) if error.is_without_head() => {
            ask(wish, resource, ReadMethod::Get, "", span).await.map(drop)
        }
        other => other.map(drop),
    }
}

async fn head_of_first_tag(wish: RightsQuery<'_>, span: ProbeTiming) -> Result<(), UpstreamError> {
    let host = || wish.registry.upstream().host().to_owned();
    let answer = ask(wish, &Resource::Tags, ReadMethod::Get, "n=1", span).await?;
    let collected = timeout_at(span.deadline, answer.body.collect(LIST_BYTES_MAX)).await;
    let body = collected.unwrap_or_else(|_| {
        let reason = "its list of tags does not end".to_owned();
        Err(UpstreamError::Unreachable { host: host(), reason })
    })?;
    let list: TagList = serde_json::from_slice(&body).unwrap_or_default();
    let first = list.tags.unwrap_or_default().into_iter().find_map(|tag| tag.parse().ok());
    let tag = first.ok_or_else(|| UpstreamError::NotFound { host: host(), said: None })?;
    head(wish, &Resource::Manifest(Reference::Tag(tag)), span).await
}

async fn ask(
    wish: RightsQuery<'_>,
    resource: &Resource,
    method: ReadMethod,
    query: &str,
    span: ProbeTiming,
) -> Result<Answer, UpstreamError> {
    let accept = matches!(resource, Resource::Manifest(_)).then(|| MANIFEST_ACCEPT.to_owned());
    let question = Question {
        query: query.to_owned(),
        accept,
        client: wish.client.cloned(),
        token_since: Some(span.begin),
        via: wish.via.clone(),
        ..Question::new(method, wish.repository.clone(), resource.clone())
    };
    wish.registry.upstream().ask(&question, span.deadline).await
}

/// distribution-spec, "Listing Tags". Some registries say `null` for none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TagList {
    tags: Option<Vec<String>>,
}

/// Registries that do not know `n` send the whole list.
const LIST_BYTES_MAX: usize = 4 << 20;
