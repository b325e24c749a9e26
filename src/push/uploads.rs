//! The life of a blob that is pushed: begun, appended to, finished, asked after, cancelled.
//!
//! Each request is one request to the authoritative upstream, and its answer is the client's answer.
//! What is ours is the session id in between (`session.rs`), and a copy of what passes (`tee.rs`),
//! which becomes a blob when the upstream has said 201 and the digest is right. Authentication
//! towards the upstream is settled when an upload begins, and each request starts with a token that
//! lasts for a while.

use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::{Answer, Place};
use super::incoming::payload;
use super::session::{Owner, Session, SessionId};
use super::tee::{Spout, Tee};
use super::{Error, Push};
use crate::access::Grant;
use crate::cache::Asked;
use crate::clock::unix_seconds;
use crate::http::Received;
use crate::oci::{Algorithm, Digest, RepositoryName, Resource};
use crate::store::Stored;
use crate::upstream::{self, Change, Location, Payload, Said, Target};

/// Who pushes, and how the repository is reached: an upload belongs to both.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'c> {
    /// What the client calls the repository: a path.
    pub door: &'c str,
    /// Who the client is.
    pub principal: &'c str,
}

/// How an upload is begun.
#[derive(Clone, Debug, Default)]
pub struct Begin {
    /// What the body is, where all of the blob comes with the request.
    pub digest: Option<Digest>,
    /// What the blob will be named by, where the client says so before.
    pub algorithm: Option<Algorithm>,
}

/// Which part of the blob a body is (distribution-spec, "Pushing a blob in chunks").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The offset of its first byte.
    pub first: u64,
    /// The offset of its last byte.
    pub last: u64,
}

/// An upload under way.
pub(super) struct Under {
    pub(super) id: SessionId,
    /// How many bytes have passed.
    pub(super) before: u64,
    /// Where the upstream has it.
    pub(super) at: Location,
}

