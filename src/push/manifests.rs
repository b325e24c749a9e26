//! Puts and deletes manifests, and deletes tags and blobs (distribution-spec, "Pushing Manifests"
//! and "Content Management").
//!
//! A manifest is held in memory before it is sent on: it is at most 4 MiB, it must be hashed, and
//! so it can be sent again when the upstream wants another token. How much of that memory a client
//! may take is decided in `shares.rs`. The upstream alone decides whether a manifest is valid.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::answer::{ContentLocation, PushAnswer};
use super::calls::{change, refused, send};
use super::confirm::{SentContent, has_taken, is_gone};
use super::shares::PushShares;
use super::{PushCaller, PushError};
use crate::access::Grant;
use crate::cache::{Cache, Epoch};
use crate::http::{CollectError, RequestBody};
use crate::oci::{Algorithm, MANIFEST_BYTES_MAX, MediaType, Reference, Resource, Tag};
use crate::store::VerifiedContent;
use crate::upstream::{ChangeCall, ChangePayload, ChangeTarget, UpstreamReply};

/// A manifest to put.
#[derive(Clone, Debug)]
pub struct ManifestPut {
    /// The tag or digest in the path.
    pub reference: Reference,
    /// More tags for it, where it is put by digest.
    pub tags: Vec<Tag>,
    /// Its `Content-Type`, as the client sent it.
    pub media_type: Option<HeaderValue>,
}

/// Puts and deletes manifests, and deletes tags and blobs.
#[derive(Debug)]
pub struct ManifestPushes {
    pub(super) cache: Cache,
    pub(super) shares: Arc<PushShares>,
}

/// A manifest that the upstream has taken, for the cache.
struct TakenManifest {
    verified: VerifiedContent<Bytes>,
    media_type: Option<MediaType>,
    /// The tags that mean it now.
    tags: Vec<Tag>,
    asked: Epoch,
}

impl ManifestPushes {
    /// PUT of a manifest.
    ///
    /// # Errors
    ///
    /// [`PushError::TooLong`] for more than 4 MiB, [`PushError::Body`] if the body is cut,
    /// [`PushError::Busy`] if clients put too much at once, and [`PushError::Upstream`] if the
    /// upstream gave no usable answer.
    pub async fn put(
        &self,
        caller: PushCaller<'_>,
        put: ManifestPut,
        body: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let grant = caller.grant;
        if grant.uses_client_credential() {
            let change = call_of(grant, &put, Bytes::new());
            grant.registry().upstream().authoritative().prepare(change).await?;
        }
        let _room = self.shares.for_manifest(caller, &body).await?;
        let verified = self.receive(&put.reference, body).await?;
        let (digest, body) = (verified.digest().clone(), verified.content().clone());
        let asked = self.cache.changes().epoch();
        let response = send(grant, call_of(grant, &put, body.clone())).await?;
        let sent = SentContent { digest: &digest, length: body.len() as u64 };
        if !has_taken(grant, &response, Resource::Manifest(put.reference.clone()), sent).await {
            if response.status.is_success() && !grant.uses_client_credential() {
                // The tag may mean another manifest now, or the same.
                self.cache.changes().tags_changed(grant, &tags_of(&put, &response)).await;
            }
            // Perhaps content is missing that was reported to exist.
            if is_about_content(grant, &response) {
                self.cache.changes().manifest_refused(grant, body).await;
            }
            return refused(response);
        }
        let media_type = put.media_type.as_ref().and_then(|text| text.to_str().ok()?.parse().ok());
        let tags = tags_of(&put, &response);
        let taken = TakenManifest { verified, media_type, tags, asked };
        self.keep(grant, taken).await;
        let location = ContentLocation::Manifest(Reference::Digest(digest.clone()));
        Ok(PushAnswer::of(response).about(&digest).at(location))
    }

    /// Receives all of a manifest, and hashes it.
    async fn receive(
        &self,
        reference: &Reference,
        body: RequestBody,
    ) -> Result<VerifiedContent<Bytes>, PushError> {
        let body = body.collect(MANIFEST_BYTES_MAX).await.map_err(|error| match error {
            CollectError::Broken(error) => PushError::Body(error),
            CollectError::TooLong { max } => PushError::TooLong { max: max as u64 },
        })?;
        let algorithm = match reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let (documents, length) = (self.cache.changes().documents(), body.len());
        let hashed = documents.read(length, move || VerifiedContent::hash(algorithm, body)).await;
        hashed.map_err(|_| PushError::Internal("the manifest was not hashed"))
    }

