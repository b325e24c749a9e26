//! Manifests put and deleted, and blobs deleted.
//!
//! A manifest is held whole before it is sent on: it is small, it has to be hashed, and so it can
//! be sent again when the upstream wants another token.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::answer::{ContentLocation, PushAnswer};
use super::uploads::{change, refused, send};
use super::{PushError, PushService};
use crate::access::Grant;
use crate::cache::{Epoch, MANIFEST_BYTES_MAX, MutableRecord};
use crate::http::{CollectError, RequestBody};
use crate::oci::{Algorithm, Digest, MediaType, Reference, Resource, Tag};
use crate::store::VerifiedContent;
use crate::upstream::{ChangePayload, ChangeTarget, UpstreamReply};

/// A manifest to be put.
#[derive(Clone, Debug)]
pub struct ManifestPut {
    /// By what.
    pub reference: Reference,
    /// The tags that it gets besides, where it is put by its digest.
    pub tags: Vec<Tag>,
    /// Its `Content-Type`, as the client wrote it.
    pub media_type: Option<HeaderValue>,
}

impl PushService {
    /// PUT of a manifest.
    pub async fn put_manifest(
        &self,
        grant: &Grant,
        put: ManifestPut,
        received: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let body = received.collect(MANIFEST_BYTES_MAX).await.map_err(|error| match error {
            CollectError::Broken(error) => PushError::Body(error),
            CollectError::TooLong { max } => PushError::TooLong { max: max as u64 },
        })?;
        let algorithm = match &put.reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let digest = Digest::of(algorithm, &body);
        let target = ChangeTarget::Resource(Resource::Manifest(put.reference.clone()));
        let mut change = change(grant, Method::PUT, target, ChangePayload::Small(body.clone()));
        let media_type = put.media_type.as_ref().and_then(|text| text.to_str().ok()?.parse().ok());
        match &put.media_type {
            Some(media_type) => change.headers.insert(CONTENT_TYPE, media_type.clone()),
            None => change.headers.remove(CONTENT_TYPE),
        };
        // Tags hold no character that a query would have to escape.
        let tags: Vec<_> = put.tags.iter().map(|tag| format!("tag={tag}")).collect();
        change.query = tags.join("&");
        let since = self.shared.cache.epoch();
        let said = send(grant, change).await?;
        if said.status != StatusCode::CREATED {
            // Whatever is wrong with it may be that something is missing that was claimed to be
            // there.
            if is_about_content(said.status) {
                self.shared.cache.manifest_refused(grant, &body).await;
            }
            return refused(said);
        }
        self.keep(grant, media_type, (&digest, body), (&tags_of(&put, &said), since)).await;
        let place = ContentLocation::Manifest(Reference::Digest(digest.clone()));
        Ok(PushAnswer::of(said).about(&digest).at(place))
    }

    /// Before the client hears that the registry has it, the cache does.
    async fn keep(
        &self,
        grant: &Grant,
        media_type: Option<MediaType>,
        (digest, body): (&Digest, Bytes),
        (tags, since): (&[Tag], Epoch),
    ) {
        let cache = &self.shared.cache;
        let tags_changed: Vec<_> = tags.iter().cloned().map(MutableRecord::Tag).collect();
        // The digest of a schema 1 manifest is not over its bytes.
        let is_schema1 = media_type.as_ref().is_some_and(MediaType::is_schema1);
        let verified = VerifiedContent::check(digest, body).ok().filter(|_| !is_schema1);
        let Some(verified) = verified else {
            cache.raise(grant, &[&tags_changed[..], &[MutableRecord::Lists]].concat()).await;
            return;
        };
        match cache.pushed(grant, media_type, verified, tags, since).await {
            Ok(()) => cache.manifest_pushed(grant, digest, since).await,
            // What nobody could be served is the registry's to serve.
            Err(error) => tracing::debug!(%digest, %error, "a pushed manifest is not kept"),
        }
    }

    /// DELETE of a manifest, a tag or a blob.
    pub async fn delete(&self, grant: &Grant, resource: Resource) -> Result<PushAnswer, PushError> {
        let target = ChangeTarget::Resource(resource.clone());
        let said = send(grant, change(grant, Method::DELETE, target, ChangePayload::Empty)).await?;
        let cache = &self.shared.cache;
        match (said.status, resource) {
            // What is not there any more is not to be served either.
            (status, resource) if status.is_success() || status == StatusCode::NOT_FOUND => {
                match resource {
                    Resource::Blob(digest) => cache.blob_deleted(grant, &digest).await,
                    Resource::Manifest(Reference::Digest(digest)) => {
                        cache.manifest_deleted(grant, &digest).await;
                    }
                    Resource::Manifest(Reference::Tag(tag)) => cache.tag_deleted(grant, &tag).await,
                    Resource::Referrers(_) | Resource::Tags | Resource::Upload(_) => {}
                }
                if status.is_success() { Ok(PushAnswer::of(said)) } else { refused(said) }
            }
            _ => refused(said),
        }
    }
}

/// The tags that mean the manifest now: of those in a query, the ones that the registry says it
/// took.
fn tags_of(put: &ManifestPut, said: &UpstreamReply) -> Vec<Tag> {
    if let Reference::Tag(tag) = &put.reference {
        return vec![tag.clone()];
    }
    let lines = said.headers.get_all(OCI_TAG).into_iter().filter_map(|line| line.to_str().ok());
    let taken: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    put.tags.iter().filter(|tag| taken.contains(&tag.as_str())).cloned().collect()
}

/// Whether a refusal may be about what a manifest lists, and not about who puts it or how often.
fn is_about_content(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY
    )
}

const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
