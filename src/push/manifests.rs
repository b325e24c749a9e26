//! Manifests put and deleted, and blobs deleted.
//!
//! A manifest is held whole before it is sent on: it is small, it has to be hashed, and so it can be
//! sent again when the upstream wants another token.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};

use super::answer::{Answer, Place};
use super::uploads::{change, refused, send};
use super::{Error, Push};
use crate::access::Grant;
use crate::cache::MANIFEST_BYTES_MAX;
use crate::http::{CollectError, Received};
use crate::oci::{Algorithm, Digest, Reference, Resource, Tag};
use crate::upstream::{Payload, Target};

/// A manifest to be put.
#[derive(Clone, Debug)]
pub struct Put {
    /// By what.
    pub reference: Reference,
    /// The tags that it gets besides, where it is put by its digest.
    pub tags: Vec<Tag>,
    /// Its `Content-Type`, as the client wrote it.
    pub media_type: Option<HeaderValue>,
}

impl Push {
    /// PUT of a manifest.
    pub async fn put_manifest(
        &self,
        grant: &Grant,
        put: Put,
        received: Received,
    ) -> Result<Answer, Error> {
        let body = received.collect(MANIFEST_BYTES_MAX).await.map_err(|error| match error {
            CollectError::Broken(error) => Error::Body(error),
            CollectError::TooLong { max } => Error::TooLong { max: max as u64 },
        })?;
        let algorithm = match &put.reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let digest = Digest::of(algorithm, &body);
        let target = Target::Resource(Resource::Manifest(put.reference.clone()));
        let mut change = change(grant, Method::PUT, target, Payload::Small(body));
        match put.media_type {
            Some(media_type) => change.headers.insert(CONTENT_TYPE, media_type),
            None => change.headers.remove(CONTENT_TYPE),
        };
        // Tags hold no character that a query would have to escape.
        let tags: Vec<_> = put.tags.iter().map(|tag| format!("tag={tag}")).collect();
        change.query = tags.join("&");
        let said = send(grant, change).await?;
        if said.status != StatusCode::CREATED {
            return refused(said);
        }
        let place = Place::Manifest(Reference::Digest(digest.clone()));
        Ok(Answer::of(said).about(&digest).at(place))
    }

    /// DELETE of a manifest, a tag or a blob.
    pub async fn delete(&self, grant: &Grant, resource: Resource) -> Result<Answer, Error> {
        let target = Target::Resource(resource);
        let said = send(grant, change(grant, Method::DELETE, target, Payload::Empty)).await?;
        if said.status.is_success() { Ok(Answer::of(said)) } else { refused(said) }
    }
}
