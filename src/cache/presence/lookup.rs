//! Asking the upstream whether a repository has a blob, once for all requests that wait for it.

use std::sync::Arc;

use super::table::PresenceTable;
use http::StatusCode;

use crate::access::Grant;
use crate::cache::epoch::{Epoch, EpochTable};
use crate::cache::error::CacheError;
use crate::cache::flight::{FlightTable, Sharing, ask_shared};
use crate::cache::key::RecordKey;
use crate::cache::question::{deadline, question_of};
use crate::cache::tasks::DetachedTasks;
use crate::oci::{Digest, MANIFEST_ACCEPT, MANIFEST_BYTES_MAX, Reference, Resource};
use crate::upstream::{Answer, Question, ReadMethod, UpstreamError, UpstreamIndex};

/// The look-ups in flight, and the table that has their results.
#[derive(Debug)]
pub(in crate::cache) struct BlobLookup {
    presence: Arc<PresenceTable>,
    epochs: Arc<EpochTable>,
    flights: FlightTable<(RecordKey, Epoch), FoundBlob>,
}

impl BlobLookup {
    pub(in crate::cache) fn new(
        presence: Arc<PresenceTable>,
        epochs: Arc<EpochTable>,
        tasks: DetachedTasks,
    ) -> Self {
        Self { presence, epochs, flights: FlightTable::new(tasks) }
    }

    /// Asks the upstream whether the repository has the blob, of `known` bytes where that is known,
    /// and notes a yes that is proven. Returns the length in bytes where the upstream states it. A
    /// 200 that proves nothing is an error if `known` could have proven it, and if it is a page.
    pub(in crate::cache) async fn look_up(
        &self,
        grant: &Grant,
        digest: &Digest,
        known: Option<u64>,
    ) -> Result<Option<u64>, CacheError> {
        Ok(self.ask(grant, digest, known).await?.length)
    }

    /// As [`BlobLookup::look_up`], before bytes are served that another repository brought: any
    /// answer that proves nothing is an error.
    pub(in crate::cache) async fn prove(
        &self,
        grant: &Grant,
        digest: &Digest,
        known: Option<u64>,
    ) -> Result<(), CacheError> {
        let found = self.ask(grant, digest, known).await?;
        // No bytes are no secret.
        let is_empty = digest.is_of_nothing() && found.length == Some(0);
        if found.is_proven || is_empty { Ok(()) } else { Err(unproven(grant, StatusCode::OK)) }
    }

    /// Pulls a manifest that is held for the repository and names the blob from the upstream, and
    /// returns whether the upstream has it. A cache there (ECR's pull-through rules, Quay's proxy
    /// organisations) may give a blob only after such a pull, which no client makes while the
    /// manifest is held here.
    pub(in crate::cache) async fn ask_for_manifest_naming(
        &self,
        grant: &Grant,
        digest: &Digest,
    ) -> bool {
        let Some(manifest) = self.presence.manifest_naming(grant, digest).await else {
            return false;
        };
        let reference = Reference::Digest(manifest);
        let resource = Resource::Manifest(reference.clone());
        let accept = Some(MANIFEST_ACCEPT.to_owned());
        let question = Question { accept, ..question_of(grant, ReadMethod::Get, resource) };
        let Ok(mut answer) = grant.registry().upstream().ask(&question, deadline()).await else {
            return false;
        };
        // A pull that is cut off may be none to that cache.
        let mut left = MANIFEST_BYTES_MAX;
        while let Ok(Some(chunk)) = answer.body.chunk().await
            && chunk.len() <= left
        {
            left -= chunk.len();
        }
        answer.is_of_manifest(&reference)
    }

    async fn ask(
        &self,
        grant: &Grant,
        digest: &Digest,
        known: Option<u64>,
    ) -> Result<FoundBlob, CacheError> {
        CacheError::if_offline(grant)?;
        let epoch = self.epochs.of(|| RecordKey::contents(grant));
        let ask = |sharing: Sharing| {
            let key = sharing.key(RecordKey::digest(grant, digest), grant);
            let (presence, epochs) = (Arc::clone(&self.presence), Arc::clone(&self.epochs));
            let wanted = WantedBlob { grant: grant.clone(), digest: digest.clone(), known };
            self.flights.join((key, epoch), || ask_upstream(presence, epochs, wanted, epoch))
        };
        ask_shared(grant, ask).await.1
    }
}

/// A blob, and its length where it is known.
struct WantedBlob {
    grant: Grant,
    digest: Digest,
    known: Option<u64>,
}

/// The upstream's word on a blob.
#[derive(Clone, Copy, Debug)]
struct FoundBlob {
    /// In bytes, where it is stated.
    length: Option<u64>,
    /// Whether the answer is about this blob and not some page.
    is_proven: bool,
}

fn unproven(grant: &Grant, status: StatusCode) -> CacheError {
    let reason = "it states neither the digest of the blob nor its length";
    UpstreamError::unexpected(grant.registry().upstream().host(), status, reason).into()
}

async fn ask_upstream(
    presence: Arc<PresenceTable>,
    epochs: Arc<EpochTable>,
    wanted: WantedBlob,
    since: Epoch,
) -> Result<FoundBlob, CacheError> {
    let WantedBlob { grant, digest, known } = wanted;
    let resource = Resource::Blob(digest.clone());
    // The registry has just said so, to confirm the client's right.
    if let Some(head) = epochs.head_of(&grant, &resource)
        && head.place == UpstreamIndex::Authoritative
    {
        presence.confirm(&grant, &digest, head.length, since).await;
        return Ok(FoundBlob { length: head.length, is_proven: true });
    }
    let ask = |method| ask_for(&grant, &resource, method);
    let is_proof = |answer: &Answer| answer.is_of_blob(&digest, known);
    let answer = match ask(ReadMethod::Head).await {
        // The headers of a GET say the same, and in some registries more. Its body is not read.
        Ok(head) if known.is_some() && !is_proof(&head) => ask(ReadMethod::Get).await?,
        Err(error) if error.is_without_head() => ask(ReadMethod::Get).await?,
        other => other?,
    };
    // A length that cannot be says nothing: some registries answer a HEAD with 0.
    let length = answer.length().filter(|length| *length > 0 || digest.is_of_nothing());
    let is_proven = is_proof(&answer);
    if is_proven {
        presence.confirm(&grant, &digest, length, since).await;
    } else if (known.is_some() && !digest.is_of_nothing()) || answer.is_page() {
        return Err(unproven(&grant, answer.status));
    }
    Ok(FoundBlob { length, is_proven })
}

async fn ask_for(
    grant: &Grant,
    resource: &Resource,
    method: ReadMethod,
) -> Result<Answer, UpstreamError> {
    let question = question_of(grant, method, resource.clone());
    let upstream = grant.registry().upstream();
    // A mirror that has the blob is no reason to skip its upload to the registry.
    if grant.registry().takes_pushes() {
        upstream.authoritative().ask(&question, deadline()).await
    } else {
        upstream.ask(&question, deadline()).await
    }
}
