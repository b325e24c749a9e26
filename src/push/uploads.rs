//! The life of a blob that is pushed: begun, appended to, finished, asked after, cancelled.
//!
//! Each request is one request to the authoritative upstream, and its answer is the client's answer.
//! What is ours is the session id in between (`session.rs`), and a copy of what passes (`tee.rs`),
//! which becomes a blob when the upstream has said 201 and the digest is right. Authentication
//! towards the upstream is settled when an upload begins, and each request starts with a token that
//! lasts for a while.

use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::{ContentLocation, PushAnswer};
use super::incoming::payload;
use super::session::{SessionId, SessionOwner, UploadSession};
use super::upload_copy::{CopySink, UploadCopy};
use super::{PushError, PushService};
use crate::access::Grant;
use crate::cache::Epoch;
use crate::clock::unix_seconds;
use crate::http::RequestBody;
use crate::oci::{Algorithm, Digest, RepositoryName, Resource};
use crate::upstream::{
    self, ChangeCall, ChangePayload, ChangeTarget, UploadLocation, UpstreamReply,
};

/// Who pushes, and how the repository is reached: an upload belongs to both.
#[derive(Clone, Copy, Debug)]
pub struct PushCaller<'c> {
    /// What the client calls the repository: a path.
    pub door: &'c str,
    /// Who the client is.
    pub principal: &'c str,
}

/// How an upload is begun.
#[derive(Clone, Debug, Default)]
pub struct UploadStart {
    /// What the body is, where all of the blob comes with the request.
    pub digest: Option<Digest>,
    /// What the blob will be named by, where the client says so before.
    pub algorithm: Option<Algorithm>,
}

/// Which part of the blob a body is (distribution-spec, "Pushing a blob in chunks").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadPart {
    /// The offset of its first byte.
    pub first: u64,
    /// The offset of its last byte.
    pub last: u64,
}

/// An upload under way.
pub(super) struct RunningUpload {
    pub(super) id: SessionId,
    /// How many bytes have passed.
    pub(super) before: u64,
    /// Where the upstream has it.
    pub(super) at: UploadLocation,
}

impl PushService {
    /// POST: begins an upload, or does all of it at once.
    pub async fn begin(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        begin: UploadStart,
        received: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let id = new_id()?;
        let (tee, payload) = match &begin.digest {
            Some(digest) => {
                let (tee, spout) = self.copy(id, 0, Some(digest)).await;
                (tee, payload(received, spout)?.0)
            }
            None => (None, ChangePayload::Empty),
        };
        // Digests and algorithms hold no character that a query would have to escape.
        let digest = begin.digest.as_ref().map(|digest| format!("digest={digest}"));
        let algorithm = begin.algorithm.map(|it| format!("digest-algorithm={}", it.as_str()));
        let query: Vec<_> = digest.into_iter().chain(algorithm).collect();
        let target = ChangeTarget::Resource(Resource::Upload(None));
        let change = change(grant, Method::POST, target, payload);
        let asked = self.shared.cache.epoch();
        let said = send(grant, ChangeCall { query: query.join("&"), ..change }).await?;
        match (said.status, begin.digest) {
            (StatusCode::CREATED, Some(digest)) => {
                self.done(grant, (digest, asked), tee, said).await
            }
            // What came with the request, if anything did, has not been taken.
            (StatusCode::ACCEPTED, _) => self.goes_on(grant, caller, (id, 0), said),
            _ => refused(said),
        }
    }

    /// PATCH: appends to an upload.
    pub async fn append(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        sealed: &str,
        part: Option<UploadPart>,
        received: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let RunningUpload { id, before, at } = self.open(grant, caller, sealed)?;
        check(part, &received)?;
        let (tee, spout) = self.copy(id, before, None).await;
        let (payload, passed) = payload(received, spout)?;
        let mut change = change(grant, Method::PATCH, ChangeTarget::Upload(at.clone()), payload);
        set_part(&mut change.headers, part);
        let mut said = send(grant, change).await?;
        if said.status.is_success() && !said.is_body_sent {
            return Err(too_early(&said));
        }
        match said.status {
            // Amazon's registry answers 201 to some, and clients take nothing but 202.
            StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT => {
                said.status = StatusCode::ACCEPTED;
                if let Some(tee) = tee {
                    self.shared.copies.put(id, tee);
                }
                self.goes_on(grant, caller, (id, before + passed.get()), said)
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.out_of_order(grant, caller, RunningUpload { id, before, at }, said)
            }
            _ => refused(said),
        }
    }

