//! Mounts a blob that the registry has in another repository, so that it need not be uploaded
//! (distribution-spec, "Mounting a blob from another repository").
//!
//! A mount has succeeded only when the upstream answers 201; its 202 begins an upload, and the
//! client continues with that. The source is the repository that the client names. If that one
//! fails, or the client names none, other repositories of the registry that have the blob are
//! tried. Whether the client may pull from a source is decided in `routes/sources.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};

use super::PushError;
use super::answer::{ContentLocation, PushAnswer};
use super::calls::{begun_as_202, change, refused, send};
use super::sessions::{PushCaller, UploadSessions, new_id};
use crate::access::Grant;
use crate::cache::{Cache, Epoch};
use crate::oci::{Digest, Resource};
use crate::upstream::{ChangeCall, ChangePayload, ChangeTarget, UpstreamReply};

/// A blob to mount.
#[derive(Clone, Debug)]
pub struct MountRequest {
    /// The blob.
    pub digest: Digest,
    /// A grant to pull from the repository that the client names.
    pub from: Option<Grant>,
    /// Grants to pull from other repositories that may have the blob.
    pub others: Vec<Grant>,
    /// Whether the upstream may search for it. It searches what the credential of the request can
    /// read, so this takes a client that names no repository and has a credential of its own.
    pub anywhere: bool,
}

/// The blobs that were mounted since the start, and so not uploaded.
#[derive(Debug, Default)]
pub struct MountCount {
    blobs: AtomicU64,
    bytes: AtomicU64,
}

impl MountCount {
    fn add(&self, bytes: u64) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The number of blobs.
    pub fn blobs(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }

    /// The bytes of those blobs whose length is known.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Mounts blobs.
#[derive(Debug)]
pub struct BlobMounts {
    pub(super) cache: Cache,
    pub(super) sessions: Arc<UploadSessions>,
    pub(super) count: MountCount,
}

impl BlobMounts {
    /// POST with `mount`: mounts a blob, or begins an upload of it.
    ///
    /// # Errors
    ///
    /// [`PushError::Upstream`] if the upstream gave no usable answer.
    pub async fn mount(
        &self,
        caller: PushCaller<'_>,
        request: MountRequest,
    ) -> Result<PushAnswer, PushError> {
        let grant = caller.grant;
        let MountRequest { digest, from, others, anywhere } = request;
        let is_other = |source: &&Grant| {
            source.repository() != grant.repository()
                && from.as_ref().is_none_or(|from| from.repository() != source.repository())
        };
        let others = others.iter().filter(is_other).take(OTHERS_MAX);
        let mut sources: Vec<Option<&Grant>> = from.iter().chain(others).map(Some).collect();
        if sources.is_empty() || (anywhere && from.is_none()) {
            sources.push(None);
        }
        let asked = self.cache.changes().epoch();
        let mut begun: Option<UpstreamReply> = None;
        for source in sources {
            let response = try_mount(grant, &digest, source, anywhere).await?;
            match response.status {
                StatusCode::CREATED => {
                    cancel_begun(grant, begun).await;
                    let read_by = source.unwrap_or(grant);
                    return Ok(self.mounted(grant, read_by, digest, asked, response).await);
                }
                StatusCode::ACCEPTED => cancel_begun(grant, begun.replace(response)).await,
                // The refusal of one source says nothing about the upload that has begun.
                _ if begun.is_some() => {}
                _ => return refused(response),
            }
        }
        match begun {
            Some(response) => self.sessions.advance(caller, new_id()?, 0, response),
            None => Err(PushError::Internal("no mount was tried")),
        }
    }

    /// The answer to a mounted blob. The cache learns of it before the client does.
    async fn mounted(
        &self,
        grant: &Grant,
        read_by: &Grant,
        digest: Digest,
        asked: Epoch,
        response: UpstreamReply,
    ) -> PushAnswer {
        self.cache.changes().blob_pushed(grant, &digest, asked).await;
        let length = self.cache.blob_length(read_by, &digest).await;
        self.count.add(length.unwrap_or_default());
        PushAnswer::of(response).about(&digest).at(ContentLocation::Blob(digest)).mounted()
    }
}

/// Tries one source. The status of an upload that has begun is 202.
async fn try_mount(
    grant: &Grant,
    digest: &Digest,
    source: Option<&Grant>,
    anywhere: bool,
) -> Result<UpstreamReply, PushError> {
    let target = ChangeTarget::Resource(Resource::Upload(None));
    let change = change(grant, Method::POST, target, ChangePayload::Empty);
    let source = source.map(|source| source.repository().clone());
    // A digest has no character that a query must escape.
    let is_mount = source.is_some() || anywhere;
    let query = if is_mount { format!("mount={digest}") } else { String::new() };
    send(grant, ChangeCall { query, source, ..change }).await.map(begun_as_202)
}

/// Cancels an upload that no client will continue. If that fails, the registry ends it in time.
async fn cancel_begun(grant: &Grant, begun: Option<UpstreamReply>) {
    let Some(response) = begun else { return };
    let upstream = grant.registry().upstream().authoritative();
    if let Ok(location) = upstream.location_in(&response) {
        let target = ChangeTarget::Upload(location);
        drop(send(grant, change(grant, Method::DELETE, target, ChangePayload::Empty)).await);
    }
}

/// How many sources are tried that the client did not name. Each takes a round trip, for which the
/// client waits.
const OTHERS_MAX: usize = 2;
