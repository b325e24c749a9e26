//! Asking the upstream whether a repository has a blob, once for all requests that wait for it.

use std::sync::Arc;

use super::table::PresenceTable;
use crate::access::Grant;
use crate::cache::epoch::{Epoch, EpochTable};
use crate::cache::error::CacheError;
use crate::cache::flight::{FlightTable, Sharing, ask_shared};
use crate::cache::key::RecordKey;
use crate::cache::question::{deadline, question_of};
use crate::cache::tasks::DetachedTasks;
use crate::oci::{Digest, Resource};
use crate::upstream::{ReadMethod, UpstreamIndex};

/// The look-ups in flight, and the table that has their results.
#[derive(Debug)]
pub(in crate::cache) struct BlobLookup {
    presence: Arc<PresenceTable>,
    epochs: Arc<EpochTable>,
    flights: FlightTable<(RecordKey, Epoch), Option<u64>>,
}

impl BlobLookup {
    pub(in crate::cache) fn new(
        presence: Arc<PresenceTable>,
        epochs: Arc<EpochTable>,
        tasks: DetachedTasks,
    ) -> Self {
        Self { presence, epochs, flights: FlightTable::new(tasks) }
    }

    /// Asks the upstream whether the repository has the blob, notes a yes, and returns the length
    /// in bytes, where the upstream states it.
    pub(in crate::cache) async fn look_up(
        &self,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Option<u64>, CacheError> {
        CacheError::if_offline(grant)?;
        let epoch = self.epochs.of(|| RecordKey::contents(grant));
        let ask = |sharing: Sharing| {
            let key = sharing.key(RecordKey::digest(grant, digest), grant);
            let (presence, epochs) = (Arc::clone(&self.presence), Arc::clone(&self.epochs));
            let (grant, digest) = (grant.clone(), digest.clone());
            self.flights.join((key, epoch), || ask_length(presence, epochs, grant, digest, epoch))
        };
        ask_shared(grant, ask).await.1
    }
}

async fn ask_length(
    presence: Arc<PresenceTable>,
    epochs: Arc<EpochTable>,
    grant: Grant,
    digest: Digest,
    since: Epoch,
) -> Result<Option<u64>, CacheError> {
    let upstream = grant.registry().upstream();
    let resource = Resource::Blob(digest.clone());
    // The registry has just said so, to confirm the client's right.
    if let Some(head) = epochs.head_of(&grant, &resource)
        && head.place == UpstreamIndex::Authoritative
    {
        presence.confirm(&grant, &digest, head.length, since).await;
        return Ok(head.length);
    }
    let ask = async |method| {
        let question = question_of(&grant, method, resource.clone());
        // A mirror that has the blob is no reason to skip its upload to the registry.
        if grant.registry().takes_pushes() {
            upstream.authoritative().ask(&question, deadline()).await
        } else {
            upstream.ask(&question, deadline()).await
        }
    };
    let answer = match ask(ReadMethod::Head).await {
        // The headers of a GET say the same. Its body is not read.
        Err(error) if error.is_without_head() => ask(ReadMethod::Get).await,
        other => other,
    };
    // A length that cannot be says nothing: some registries answer a HEAD with 0.
    let length = answer?.length().filter(|length| *length > 0 || digest.is_of_nothing());
    presence.confirm(&grant, &digest, length, since).await;
    Ok(length)
}
