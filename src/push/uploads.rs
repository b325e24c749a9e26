//! The life of a blob that is pushed: begun, appended to, finished, asked after, cancelled.
//!
//! Each request is one request to the authoritative upstream, and its answer is the client's answer.
//! What is ours is the session id in between (`session.rs`). Authentication towards the upstream is
//! settled when an upload begins, and each request starts with a token that lasts for a while.

use std::sync::Arc;

use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::answer::{Answer, Place};
use super::incoming::payload;
use super::session::{Owner, Seal, Session, SessionId};
use super::{Error, Options};
use crate::access::Grant;
use crate::clock::{WallClock, unix_seconds};
use crate::http::Received;
use crate::oci::{Algorithm, Digest, RepositoryName, Resource};
use crate::store::Store;
use crate::upstream::{self, Change, Location, Payload, Said, Target};

/// Passes pushes on. Clones are the same.
#[derive(Clone, Debug)]
pub struct Push {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    clock: Arc<dyn WallClock>,
    seal: Seal,
}

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
    /// The blob that another repository may have.
    pub mount: Option<Digest>,
    /// That repository, of the same registry.
    pub from: Option<RepositoryName>,
}

/// Which part of the blob a body is (distribution-spec, "Pushing a blob in chunks").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The offset of its first byte.
    pub first: u64,
    /// The offset of its last byte.
    pub last: u64,
}

impl Begin {
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(digest) = &self.digest {
            query.append_pair("digest", digest.as_str());
        }
        if let Some(algorithm) = self.algorithm {
            query.append_pair("digest-algorithm", algorithm.as_str());
        }
        if let Some(mount) = &self.mount {
            query.append_pair("mount", mount.as_str());
        }
        if let Some(from) = &self.from {
            query.append_pair("from", from.as_str());
        }
        query.finish()
    }
}

