//! Whether the registry has what it was sent, or has lost what it was to delete, where its answer
//! alone does not say so.
//!
//! Some registries answer a push with 200, 202 or 204 in place of 201, and so does a login page.
//! The registry is asked for the content, and has it if the answer names the digest, or its length
//! where it has no digest.

use std::time::Duration;

use http::StatusCode;
use http::header::CONTENT_LENGTH;
use tokio::time::{Instant, sleep};

use super::answer::CONTENT_DIGEST;
use crate::access::Grant;
use crate::oci::{Digest, MANIFEST_ACCEPT, Reference, Resource};
use crate::upstream::{Answer, Question, ReadMethod, UpstreamError, UpstreamReply};

/// Content that was sent to a registry.
#[derive(Clone, Copy)]
pub(super) struct SentContent<'c> {
    pub(super) digest: &'c Digest,
    /// In bytes.
    pub(super) length: u64,
}

/// Whether `response` to a request that sends content means that the registry has it as `resource`.
pub(super) async fn has_taken(
    grant: &Grant,
    response: &UpstreamReply,
    resource: Resource,
    sent: SentContent<'_>,
) -> bool {
    match response.status {
        StatusCode::CREATED => true,
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
            response.is_body_sent && is_there(grant, resource, sent).await
        }
        _ => false,
    }
}

/// Whether the 404 with which the registry answered a deletion means that `resource` is gone. A
/// client whose right the registry decides on may get it for content that it must not know of, or
/// must not delete: then nothing is gone, unless the client may read here and finds nothing.
pub(super) async fn is_gone(grant: &Grant, resource: Resource) -> bool {
    if !grant.uses_client_credential() {
        return true;
    }
    let (question, deadline) = (head_of(grant, resource), Instant::now() + WAIT_MAX);
    grant.is_of_reader() && {
        let found = grant.registry().upstream().authoritative().ask(&question, deadline).await;
        matches!(found, Err(UpstreamError::NotFound { is_proven: true, .. }))
    }
}

fn head_of(grant: &Grant, resource: Resource) -> Question {
    Question {
        accept: matches!(resource, Resource::Manifest(_)).then(|| MANIFEST_ACCEPT.to_owned()),
        client: grant.client().cloned(),
        via: grant.via().clone(),
        asker: Some(grant.address()),
        ..Question::new(ReadMethod::Head, grant.repository().clone(), resource)
    }
}

async fn is_there(grant: &Grant, resource: Resource, sent: SentContent<'_>) -> bool {
    let is_tag = matches!(resource, Resource::Manifest(Reference::Tag(_)));
    let question = head_of(grant, resource);
    let deadline = Instant::now() + WAIT_MAX;
    for pause in PAUSES {
        sleep(pause).await;
        match grant.registry().upstream().authoritative().ask(&question, deadline).await {
            Ok(answer) if names(&answer, sent, is_tag) => return true,
            Ok(_) | Err(UpstreamError::NotFound { .. }) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Whether an answer is about this content. A tag may be another manifest of the same length, and
/// any empty answer has the length of an empty blob.
fn names(answer: &Answer, sent: SentContent<'_>, is_tag: bool) -> bool {
    match answer.headers.get(CONTENT_DIGEST) {
        Some(stated) => *stated == sent.digest.as_str(),
        None if is_tag || sent.length == 0 => false,
        None => answer.headers.get(CONTENT_LENGTH).is_some_and(|it| *it == sent.length.to_string()),
    }
}

/// Before each question: a registry that answers 202 may not be done yet.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(250), Duration::from_secs(1)];

/// How long the questions may take together; clients wait for the end of a push for longer.
const WAIT_MAX: Duration = Duration::from_secs(15);
