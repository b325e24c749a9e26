//! The uploads of clients, between two of their requests.
//!
//! An upload belongs to the client, the repository and the door that began it. Its state is in the
//! sealed id that the client sends back each time (`session.rs`), so a restart ends no upload.

use std::net::IpAddr;
use std::sync::Arc;

use super::answer::ContentLocation;
use super::session::{SessionId, SessionOwner, SessionSeal, UploadSession};
use super::{PushAnswer, PushError};
use crate::access::Grant;
use crate::clock::{WallClock, unix_seconds};
use crate::upstream::{UploadLocation, UpstreamReply};

/// The client that pushes, and how it reaches the repository.
#[derive(Clone, Copy, Debug)]
pub struct PushCaller<'c> {
    /// The right to push into the repository.
    pub grant: &'c Grant,
    /// The repository's path, as the client has it.
    pub door: &'c str,
    /// The identity of the client, in one text.
    pub principal: &'c str,
    /// The client's address.
    pub address: IpAddr,
}

/// Opens and seals the uploads of clients.
#[derive(Debug)]
pub(super) struct UploadSessions {
    seal: SessionSeal,
    clock: Arc<dyn WallClock>,
}

/// An upload in progress.
#[derive(Clone)]
pub(super) struct RunningUpload {
    pub(super) id: SessionId,
    /// The bytes that were sent upstream so far.
    pub(super) passed: u64,
    /// Its URL at the upstream.
    pub(super) location: UploadLocation,
}

impl UploadSessions {
    pub(super) fn new(seal: SessionSeal, clock: Arc<dyn WallClock>) -> Self {
        Self { seal, clock }
    }

    /// Opens a sealed id.
    ///
    /// # Errors
    ///
    /// [`PushError::UnknownUpload`] if it was not sealed here, belongs to another client,
    /// repository or door, or has expired after 24 hours.
    pub(super) fn open(
        &self,
        caller: PushCaller<'_>,
        sealed: &str,
    ) -> Result<RunningUpload, PushError> {
        let now = unix_seconds(self.clock.now());
        let session = self.seal.open(sealed, &owner(caller), now);
        let UploadSession { id, location, passed, .. } = session.ok_or(PushError::UnknownUpload)?;
        let upstream = caller.grant.registry().upstream().authoritative();
        let location = upstream.location_of(&location).ok_or(PushError::UnknownUpload)?;
        Ok(RunningUpload { id, passed, location })
    }

    /// The answer to a request that did not end the upload, which goes on at the location in the
    /// response.
    ///
    /// # Errors
    ///
    /// [`PushError::Upstream`] if the response has no usable location.
    pub(super) fn advance(
        &self,
        caller: PushCaller<'_>,
        id: SessionId,
        passed: u64,
        response: UpstreamReply,
    ) -> Result<PushAnswer, PushError> {
        let upstream = caller.grant.registry().upstream().authoritative();
        let location = upstream.location_in(&response)?;
        self.answer(caller, &RunningUpload { id, passed, location }, response)
    }

    /// The answer to a request that changed nothing. The upload goes on at the location in the
    /// response, or where it was if there is none.
    pub(super) fn unchanged(
        &self,
        caller: PushCaller<'_>,
        upload: RunningUpload,
        response: UpstreamReply,
    ) -> Result<PushAnswer, PushError> {
        let upstream = caller.grant.registry().upstream().authoritative();
        let location = upstream.location_in(&response).unwrap_or(upload.location);
        self.answer(caller, &RunningUpload { location, ..upload }, response)
    }

    fn answer(
        &self,
        caller: PushCaller<'_>,
        upload: &RunningUpload,
        response: UpstreamReply,
    ) -> Result<PushAnswer, PushError> {
        let session = UploadSession {
            id: upload.id,
            owner: owner(caller),
            location: upload.location.expose(),
            passed: upload.passed,
            expires: unix_seconds(self.clock.now()) + SESSION_SECONDS,
        };
        let sealed = self.seal.seal(&session);
        let sealed = sealed.ok_or(PushError::Internal("an upload cannot be sealed"))?;
        Ok(PushAnswer::of(response).at(ContentLocation::Upload(sealed)))
    }
}

/// A random id for a new upload.
pub(super) fn new_id() -> Result<SessionId, PushError> {
    SessionId::random().ok_or(PushError::Internal("the machine gives no random numbers"))
}

fn owner(caller: PushCaller<'_>) -> SessionOwner {
    SessionOwner {
        registry: caller.grant.registry().name().to_string(),
        repository: caller.grant.repository().to_string(),
        door: caller.door.to_owned(),
        principal: caller.principal.to_owned(),
    }
}

/// How long an upload may pause: registries keep theirs for days, and builds take hours.
const SESSION_SECONDS: u64 = 24 * 60 * 60;
