//! Answers requests that change something: uploads, manifests that are put, and deletions
//! (distribution-spec, "Push" and "Content Management").
//!
//! Parses the query and the headers, and writes the `Location` of the answer: a path through the
//! client's own door. How a push is sent on is decided in `push`.

use http::Method;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};

use super::door::ClientPath;
use super::error::{RequestError, code_of_status};
use super::reply::RouteReply;
use super::sources::MountSources;
use crate::http::RequestBody;
use crate::oci::{Algorithm, Digest, ErrorCode, Reference, Resource, Tag};
use crate::push::{
    ContentLocation, ManifestPut, MountRequest, PushAnswer, PushCaller, PushError, PushService,
    UploadPart, UploadStart,
};

/// A request that changes something.
pub(super) struct PushRequest<'a> {
    pub(super) push: &'a PushService,
    pub(super) client_path: &'a ClientPath,
    pub(super) sources: MountSources<'a>,
}

impl PushRequest<'_> {
    /// Answers the request.
    pub(super) async fn answer(
        self,
        resource: &Resource,
        body: RequestBody,
    ) -> Result<RouteReply, RequestError> {
        let invalid = match resource {
            Resource::Manifest(_) => ErrorCode::ManifestInvalid,
            _ => ErrorCode::BlobUploadInvalid,
        };
        let failed = |error| RequestError::Push { error, invalid };
        let answer = self.send(resource, body).await.map_err(failed)?;
        let is_content = |at: &ContentLocation| !matches!(at, ContentLocation::Upload(_));
        if answer.place.as_ref().is_some_and(is_content) {
            self.sources.entrance.access.note_push(self.sources.grant);
        }
        Ok(self.reply(answer))
    }

    async fn send(&self, resource: &Resource, body: RequestBody) -> Result<PushAnswer, PushError> {
        let Self { push, client_path, sources } = *self;
        let grant = sources.grant;
        let door = client_path.repository_path();
        let principal = sources.principal.label();
        let caller =
            PushCaller { grant, door: &door, principal: &principal, address: sources.peer.address };
        let uploads = push.uploads();
        match (&sources.head.method, resource) {
            (&Method::POST, Resource::Upload(None)) => match self.mount().await? {
                Some(mount) => push.mounts().mount(caller, mount).await,
                None => uploads.begin(caller, self.start()?, body).await,
            },
            (&Method::PATCH, Resource::Upload(Some(id))) => {
                uploads.append(caller, id, self.part()?, body).await
            }
            (&Method::PUT, Resource::Upload(Some(id))) => {
                let digest = self.digest("digest")?;
                let digest = digest.ok_or(PushError::Digest("`digest` is missing"))?;
                uploads.finish(caller, id, digest, self.part()?, body).await
            }
            (&Method::GET, Resource::Upload(Some(id))) => uploads.status(caller, id).await,
            (&Method::DELETE, Resource::Upload(Some(id))) => uploads.cancel(caller, id).await,
            (&Method::PUT, Resource::Manifest(reference)) => {
                push.manifests().put(caller, self.put(reference)?, body).await
            }
            (&Method::DELETE, Resource::Manifest(_) | Resource::Blob(_)) => {
                push.manifests().delete(grant, resource.clone()).await
            }
            _ => Err(PushError::Invalid("the protocol has no such method here")),
        }
    }

    fn start(&self) -> Result<UploadStart, PushError> {
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

    /// The blob to mount, and the repositories where the client may read it.
    async fn mount(&self) -> Result<Option<MountRequest>, PushError> {
        let Some(digest) = self.digest("mount")? else { return Ok(None) };
        let from = self.sources.named().await;
        let others = self.sources.known(&digest).await;
        // With Larder's own credential the upstream would search repositories that this client may
        // not read.
        let is_unnamed = self.argument("from")?.is_none();
        let anywhere = is_unnamed && self.sources.grant.uses_client_credential();
        Ok(Some(MountRequest { digest, from, others, anywhere }))
    }

    fn put(&self, reference: &Reference) -> Result<ManifestPut, PushError> {
        let tags = self.arguments("tag").map(|tag| tag.parse::<Tag>());
        let tags: Vec<Tag> = tags
            .take(TAGS_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|_| PushError::Invalid("`tag` is not a valid tag"))?;
        if tags.len() > TAGS_MAX {
            return Err(PushError::Invalid("there are more than 64 `tag` parameters"));
        }
        if !tags.is_empty() && !matches!(reference, Reference::Digest(_)) {
            return Err(PushError::Invalid("`tag` is for manifests that are put by digest"));
        }
        let media_type = self.sources.head.headers.get(CONTENT_TYPE).cloned();
        Ok(ManifestPut { reference: reference.clone(), tags, media_type })
    }

    /// `Content-Range: a-b`, without a unit (distribution-spec, "Pushing a blob in chunks").
    fn part(&self) -> Result<Option<UploadPart>, PushError> {
        let mut lines = self.sources.head.headers.get_all(CONTENT_RANGE).iter();
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
                text.parse().map_err(|_| PushError::Range("the offset is too large"))
            } else {
                Err(malformed())
            }
        };
        Ok(Some(UploadPart { first: number(first)?, last: number(last)? }))
    }

    fn digest(&self, name: &str) -> Result<Option<Digest>, PushError> {
        let text = self.argument(name)?;
        let digest = text.map(|text| text.parse()).transpose();
        digest.map_err(|_| PushError::Digest("the digest is not a valid sha256 or sha512 digest"))
    }

    /// The value of a query parameter. containerd repeats parameters that are there already.
    fn argument(&self, name: &str) -> Result<Option<String>, PushError> {
        let mut values = self.arguments(name);
        let first = values.next();
        if values.any(|value| Some(&value) != first.as_ref()) {
            return Err(PushError::Digest("a query parameter is given twice, with two values"));
        }
        Ok(first)
    }

    fn arguments<'s>(&'s self, name: &'s str) -> impl Iterator<Item = String> + use<'s> {
        let query = self.sources.head.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The answer, with the `Location` by which this client reaches it.
    fn reply(&self, answer: PushAnswer) -> RouteReply {
        let location = answer.place.as_ref().map(|place| match place {
            ContentLocation::Blob(digest) => self.client_path.link(&format!("blobs/{digest}"), ""),
            ContentLocation::Manifest(reference) => {
                self.client_path.link(&format!("manifests/{reference}"), "")
            }
            ContentLocation::Upload(id) => {
                self.client_path.link(&format!("blobs/uploads/{id}"), "")
            }
        });
        let absent = if self.sources.head.uri.path().contains("/manifests/") {
            ErrorCode::ManifestUnknown
        } else {
            ErrorCode::BlobUploadUnknown
        };
        let code = code_of_status(answer.status, absent);
        RouteReply::pushed(answer, location.as_deref(), code)
    }
}

/// The tags of one request; the specification wants at least ten to be accepted.
const TAGS_MAX: usize = 64;
