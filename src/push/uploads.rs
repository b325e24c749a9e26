//! The life of a blob that is pushed: begin, append, finish, status, cancel.
//!
//! Each request of a client is one request to the authoritative upstream, whose answer is the
//! client's answer. Larder adds the session id in between (`sessions.rs`), and a copy of the bytes
//! that pass (`upload_copy.rs`), which becomes a blob when the upstream has answered 201 and the
//! digest is right. Authentication at the upstream is settled when an upload begins, and each
//! request starts with a token that lives for a while. Whether the client may push is decided in
//! `access`.

use std::sync::Arc;

use http::header::{CONTENT_RANGE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::PushError;
use super::answer::{ContentLocation, PushAnswer};
use super::calls::{begun_as_202, change, refused, send, too_early};
use super::confirm::{SentContent, has_taken};
use super::copies::UploadCopies;
use super::incoming::{ByteCount, payload};
use super::session::SessionId;
use super::sessions::{PushCaller, RunningUpload, UploadSessions, new_id};
use super::shares::PushShares;
use super::upload_copy::{CopySink, UploadCopy};
use crate::access::Grant;
use crate::cache::{Cache, Epoch};
use crate::http::RequestBody;
use crate::oci::{Algorithm, Digest, Resource};
use crate::store::Store;
use crate::upstream::{ChangeCall, ChangePayload, ChangeTarget, UpstreamReply};

/// How an upload begins.
#[derive(Clone, Debug, Default)]
pub struct UploadStart {
    /// The digest, if the request has all of the blob.
    pub digest: Option<Digest>,
    /// The algorithm of the digest, if the client announces it (`digest-algorithm`).
    pub algorithm: Option<Algorithm>,
}

/// The part of a blob that a body is (distribution-spec, "Pushing a blob in chunks").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadPart {
    /// The offset of its first byte.
    pub first: u64,
    /// The offset of its last byte.
    pub last: u64,
}

/// Sends the uploads of clients on to their registries.
///
/// # Errors
///
/// Every method returns [`PushError::Upstream`] if the upstream gave no usable answer, and those
/// that take a sealed id return [`PushError::UnknownUpload`] for one that is not this caller's.
#[derive(Debug)]
pub struct BlobUploads {
    pub(super) cache: Cache,
    pub(super) copies: UploadCopies,
    pub(super) sessions: Arc<UploadSessions>,
    pub(super) shares: Arc<PushShares>,
    pub(super) store: Arc<Store>,
}

impl BlobUploads {
    /// POST: begins an upload, or sends all of the blob at once.
    pub async fn begin(
        &self,
        caller: PushCaller<'_>,
        start: UploadStart,
        body: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let id = new_id()?;
        let (mut copy, mut _place) = (None, None);
        let (mut sent, mut passed) = (ChangePayload::Empty, ByteCount::default());
        if let Some(digest) = &start.digest {
            _place = self.shares.for_upload(caller, &body).await?;
            let (begun, sink) = self.copy(id, 0, Some(digest)).await;
            (sent, passed) = payload(body, sink)?;
            copy = begun;
        }
        // Digests and algorithms have no character that a query must escape.
        let digest = start.digest.as_ref().map(|digest| format!("digest={digest}"));
        let algorithm = start.algorithm.map(|it| format!("digest-algorithm={}", it.as_str()));
        let query: Vec<_> = digest.into_iter().chain(algorithm).collect();
        let target = ChangeTarget::Resource(Resource::Upload(None));
        let change = change(caller.grant, Method::POST, target, sent);
        let asked = self.cache.changes().epoch();
        let change = ChangeCall { query: query.join("&"), ..change };
        let response = send(caller.grant, change).await?;
        if let Some(digest) = start.digest.filter(|_| response.status != StatusCode::ACCEPTED)
            && has_blob(caller.grant, &response, &digest, passed.get()).await
        {
            return self.finished(caller.grant, digest, asked, copy, response).await;
        }
        let response = begun_as_202(response);
        match response.status {
            // The upstream has not taken the body, if there was one.
            StatusCode::ACCEPTED => self.sessions.advance(caller, id, 0, response),
            _ => refused(response),
        }
    }

    /// PATCH: appends a part to an upload.
    pub async fn append(
        &self,
        caller: PushCaller<'_>,
        sealed: &str,
        part: Option<UploadPart>,
        body: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let upload = self.sessions.open(caller, sealed)?;
        check_length(part, &body)?;
        let _place = self.shares.for_upload(caller, &body).await?;
        let (copy, sink) = self.copy(upload.id, upload.passed, None).await;
        let (payload, passed) = payload(body, sink)?;
        let target = ChangeTarget::Upload(upload.location.clone());
        let mut change = change(caller.grant, Method::PATCH, target, payload);
        set_content_range(&mut change.headers, part);
        let mut response = send(caller.grant, change).await?;
        if response.status.is_success() && !response.is_body_sent {
            return Err(too_early(&response));
        }
        match response.status {
            // Amazon's registry answers 201 to some clients, which accept nothing but 202.
            StatusCode::OK
            | StatusCode::ACCEPTED
            | StatusCode::CREATED
            | StatusCode::NO_CONTENT => {
                response.status = StatusCode::ACCEPTED;
                if let Some(copy) = copy {
                    self.copies.put(upload.id, copy);
                }
                let passed = upload.passed + passed.get();
                self.sessions.advance(caller, upload.id, passed, response)
            }
            StatusCode::RANGE_NOT_SATISFIABLE => self.sessions.unchanged(caller, upload, response),
            _ => refused(response),
        }
    }

