//! Asking upstreams for a manifest.
//!
//! Asks and reads. Whether an answer is a manifest that can be served is decided in `by_digest`.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::access::Grant;
use crate::cache::epoch::EpochTable;
use crate::cache::question::{deadline, question_of};
use crate::cache::{CacheError, UpstreamWarnings};
use crate::oci::{Digest, MANIFEST_ACCEPT, MANIFEST_BYTES_MAX, MediaType, Reference, Resource};
use crate::upstream::{
    self, Answer, Question, ReadMethod, UpstreamIndex, is_of_manifest, stated_digest, stated_type,
};

/// A manifest as it came.
pub(in crate::cache) struct FetchedManifest {
    /// Its `Content-Type`.
    pub(in crate::cache) media_type: Option<MediaType>,
    /// Its digest by the upstream's header.
    pub(in crate::cache) stated: Option<Digest>,
    /// `None` when it is longer than a manifest may be.
    pub(in crate::cache) body: Option<Bytes>,
    pub(in crate::cache) place: UpstreamIndex,
    pub(in crate::cache) warnings: UpstreamWarnings,
}

/// An upstream's answer about a manifest, without its body.
#[derive(Clone, Debug)]
pub(in crate::cache) struct ManifestHead {
    /// Its `Content-Type`.
    pub(in crate::cache) media_type: Option<MediaType>,
    /// Its digest by the upstream's header; `None` of schema 1, whose digest is not that of its
    /// bytes.
    pub(in crate::cache) stated: Option<Digest>,
    pub(in crate::cache) place: UpstreamIndex,
    pub(in crate::cache) warnings: UpstreamWarnings,
}

/// Asks for the headers of a manifest, with the full `Accept` list or with this one, unless the
/// registry has just given them to confirm the client's right.
pub(in crate::cache) async fn head_manifest(
    grant: &Grant,
    reference: &Reference,
    accept: Option<&str>,
    epochs: &EpochTable,
) -> Result<ManifestHead, upstream::UpstreamError> {
    let question = manifest_question(grant, reference, ReadMethod::Head, accept);
    if accept.is_none()
        && let Some(head) = epochs.head_of(grant, &question.resource)
    {
        return Ok(ManifestHead::read(grant, &head.headers, head.place));
    }
    let answer = grant.registry().upstream().ask(&question, deadline()).await?;
    Ok(ManifestHead::read(grant, &answer.headers, answer.place))
}

impl ManifestHead {
    fn read(grant: &Grant, headers: &HeaderMap, place: UpstreamIndex) -> Self {
        let media_type = stated_type(headers);
        let is_schema1 = media_type.as_ref().is_some_and(MediaType::is_schema1);
        let stated = stated_digest(headers).filter(|_| !is_schema1);
        Self { media_type, stated, place, warnings: UpstreamWarnings::of(grant, headers) }
    }

    /// Whether it is about this manifest, and not some page.
    pub(in crate::cache) fn is_of(&self, reference: &Reference) -> bool {
        is_of_manifest(reference, self.stated.as_ref(), self.media_type.as_ref())
    }
}

/// Fetches a manifest. A body that breaks off is asked for again, and the upstreams that have
/// `failed` are asked last.
pub(in crate::cache) async fn get_manifest(
    grant: &Grant,
    reference: &Reference,
    accept: Option<&str>,
    failed: Vec<UpstreamIndex>,
) -> Result<FetchedManifest, CacheError> {
    let question = manifest_question(grant, reference, ReadMethod::Get, accept);
    let mut question = Question { failed, ..question };
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = grant.registry().upstream().ask(&question, deadline()).await?;
        let (media_type, stated) = (stated_type(&answer.headers), stated_digest(&answer.headers));
        let (place, warnings) = (answer.place, UpstreamWarnings::of(grant, &answer.headers));
        question.failed.push(place);
        match collect(answer).await {
            Ok(body) => return Ok(FetchedManifest { media_type, stated, body, place, warnings }),
            Err(error) if error.is_transient() && tries < BODY_TRIES_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A question for a manifest, with the full `Accept` list or with this one.
pub(in crate::cache) fn manifest_question(
    grant: &Grant,
    reference: &Reference,
    method: ReadMethod,
    accept: Option<&str>,
) -> Question {
    let accept = Some(accept.unwrap_or(MANIFEST_ACCEPT).to_owned());
    Question { accept, ..question_of(grant, method, Resource::Manifest(reference.clone())) }
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

/// How often a manifest whose body broke off is asked for.
const BODY_TRIES_MAX: usize = 3;