impl Push {
    /// Passes pushes on from now on. Blocks for the key.
    ///
    /// # Errors
    ///
    /// When the machine gives no random numbers.
    pub fn new(store: &Store, clock: Arc<dyn WallClock>, options: &Options) -> Result<Self, Error> {
        use secrecy::ExposeSecret as _;
        let seal = if let Some(key) = &options.session_key {
            Seal::new(key.expose_secret())
        } else {
            let fresh = Seal::fresh_secret().ok_or(NO_RANDOM)?;
            let kept = store.session_key(fresh.clone()).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot keep a key; a restart ends all uploads");
                fresh
            });
            Seal::new(&kept)
        };
        let seal = seal.ok_or(NO_RANDOM)?;
        Ok(Self { shared: Arc::new(Shared { clock, seal }) })
    }

    /// POST: begins an upload, or does all of it at once.
    pub async fn begin(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        begin: Begin,
        received: Received,
    ) -> Result<Answer, Error> {
        let payload = match begin.digest {
            Some(_) => payload(received)?,
            None => Payload::Empty,
        };
        let target = Target::Resource(Resource::Upload(None));
        let mut change = change(grant, Method::POST, target, payload);
        change.query = begin.query();
        change.source.clone_from(&begin.from);
        let said = send(grant, change).await?;
        let id = SessionId::random().ok_or(NO_RANDOM)?;
        match said.status {
            StatusCode::CREATED => {
                let done = begin.digest.or(begin.mount);
                let done = done.ok_or(NOTHING_MADE)?;
                if !said.is_body_sent {
                    return Err(too_early(&said));
                }
                Ok(Answer::of(said).about(&done).at(Place::Blob(done)))
            }
            StatusCode::ACCEPTED => self.goes_on(grant, caller, id, said),
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
        let (id, at) = self.open(grant, caller, sealed)?;
        let payload = part_of(part, received)?;
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
                self.goes_on(grant, caller, id, said)
            }
            StatusCode::RANGE_NOT_SATISFIABLE => self.out_of_order(grant, caller, (id, at), said),
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
        let (id, at) = self.open(grant, caller, sealed)?;
        let payload = part_of(part, received)?;
        let mut change = change(grant, Method::PUT, Target::Upload(at.clone()), payload);
        set_part(&mut change.headers, part);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("digest", digest.as_str())
            .finish();
        change.query = query;
        let said = send(grant, change).await?;
        match said.status {
            StatusCode::CREATED if said.is_body_sent => {
                Ok(Answer::of(said).about(&digest).at(Place::Blob(digest)))
            }
            StatusCode::CREATED => Err(too_early(&said)),
            StatusCode::RANGE_NOT_SATISFIABLE => self.out_of_order(grant, caller, (id, at), said),
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
        let (id, location) = self.open(grant, caller, sealed)?;
        let target = Target::Upload(location.clone());
        let said = send(grant, change(grant, Method::GET, target, Payload::Empty)).await?;
        match said.status {
            StatusCode::NO_CONTENT if said.headers.contains_key(http::header::LOCATION) => {
                self.goes_on(grant, caller, id, said)
            }
            // It is where it was.
            StatusCode::NO_CONTENT => {
                let place = self.sealed(grant, caller, id, &location)?;
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
        let (_, location) = self.open(grant, caller, sealed)?;
        let target = Target::Upload(location);
        let said = send(grant, change(grant, Method::DELETE, target, Payload::Empty)).await?;
        if said.status.is_success() { Ok(Answer::of(said)) } else { refused(said) }
    }

    /// The upload that a sealed id means, if it is this client's, and where it goes on.
    fn open(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        sealed: &str,
    ) -> Result<(SessionId, Location), Error> {
        let now = unix_seconds(self.shared.clock.now());
        let session = self.shared.seal.open(sealed, &owner(grant, caller), now);
        let session = session.ok_or(Error::UnknownUpload)?;
        let upstream = grant.registry().upstream().authoritative();
        let location = upstream.location_of(&session.location).ok_or(Error::UnknownUpload)?;
        Ok((session.id, location))
    }

    /// The answer to what has not ended: the upload goes on where the upstream says.
    fn goes_on(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        id: SessionId,
        said: Said,
    ) -> Result<Answer, Error> {
        let location = grant.registry().upstream().authoritative().location_in(&said)?;
        let place = self.sealed(grant, caller, id, &location)?;
        Ok(Answer::of(said).at(place))
    }

    /// The answer to a part that was not the next one. The upload goes on all the same, where it was
    /// if the upstream says nothing else.
    fn out_of_order(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        (id, at): (SessionId, Location),
        said: Said,
    ) -> Result<Answer, Error> {
        let upstream = grant.registry().upstream().authoritative();
        let location = upstream.location_in(&said).unwrap_or(at);
        let place = self.sealed(grant, caller, id, &location)?;
        Ok(Answer::of(said).at(place))
    }

    fn sealed(
        &self,
        grant: &Grant,
        caller: Caller<'_>,
        id: SessionId,
        location: &Location,
    ) -> Result<Place, Error> {
        let expires = unix_seconds(self.shared.clock.now()) + SESSION_SECONDS;
        let (owner, location) = (owner(grant, caller), location.expose().to_owned());
        let session = Session { id, owner, location, expires };
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

/// A change of the grant's repository.
pub(super) fn change(grant: &Grant, method: Method, target: Target, payload: Payload) -> Change {
    let mut headers = HeaderMap::new();
    if !matches!(payload, Payload::Empty) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    Change {
        method,
        repository: grant.repository().clone(),
        target,
        query: String::new(),
        source: None,
        headers,
        payload,
        client: grant.client().cloned(),
        via: grant.via().clone(),
    }
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

/// The body of a part, seen to be as long as it says.
fn part_of(part: Option<Part>, received: Received) -> Result<Payload, Error> {
    if let Some(Part { first, last }) = part {
        let len = last.checked_sub(first).ok_or(Error::Range("it ends before it begins"))?;
        let len = len.checked_add(1).ok_or(Error::Range("no blob is that long"))?;
        match received.length() {
            None => return Err(Error::Invalid("a part of a blob must say how long it is")),
            Some(length) if length != len => {
                return Err(Error::Invalid("the part and its length say two things"));
            }
            Some(_) => {}
        }
    }
    payload(received)
}

fn set_part(headers: &mut HeaderMap, part: Option<Part>) {
    // Without a unit and without a length of the whole (distribution-spec, not RFC 9110).
    let text = part.map(|Part { first, last }| format!("{first}-{last}"));
    if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
        headers.insert(CONTENT_RANGE, value);
    }
}

const NO_RANDOM: Error = Error::Internal("the machine gives no random numbers");

const NOTHING_MADE: Error = Error::Internal("the upstream made what it was not asked for");

/// For how long an upload may be left alone: registries keep theirs for days, builders theirs for hours.
const SESSION_SECONDS: u64 = 24 * 60 * 60;