    /// PUT: finishes an upload, with a last part or without.
    pub async fn finish(
        &self,
        caller: PushCaller<'_>,
        sealed: &str,
        digest: Digest,
        part: Option<UploadPart>,
        body: RequestBody,
    ) -> Result<PushAnswer, PushError> {
        let upload = self.sessions.open(caller, sealed)?;
        check_length(part, &body)?;
        let _place = self.shares.for_upload(caller, &body).await?;
        let (copy, sink) = self.copy(upload.id, upload.passed, Some(&digest)).await;
        let (payload, passed) = payload(body, sink)?;
        let target = ChangeTarget::Upload(upload.location.clone());
        let mut change = change(caller.grant, Method::PUT, target, payload);
        set_content_range(&mut change.headers, part);
        change.query = format!("digest={digest}");
        let asked = self.cache.changes().epoch();
        let response = send(caller.grant, change).await?;
        if response.status == StatusCode::RANGE_NOT_SATISFIABLE {
            return self.sessions.unchanged(caller, upload, response);
        }
        let length = upload.passed + passed.get();
        if has_blob(caller.grant, &response, &digest, length).await {
            return self.finished(caller.grant, digest, asked, copy, response).await;
        }
        refused(response)
    }

    /// GET: how many bytes of an upload the upstream has.
    pub async fn status(
        &self,
        caller: PushCaller<'_>,
        sealed: &str,
    ) -> Result<PushAnswer, PushError> {
        let upload = self.sessions.open(caller, sealed)?;
        let response = self.send_empty(caller.grant, Method::GET, &upload).await?;
        match response.status {
            StatusCode::NO_CONTENT if response.headers.contains_key(LOCATION) => {
                self.sessions.advance(caller, upload.id, upload.passed, response)
            }
            StatusCode::NO_CONTENT => self.sessions.unchanged(caller, upload, response),
            _ => refused(response),
        }
    }

    /// DELETE: cancels an upload.
    pub async fn cancel(
        &self,
        caller: PushCaller<'_>,
        sealed: &str,
    ) -> Result<PushAnswer, PushError> {
        let upload = self.sessions.open(caller, sealed)?;
        let response = self.send_empty(caller.grant, Method::DELETE, &upload).await?;
        if !response.status.is_success() {
            return refused(response);
        }
        self.copies.drop(upload.id);
        Ok(PushAnswer::of(response))
    }

    async fn send_empty(
        &self,
        grant: &Grant,
        method: Method,
        upload: &RunningUpload,
    ) -> Result<UpstreamReply, PushError> {
        let target = ChangeTarget::Upload(upload.location.clone());
        send(grant, change(grant, method, target, ChangePayload::Empty)).await
    }

    /// The answer to a finished upload. The cache learns of the blob before the client does.
    async fn finished(
        &self,
        grant: &Grant,
        digest: Digest,
        asked: Epoch,
        copy: Option<UploadCopy>,
        response: UpstreamReply,
    ) -> Result<PushAnswer, PushError> {
        if !response.is_body_sent {
            return Err(too_early(&response));
        }
        if let Some(copy) = copy {
            copy.commit(digest.clone(), &self.copies.tasks).await;
        }
        self.cache.changes().blob_pushed(grant, &digest, asked).await;
        Ok(PushAnswer::of(response).about(&digest).at(ContentLocation::Blob(digest)))
    }

    /// The copy of an upload and the sink for its next part; none if the blob is stored already, or
    /// if an earlier part was not copied.
    async fn copy(
        &self,
        id: SessionId,
        passed: u64,
        digest: Option<&Digest>,
    ) -> (Option<UploadCopy>, Option<CopySink>) {
        let algorithm = digest.map_or(Algorithm::Sha256, Digest::algorithm);
        if let Some(digest) = digest
            && self.store.content().has_verified(digest).await
        {
            self.copies.drop(id);
            return (None, None);
        }
        self.copies.take(id, passed, algorithm).unzip()
    }
}

/// Whether the upstream has taken a blob of this length in bytes.
async fn has_blob(grant: &Grant, response: &UpstreamReply, digest: &Digest, length: u64) -> bool {
    has_taken(grant, response, Resource::Blob(digest.clone()), SentContent { digest, length }).await
}

/// Checks that a body is as long as its part.
fn check_length(part: Option<UploadPart>, body: &RequestBody) -> Result<(), PushError> {
    let Some(UploadPart { first, last }) = part else { return Ok(()) };
    let len = last.checked_sub(first).ok_or(PushError::Range("it ends before it begins"))?;
    let len = len.checked_add(1).ok_or(PushError::Range("the offset is too large"))?;
    match body.length() {
        Some(length) if length == len => Ok(()),
        Some(_) => Err(PushError::Invalid("`Content-Range` and `Content-Length` differ")),
        None => Err(PushError::Invalid("a part of a blob needs a `Content-Length`")),
    }
}

/// `Content-Range` without a unit and a total (distribution-spec, not RFC 9110).
fn set_content_range(headers: &mut HeaderMap, part: Option<UploadPart>) {
    let text = part.map(|UploadPart { first, last }| format!("{first}-{last}"));
    if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
        headers.insert(CONTENT_RANGE, value);
    }
}