    /// Stores a manifest that the upstream has taken, before the client reads that it has.
    async fn keep(&self, grant: &Grant, taken: TakenManifest) {
        let TakenManifest { verified, media_type, tags, asked } = taken;
        let changes = self.cache.changes();
        // The digest of a schema 1 manifest is not the hash of its bytes.
        if media_type.as_ref().is_some_and(MediaType::is_schema1) {
            return changes.tags_changed(grant, &tags).await;
        }
        let digest = verified.digest().clone();
        // A manifest that Larder would not serve is left to the registry.
        if let Err(error) = changes.manifest_pushed(grant, media_type, verified, &tags, asked).await
        {
            tracing::debug!(%digest, %error, "a pushed manifest is not cached");
        }
    }

    /// DELETE of a manifest, a tag or a blob.
    ///
    /// # Errors
    ///
    /// [`PushError::Upstream`] if the upstream gave no usable answer.
    pub async fn delete(&self, grant: &Grant, resource: Resource) -> Result<PushAnswer, PushError> {
        let target = ChangeTarget::Resource(resource.clone());
        let change = change(grant, Method::DELETE, target, ChangePayload::Empty);
        let response = send(grant, change).await?;
        let is_success = response.status.is_success();
        let is_absent = response.status == StatusCode::NOT_FOUND;
        // Content that is gone upstream must not be served either.
        if is_success || is_absent && is_gone(grant, resource.clone()).await {
            let changes = self.cache.changes();
            match resource {
                Resource::Blob(digest) => changes.blob_deleted(grant, &digest).await,
                Resource::Manifest(Reference::Digest(digest)) => {
                    changes.manifest_deleted(grant, &digest).await;
                }
                Resource::Manifest(Reference::Tag(tag)) => {
                    changes.tags_changed(grant, &[tag]).await;
                }
                Resource::Referrers(_) | Resource::Tags | Resource::Upload(_) => {}
            }
        }
        if is_success { Ok(PushAnswer::of(response)) } else { refused(response) }
    }
}

/// The call that puts a manifest.
fn call_of(grant: &Grant, put: &ManifestPut, body: Bytes) -> ChangeCall {
    let target = ChangeTarget::Resource(Resource::Manifest(put.reference.clone()));
    let mut change = change(grant, Method::PUT, target, ChangePayload::Small(body));
    match &put.media_type {
        Some(media_type) => change.headers.insert(CONTENT_TYPE, media_type.clone()),
        None => change.headers.remove(CONTENT_TYPE),
    };
    // Tags have no character that a query must escape.
    let tags: Vec<_> = put.tags.iter().map(|tag| format!("tag={tag}")).collect();
    change.query = tags.join("&");
    change
}

/// The tags that mean the manifest now: the one in the path, or those of the query that the
/// upstream says it has set (`OCI-Tag`).
fn tags_of(put: &ManifestPut, response: &UpstreamReply) -> Vec<Tag> {
    if let Reference::Tag(tag) = &put.reference {
        return vec![tag.clone()];
    }
    let lines = response.headers.get_all(OCI_TAG).into_iter().filter_map(|line| line.to_str().ok());
    let taken: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    put.tags.iter().filter(|tag| taken.contains(&tag.as_str())).cloned().collect()
}

/// Whether a refusal may be about the content of a manifest, and not about the client or its rate.
/// To a client whose right the registry decides on, the status alone says nothing: the registry may
/// answer 404 to hide the repository.
fn is_about_content(grant: &Grant, refusal: &UpstreamReply) -> bool {
    let is_status = matches!(
        refusal.status,
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY
    );
    is_status && (!grant.uses_client_credential() || refusal.has_code(&CONTENT_CODES))
}

/// The codes of distribution-spec, "Error Codes", for a manifest that was read and refused.
const CONTENT_CODES: [&str; 3] = ["BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID"];

const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
