//! Requests that change something: uploads, manifests put, and what is deleted.
//!
//! What the protocol writes in a query or a header is read here, and the answer gets its `Location`:
//! a path that leads in by the door that the client came by.

use http::Method;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};

use super::door::ClientPath;
use super::reply::RouteReply;
use super::sources::MountSources;
use crate::access::{Grant, Principal};
use crate::http::RequestBody;
use crate::oci::{Algorithm, Digest, ErrorCode, Reference, Resource, Tag};
use crate::push::{
    ContentLocation, ManifestPut, MountRequest, PushAnswer, PushCaller, PushError, PushService,
    UploadPart, UploadStart,
};

/// A request that changes something.
pub(super) struct PushRequest<'a> {
    pub(super) push: &'a PushService,
    pub(super) grant: &'a Grant,
    pub(super) principal: &'a Principal,
    pub(super) presented: &'a ClientPath,
    pub(super) head: &'a http::request::Parts,
    pub(super) sources: MountSources<'a>,
}

impl PushRequest<'_> {
    /// Answers it.
    pub(super) async fn answer(self, resource: &Resource, body: RequestBody) -> RouteReply {
        match self.pushed(resource, body).await {
            Ok(answer) => {
                if matches!(
                    answer.place,
                    Some(ContentLocation::Blob(_) | ContentLocation::Manifest(_))
                ) {
                    self.sources.entrance.access.pushed(self.grant);
                }
                self.presented(answer)
            }
            Err(error) => {
                let is_manifest = matches!(resource, Resource::Manifest(_));
                let invalid = if is_manifest {
                    ErrorCode::ManifestInvalid
                } else {
                    ErrorCode::BlobUploadInvalid
                };
                RouteReply::not_pushed(&error, invalid)
            }
        }
    }

    async fn pushed(
        &self,
        resource: &Resource,
        body: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let Self { push, grant, .. } = *self;
        let door = self.presented.repository_path();
        let principal = self.principal.label();
        let caller = PushCaller { door: &door, principal: &principal };
        match (&self.head.method, resource) {
            (&Method::POST, Resource::Upload(None)) => match self.mount().await? {
                Some(mount) => push.mount(grant, caller, mount).await,
                None => push.begin(grant, caller, self.begin()?, body).await,
            },
            (&Method::PATCH, Resource::Upload(Some(id))) => {
                push.append(grant, caller, id, self.part()?, body).await
            }
            (&Method::PUT, Resource::Upload(Some(id))) => {
                let digest = self.digest("digest")?;
                let digest = digest.ok_or(PushError::Digest("`digest` is missing"))?;
                push.finish(grant, caller, id, (digest, self.part()?), body).await
            }
            (&Method::GET, Resource::Upload(Some(id))) => push.status(grant, caller, id).await,
            (&Method::DELETE, Resource::Upload(Some(id))) => push.cancel(grant, caller, id).await,
            (&Method::PUT, Resource::Manifest(reference)) => {
                push.put_manifest(grant, self.put(reference)?, body).await
            }
            (&Method::DELETE, what @ (Resource::Manifest(_) | Resource::Blob(_))) => {
                push.delete(grant, what.clone()).await
            }
            _ => Err(PushError::Invalid("the protocol has no such method here")),
        }
    }

    fn begin(&self) -> Result<UploadStart, PushError> {
        let algorithm = match self.argument("digest-algorithm")?.as_deref() {
            None => None,
            Some("sha256") => Some(Algorithm::Sha256),
            Some("sha512") => Some(Algorithm::Sha512),
            Some(_) => {
                return Err(PushError::Digest("`digest-algorithm` is neither sha256 nor sha512"));
            }
        };
        Ok(UploadStart { digest: self.digest("digest")?, algorithm })
    }

    /// The blob that is to be mounted, and where the client may read it.
    async fn mount(&self) -> Result<Option<MountRequest>, PushError> {
        let Some(digest) = self.digest("mount")? else { return Ok(None) };
        let from = self.sources.named().await;
        let others = self.sources.known(&digest).await;
        // The registry knows nothing of what another one has.
        let anywhere = self.argument("from")?.is_none();
        Ok(Some(MountRequest { digest, from, others, anywhere }))
    }

    fn put(&self, reference: &Reference) -> Result<ManifestPut, PushError> {
        let tags = self.arguments("tag").map(|tag| tag.parse::<Tag>());
        let tags: Vec<Tag> = tags
            .take(TAGS_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| PushError::Invalid("a `tag` is none"))?;
        if tags.len() > TAGS_MAX {
            return Err(PushError::Invalid("there are more than 64 tags"));
        }
        if !tags.is_empty() && !matches!(reference, Reference::Digest(_)) {
            return Err(PushError::Invalid(
                "`tag` stands only where a manifest is put by its digest",
            ));
        }
        let media_type = self.head.headers.get(CONTENT_TYPE).cloned();
        Ok(ManifestPut { reference: reference.clone(), tags, media_type })
    }

    /// `Content-Range: a-b`, without a unit (distribution-spec, "Pushing a blob in chunks").
    fn part(&self) -> Result<Option<UploadPart>, PushError> {
        let mut lines = self.head.headers.get_all(CONTENT_RANGE).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        let malformed = || PushError::Invalid("`Content-Range` is not `<first>-<last>`");
        if lines.next().is_some() {
            return Err(malformed());
        }
        let (first, last) =
            line.to_str().ok().and_then(|text| text.split_once('-')).ok_or_else(malformed)?;
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_number {
                text.parse().map_err(|_| PushError::Range("no blob is that long"))
            } else {
                Err(malformed())
            }
        };
        Ok(Some(UploadPart { first: number(first)?, last: number(last)? }))
    }

    fn digest(&self, name: &str) -> Result<Option<Digest>, PushError> {
        let text = self.argument(name)?;
        let digest = text.map(|text| text.parse()).transpose();
        digest.map_err(|_| PushError::Digest("a digest is not one of sha256 or sha512"))
    }

    /// The one value of an argument. containerd adds what is there already.
    fn argument(&self, name: &str) -> Result<Option<String>, PushError> {
        let mut values = self.arguments(name);
        let first = values.next();
        if values.any(|value| Some(&value) != first.as_ref()) {
            return Err(PushError::Digest("an argument is given twice, with two values"));
        }
        Ok(first)
    }

    fn arguments<'s>(&'s self, name: &'s str) -> impl Iterator<Item = String> + use<'s> {
        let query = self.head.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The answer, with its `Location` as this client reaches it.
    fn presented(&self, answer: PushAnswer) -> RouteReply {
        let location = answer.place.as_ref().map(|place| match place {
            ContentLocation::Blob(digest) => self.presented.link(&format!("blobs/{digest}"), ""),
            ContentLocation::Manifest(reference) => {
                self.presented.link(&format!("manifests/{reference}"), "")
            }
            ContentLocation::Upload(id) => self.presented.link(&format!("blobs/uploads/{id}"), ""),
        });
        let absent = if self.head.uri.path().contains("/manifests/") {
            ErrorCode::ManifestUnknown
        } else {
            ErrorCode::BlobUploadUnknown
        };
        RouteReply::pushed(answer, location.as_deref(), absent)
    }
}

/// How many tags one request may give: the specification asks for ten at least.
const TAGS_MAX: usize = 64;