    /// PUT: ends an upload, with the last part of it or without.
    pub async fn finish(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        sealed: &str,
        (digest, part): (Digest, Option<UploadPart>),
        received: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let RunningUpload { id, before, at } = self.open(grant, caller, sealed)?;
        check(part, &received)?;
        let (tee, spout) = self.copy(id, before, Some(&digest)).await;
        let (payload, _) = payload(received, spout)?;
        let mut change = change(grant, Method::PUT, ChangeTarget::Upload(at.clone()), payload);
        set_part(&mut change.headers, part);
        change.query = format!("digest={digest}");
        let asked = self.shared.cache.epoch();
        let said = send(grant, change).await?;
        match said.status {
            StatusCode::CREATED => self.done(grant, (digest, asked), tee, said).await,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.out_of_order(grant, caller, RunningUpload { id, before, at }, said)
            }
            _ => refused(said),
        }
    }

    /// GET: how far an upload is.
    pub async fn status(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        sealed: &str,
    ) -> Result<PushAnswer, PushError> {
        let RunningUpload { id, before, at } = self.open(grant, caller, sealed)?;
        let target = ChangeTarget::Upload(at.clone());
        let said = send(grant, change(grant, Method::GET, target, ChangePayload::Empty)).await?;
        match said.status {
            StatusCode::NO_CONTENT if said.headers.contains_key(LOCATION) => {
                self.goes_on(grant, caller, (id, before), said)
            }
            // It is where it was.
            StatusCode::NO_CONTENT => {
                let place = self.sealed(grant, caller, &RunningUpload { id, before, at })?;
                Ok(PushAnswer::of(said).at(place))
            }
            _ => refused(said),
        }
    }

    /// DELETE: ends an upload without a blob.
    pub async fn cancel(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        sealed: &str,
    ) -> Result<PushAnswer, PushError> {
        let RunningUpload { id, at, .. } = self.open(grant, caller, sealed)?;
        let target = ChangeTarget::Upload(at);
        let said = send(grant, change(grant, Method::DELETE, target, ChangePayload::Empty)).await?;
        if !said.status.is_success() {
            return refused(said);
        }
        self.shared.copies.drop(id);
        Ok(PushAnswer::of(said))
    }

    /// The registry has the blob. Before the client hears of it, the cache does.
    async fn done(
        &self,
        grant: &Grant,
        (digest, asked): (Digest, Epoch),
        tee: Option<UploadCopy>,
        said: UpstreamReply,
    ) -> Result<PushAnswer, PushError> {
        if !said.is_body_sent {
            return Err(too_early(&said));
        }
        if let Some(tee) = tee {
            tee.commit(digest.clone(), &self.shared.copies.tasks).await;
        }
        self.shared.cache.blob_pushed(grant, &digest, asked).await;
        Ok(PushAnswer::of(said).about(&digest).at(ContentLocation::Blob(digest)))
    }

    /// The copy for the next part of an upload, and where the part leaves it; none when the blob is
    /// stored already, or cannot become whole.
    async fn copy(
        &self,
        id: SessionId,
        before: u64,
        digest: Option<&Digest>,
    ) -> (Option<UploadCopy>, Option<CopySink>) {
        let algorithm = digest.map_or(Algorithm::Sha256, Digest::algorithm);
        if let Some(digest) = digest
            && self.shared.store.content().has_verified(digest).await
        {
            self.shared.copies.drop(id);
            return (None, None);
        }
        self.shared.copies.take(id, before, algorithm).unzip()
    }

    /// The upload that a sealed id means, if it is this client's.
    fn open(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        sealed: &str,
    ) -> Result<RunningUpload, PushError> {
        let now = unix_seconds(self.shared.clock.now());
        let session = self.shared.seal.open(sealed, &owner(grant, caller), now);
        let UploadSession { id, location, passed, .. } = session.ok_or(PushError::UnknownUpload)?;
        let upstream = grant.registry().upstream().authoritative();
        let at = upstream.location_of(&location).ok_or(PushError::UnknownUpload)?;
        Ok(RunningUpload { id, before: passed, at })
    }

    /// The answer to what has not ended: the upload goes on where the upstream says.
    pub(super) fn goes_on(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        (id, before): (SessionId, u64),
        said: UpstreamReply,
    ) -> Result<PushAnswer, PushError> {
        let at = grant.registry().upstream().authoritative().location_in(&said)?;
        let place = self.sealed(grant, caller, &RunningUpload { id, before, at })?;
        Ok(PushAnswer::of(said).at(place))
    }

    /// The answer to a part that was not the next one. The upload goes on all the same, where it was
    /// if the upstream says nothing else.
    fn out_of_order(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        before: RunningUpload,
        said: UpstreamReply,
    ) -> Result<PushAnswer, PushError> {
        let upstream = grant.registry().upstream().authoritative();
        let at = upstream.location_in(&said).unwrap_or(before.at);
        let place = self.sealed(grant, caller, &RunningUpload { at, ..before })?;
        Ok(PushAnswer::of(said).at(place))
    }

    fn sealed(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        under: &RunningUpload,
    ) -> Result<ContentLocation, PushError> {
        let session = UploadSession {
            id: under.id,
            owner: owner(grant, caller),
            location: under.at.expose().to_owned(),
            passed: under.before,
            expires: unix_seconds(self.shared.clock.now()) + SESSION_SECONDS,
        };
        let sealed = self.shared.seal.seal(&session);
        Ok(ContentLocation::Upload(
            sealed.ok_or(PushError::Internal("an upload cannot be sealed"))?,
        ))
    }
}