impl Push {
    /// POST: begins an upload, or does all of it at once.
    pub async fn begin(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        begin: Begin,
        received: Received,
    ) -> Result<Answer, Error> {
        let id = new_id()?;
        let (tee, payload) = match &begin.digest {
            Some(digest) => {
                let (tee, spout) = self.copy(id, 0, Some(digest)).await;
                (tee, payload(received, spout)?.0)
            }
            None => (None, Payload::Empty),
        };
        // Digests and algorithms hold no character that a query would have to escape.
        let digest = begin.digest.as_ref().map(|digest| format!("digest={digest}"));
        let algorithm = begin.algorithm.map(|it| format!("digest-algorithm={}", it.as_str()));
        let query: Vec<_> = digest.into_iter().chain(algorithm).collect();
        let target = Target::Resource(Resource::Upload(None));
        let change = change(grant, Method::POST, target, payload);
        let asked = self.shared.cache.asking();
        let said = send(grant, Change { query: query.join("&"), ..change }).await?;
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
        caller: Caller<'_>,
        sealed: &str,
        part: Option<Part>,
        received: Received,
    ) -> Result<Answer, Error> {
        let Under { id, before, at } = self.open(grant, caller, sealed)?;
        check(part, &received)?;
        let (tee, spout) = self.copy(id, before, None).await;
        let (payload, passed) = payload(received, spout)?;
        let mut change = change(grant, Method::PATCH, Target::Upload(at.clone()), payload);
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
                self.out_of_order(grant, caller, Under { id, before, at }, said)
            }
            _ => refused(said),
        }
    }

    /// PUT: ends an upload, with the last part of it or without.
    pub async fn finish(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        sealed: &str,
        (digest, part): (Digest, Option<Part>),
        received: Received,
    ) -> Result<Answer, Error> {
        let Under { id, before, at } = self.open(grant, caller, sealed)?;
        check(part, &received)?;
        let (tee, spout) = self.copy(id, before, Some(&digest)).await;
        let (payload, _) = payload(received, spout)?;
        let mut change = change(grant, Method::PUT, Target::Upload(at.clone()), payload);
        set_part(&mut change.headers, part);
        change.query = format!("digest={digest}");
        let asked = self.shared.cache.asking();
        let said = send(grant, change).await?;
        match said.status {
            StatusCode::CREATED => self.done(grant, (digest, asked), tee, said).await,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.out_of_order(grant, caller, Under { id, before, at }, said)
            }
            _ => refused(said),
        }
    }

    /// GET: how far an upload is.
    pub async fn status(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        sealed: &str,
    ) -> Result<Answer, Error> {
        let Under { id, before, at } = self.open(grant, caller, sealed)?;
        let target = Target::Upload(at.clone());
        let said = send(grant, change(grant, Method::GET, target, Payload::Empty)).await?;
        match said.status {
            StatusCode::NO_CONTENT if said.headers.contains_key(LOCATION) => {
                self.goes_on(grant, caller, (id, before), said)
            }
            // It is where it was.
            StatusCode::NO_CONTENT => {
                let place = self.sealed(grant, caller, &Under { id, before, at })?;
                Ok(Answer::of(said).at(place))
            }
            _ => refused(said),
        }
    }

    /// DELETE: ends an upload without a blob.
    pub async fn cancel(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        sealed: &str,
    ) -> Result<Answer, Error> {
        let Under { id, at, .. } = self.open(grant, caller, sealed)?;
        let target = Target::Upload(at);
        let said = send(grant, change(grant, Method::DELETE, target, Payload::Empty)).await?;
        if !said.status.is_success() {
            return refused(said);
        }
        self.shared.copies.drop(id);
        Ok(Answer::of(said))
    }

    /// The registry has the blob. Before the client hears of it, the cache does.
    async fn done(
        &self,
        grant: &Grant,
        (digest, asked): (Digest, Asked),
        tee: Option<Tee>,
        said: Said,
    ) -> Result<Answer, Error> {
        if !said.is_body_sent {
            return Err(too_early(&said));
        }
        if let Some(tee) = tee {
            tee.commit(digest.clone(), &self.shared.copies.tasks).await;
        }
        self.shared.cache.blob_pushed(grant, &digest, asked).await;
        Ok(Answer::of(said).about(&digest).at(Place::Blob(digest)))
    }

    /// The copy for the next part of an upload, and where the part leaves it; none when the blob is
    /// stored already, or cannot become whole.
    async fn copy(
        &self,
        id: SessionId,
        before: u64,
        digest: Option<&Digest>,
    ) -> (Option<Tee>, Option<Spout>) {
        let algorithm = digest.map_or(Algorithm::Sha256, Digest::algorithm);
        if let Some(digest) = digest {
            let (store, digest) = (self.shared.store.clone(), digest.clone());
            let find = move || matches!(store.blob(&digest), Ok(Some(Stored::Verified(_))));
            if tokio::task::spawn_blocking(find).await.unwrap_or_default() {
                self.shared.copies.drop(id);
                return (None, None);
            }
        }
        self.shared.copies.take(id, before, algorithm).unzip()
    }

    /// The upload that a sealed id means, if it is this client's.
    fn open(&self, grant: &Grant, caller: Caller<'_>, sealed: &str) -> Result<Under, Error> {
        let now = unix_seconds(self.shared.clock.now());
        let session = self.shared.seal.open(sealed, &owner(grant, caller), now);
        let Session { id, location, passed, .. } = session.ok_or(Error::UnknownUpload)?;
        let upstream = grant.registry().upstream().authoritative();
        let at = upstream.location_of(&location).ok_or(Error::UnknownUpload)?;
        Ok(Under { id, before: passed, at })
    }

    /// The answer to what has not ended: the upload goes on where the upstream says.
    pub(super) fn goes_on(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        (id, before): (SessionId, u64),
        said: Said,
    ) -> Result<Answer, Error> {
        let at = grant.registry().upstream().authoritative().location_in(&said)?;
        let place = self.sealed(grant, caller, &Under { id, before, at })?;
        Ok(Answer::of(said).at(place))
    }

    /// The answer to a part that was not the next one. The upload goes on all the same, where it was
    /// if the upstream says nothing else.
    fn out_of_order(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        before: Under,
        said: Said,
    ) -> Result<Answer, Error> {
        let upstream = grant.registry().upstream().authoritative();
        let at = upstream.location_in(&said).unwrap_or(before.at);
        let place = self.sealed(grant, caller, &Under { at, ..before })?;
        Ok(Answer::of(said).at(place))
    }

    fn sealed(&self, grant: &Grant, caller: Caller<'_>, under: &Under) -> Result<Place, Error> {
        let session = Session {
            id: under.id,
            owner: owner(grant, caller),
            location: under.at.expose().to_owned(),
            passed: under.before,
            expires: unix_seconds(self.shared.clock.now()) + SESSION_SECONDS,
        };
        let sealed = self.shared.seal.seal(&session);
        Ok(Place::Upload(sealed.ok_or(Error::Internal("an upload cannot be sealed"))?))
    }
}

