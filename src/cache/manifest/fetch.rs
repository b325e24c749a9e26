//! Asking upstreams for a manifest.
//!
//! Asks and reads. What an answer is worth is decided where it was wanted.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;

use crate::access::Grant;
use crate::cache::mutable::tags::told_digest;
use crate::cache::question::{deadline, question_of};
use crate::cache::{CacheError, MANIFEST_BYTES_MAX, Shared};
use crate::oci::{Digest, MANIFEST_ACCEPT, MediaType, Reference, Resource};
use crate::upstream::{self, Answer, Question, ReadMethod, UpstreamIndex};

impl Shared {
    pub(in crate::cache) async fn ask_manifest(
        &self,
        grant: &Grant,
        reference: &Reference,
        method: ReadMethod,
        accept: Option<&str>,
    ) -> Result<Answer, upstream::UpstreamError> {
        let question = question(grant, reference, method, accept);
        grant.registry().upstream().ask(&question, deadline()).await
    }

    /// What the header says, and the body. A body that breaks off is asked for again, from those
    /// who have `failed` last.
    pub(in crate::cache) async fn get_manifest(
        &self,
        grant: &Grant,
        reference: &Reference,
        accept: Option<&str>,
        failed: Vec<UpstreamIndex>,
    ) -> Result<FetchedManifest, CacheError> {
        let mut question =
            Question { failed, ..question(grant, reference, ReadMethod::Get, accept) };
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = grant.registry().upstream().ask(&question, deadline()).await?;
            let (media_type, told) = (header_type(&answer), told_digest(&answer.headers));
            let place = answer.place;
            question.failed.push(place);
            match collect(answer).await {
                Ok(body) => return Ok(FetchedManifest { media_type, told, body, place }),
                Err(error) if error.is_transient() && tries < BODY_TRIES_MAX => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A manifest as it came.
pub(in crate::cache) struct FetchedManifest {
    pub(in crate::cache) media_type: Option<MediaType>,
    pub(in crate::cache) told: Option<Digest>,
    /// `None` when it is longer than a manifest may be.
    pub(in crate::cache) body: Option<Bytes>,
    pub(in crate::cache) place: UpstreamIndex,
}

pub(in crate::cache) fn question(
    grant: &Grant,
    reference: &Reference,
    method: ReadMethod,
    accept: Option<&str>,
) -> Question {
    let accept = Some(accept.unwrap_or(MANIFEST_ACCEPT).to_owned());
    Question { accept, ..question_of(grant, method, Resource::Manifest(reference.clone())) }
}

/// How often a manifest whose body broke off is asked for.
const BODY_TRIES_MAX: usize = 3;

pub(in crate::cache) fn header_type(answer: &Answer) -> Option<MediaType> {
    answer.headers.get(CONTENT_TYPE)?.to_str().ok()?.parse().ok()
}

/// The whole body; `None` when it is longer than a manifest may be.
async fn collect(mut answer: Answer) -> Result<Option<Bytes>, upstream::UpstreamError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.body.chunk().await? {
        if body.len() + chunk.len() > MANIFEST_BYTES_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}