fn owner(grant: &Grant, caller: PushCaller<'_>) -> SessionOwner {
    SessionOwner {
        registry: grant.registry().name().to_string(),
        repository: grant.repository().to_string(),
        door: caller.door.to_owned(),
        principal: caller.principal.to_owned(),
    }
}

/// The name of an upload that begins.
pub(super) fn new_id() -> Result<SessionId, PushError> {
    SessionId::random().ok_or(PushError::Internal("the machine gives no random numbers"))
}

/// A change of the grant's repository.
pub(super) fn change(
    grant: &Grant,
    method: Method,
    target: ChangeTarget,
    payload: ChangePayload,
) -> ChangeCall {
    let mut headers = HeaderMap::new();
    if !matches!(payload, ChangePayload::Empty) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    let (query, source) = (String::new(), None::<RepositoryName>);
    let (repository, via) = (grant.repository().clone(), grant.via().clone());
    let client = grant.client().cloned();
    ChangeCall { method, repository, target, query, source, headers, payload, client, via }
}

/// Pushes go to the authoritative upstream only.
pub(super) async fn send(grant: &Grant, change: ChangeCall) -> Result<UpstreamReply, PushError> {
    Ok(grant.registry().upstream().authoritative().change(change).await?)
}

/// What the upstream says to a push that it does not take. A success of which nobody knows what it
/// would be is no success.
pub(super) fn refused(said: UpstreamReply) -> Result<PushAnswer, PushError> {
    if said.status.is_client_error() || said.status.is_server_error() {
        return Ok(PushAnswer::of(said));
    }
    let (host, status) = (said.host, said.status);
    let reason = "the protocol gives that no meaning here".to_owned();
    Err(upstream::UpstreamError::Unexpected { host, status, reason }.into())
}

fn too_early(said: &UpstreamReply) -> PushError {
    let (host, status) = (said.host.clone(), said.status);
    let reason = "it answered before it had all of the body".to_owned();
    upstream::UpstreamError::Unexpected { host, status, reason }.into()
}

/// Sees to it that a part is as long as it says.
fn check(part: Option<UploadPart>, received: &RequestBody) -> Result<(), PushError> {
    let Some(UploadPart { first, last }) = part else { return Ok(()) };
    let len = last.checked_sub(first).ok_or(PushError::Range("it ends before it begins"))?;
    let len = len.checked_add(1).ok_or(PushError::Range("no blob is that long"))?;
    match received.length() {
        Some(length) if length == len => Ok(()),
        Some(_) => Err(PushError::Invalid("the part and its length say two things")),
        None => Err(PushError::Invalid("a part of a blob must say how long it is")),
    }
}

fn set_part(headers: &mut HeaderMap, part: Option<UploadPart>) {
    // Without a unit and without a length of the whole (distribution-spec, not RFC 9110).
    let text = part.map(|UploadPart { first, last }| format!("{first}-{last}"));
    if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
        headers.insert(CONTENT_RANGE, value);
    }
}

/// For how long an upload may be left alone: registries keep theirs for days, builders for hours.
const SESSION_SECONDS: u64 = 24 * 60 * 60;
