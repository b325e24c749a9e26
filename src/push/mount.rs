//! Blobs that the registry has in another repository, and need not be sent.
//!
//! A mount is done only when the registry says 201; its 202 has opened an upload, which the client
//! goes on with. The source is the one that the client names. Where that does not do, or it names
//! none, it is any other repository of the registry that is known to have the blob, if the client
//! may read there now.

use http::{Method, StatusCode};

use super::answer::{ContentLocation, PushAnswer};
use super::uploads::{PushCaller, change, new_id, refused, send};
use super::{PushError, PushService};
use crate::access::Grant;
use crate::cache::Epoch;
use crate::oci::{Digest, Resource};
use crate::upstream::{ChangeCall, ChangePayload, ChangeTarget, UpstreamReply};

/// A blob that may be elsewhere in the registry.
#[derive(Clone, Debug)]
pub struct MountRequest {
    /// The blob.
    pub digest: Digest,
    /// Leave to read in the repository that the client says has it.
    pub from: Option<Grant>,
    /// Leave to read in others that may have it.
    pub others: Vec<Grant>,
    /// Whether the registry may look for it itself, where no repository is named.
    pub anywhere: bool,
}

impl PushService {
    /// POST with `mount`: has the registry take a blob from one of its repositories, or begins an
    /// upload.
    pub async fn mount(
        &self,
        grant: &Grant,
        caller: PushCaller<'_>,
        mount: MountRequest,
    ) -> Result<PushAnswer, PushError> {
        let MountRequest { digest, from, others, anywhere } = mount;
        let is_other = |source: &&Grant| {
            source.repository() != grant.repository()
                && from.as_ref().is_none_or(|from| from.repository() != source.repository())
        };
        let others = others.iter().filter(is_other).take(TRIES_MAX);
        let named = from.iter().chain(others);
        let mut sources: Vec<Option<&Grant>> = named.map(Some).collect();
        if sources.is_empty() || (anywhere && from.is_none()) {
            sources.push(None);
        }
        let asked = self.shared.cache.epoch();
        let mut begun: Option<UpstreamReply> = None;
        for source in sources {
            let said = self.try_mount(grant, &digest, source, anywhere).await?;
            match said.status {
                StatusCode::CREATED => {
                    self.cancel_begun(grant, begun).await;
                    return Ok(self.mounted(grant, (digest, asked), source, said).await);
                }
                StatusCode::ACCEPTED => self.cancel_begun(grant, begun.replace(said)).await,
                // What one source was refused for says nothing about uploading.
                _ if begun.is_some() => {}
                _ => return refused(said),
            }
        }
        match begun {
            Some(said) => self.goes_on(grant, caller, (new_id()?, 0), said),
            None => Err(PushError::Internal("no mount was tried")),
        }
    }

    async fn try_mount(
        &self,
        grant: &Grant,
        digest: &Digest,
        source: Option<&Grant>,
        anywhere: bool,
    ) -> Result<UpstreamReply, PushError> {
        let target = ChangeTarget::Resource(Resource::Upload(None));
        let change = change(grant, Method::POST, target, ChangePayload::Empty);
        let source = source.map(|source| source.repository().clone());
        // Digests hold no character that a query would have to escape, and names but the slash.
        let query = match &source {
            Some(from) => {
                let from = from.as_str().replace('/', "%2F");
                format!("mount={digest}&from={from}")
            }
            None if anywhere => format!("mount={digest}"),
            None => String::new(),
        };
        send(grant, ChangeCall { query, source, ..change }).await
    }

    /// The registry has the blob in this repository, too.
    async fn mounted(
        &self,
        grant: &Grant,
        (digest, asked): (Digest, Epoch),
        source: Option<&Grant>,
        said: UpstreamReply,
    ) -> PushAnswer {
        let cache = &self.shared.cache;
        cache.blob_pushed(grant, &digest, asked).await;
        let length = cache.length(source.unwrap_or(grant), &digest).await;
        self.shared.mounts.count(length.unwrap_or_default());
        PushAnswer::of(said).about(&digest).at(ContentLocation::Blob(digest)).mounted()
    }

    /// Ends an upload that nobody will go on with. Registries end it by themselves, if need be.
    async fn cancel_begun(&self, grant: &Grant, begun: Option<UpstreamReply>) {
        let Some(said) = begun else { return };
        let upstream = grant.registry().upstream().authoritative();
        if let Ok(location) = upstream.location_in(&said) {
            let target = ChangeTarget::Upload(location);
            drop(send(grant, change(grant, Method::DELETE, target, ChangePayload::Empty)).await);
        }
    }
}

/// How many repositories are tried that the client did not name: each takes a round trip that the
/// client waits for.
const TRIES_MAX: usize = 2;