fn owner(grant: &Grant, caller: Caller<'_>) -> Owner {
    Owner {
        registry: grant.registry().name().to_string(),
        repository: grant.repository().to_string(),
        door: caller.door.to_owned(),
        principal: caller.principal.to_owned(),
    }
}

/// The name of an upload that begins.
pub(super) fn new_id() -> Result<SessionId, Error> {
    SessionId::random().ok_or(Error::Internal("the machine gives no random numbers"))
}

/// A change of the grant's repository.
pub(super) fn change(grant: &Grant, method: Method, target: Target, payload: Payload) -> Change {
    let mut headers = HeaderMap::new();
    if !matches!(payload, Payload::Empty) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    let (query, source) = (String::new(), None::<RepositoryName>);
    let (repository, via) = (grant.repository().clone(), grant.via().clone());
    let client = grant.client().cloned();
    Change { method, repository, target, query, source, headers, payload, client, via }
}

/// Pushes go to the authoritative upstream only.
pub(super) async fn send(grant: &Grant, change: Change) -> Result<Said, Error> {
    Ok(grant.registry().upstream().authoritative().change(change).await?)
}

/// What the upstream says to a push that it does not take. A success of which nobody knows what it
/// would be is no success.
pub(super) fn refused(said: Said) -> Result<Answer, Error> {
    if said.status.is_client_error() || said.status.is_server_error() {
        return Ok(Answer::of(said));
    }
    let (host, status) = (said.host, said.status);
    let reason = "the protocol gives that no meaning here".to_owned();
    Err(upstream::Error::Unexpected { host, status, reason }.into())
}

fn too_early(said: &Said) -> Error {
    let (host, status) = (said.host.clone(), said.status);
    let reason = "it answered before it had all of the body".to_owned();
    upstream::Error::Unexpected { host, status, reason }.into()
}

/// Sees to it that a part is as long as it says.
fn check(part: Option<Part>, received: &Received) -> Result<(), Error> {
    let Some(Part { first, last }) = part else { return Ok(()) };
    let len = last.checked_sub(first).ok_or(Error::Range("it ends before it begins"))?;
    let len = len.checked_add(1).ok_or(Error::Range("no blob is that long"))?;
    match received.length() {
        Some(length) if length == len => Ok(()),
        Some(_) => Err(Error::Invalid("the part and its length say two things")),
        None => Err(Error::Invalid("a part of a blob must say how long it is")),
    }
}

fn set_part(headers: &mut HeaderMap, part: Option<Part>) {
    // Without a unit and without a length of the whole (distribution-spec, not RFC 9110).
    let text = part.map(|Part { first, last }| format!("{first}-{last}"));
    if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
        headers.insert(CONTENT_RANGE, value);
    }
}

/// For how long an upload may be left alone: registries keep theirs for days, builders for hours.
const SESSION_SECONDS: u64 = 24 * 60 * 60;
