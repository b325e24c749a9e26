//! The changes here of a push or a delete that the upstream has accepted.
//!
//! Called before the client is told, so that whoever asks after that sees what was pushed, and
//! nothing that was asked before. Nothing here asks the upstream.

use std::sync::Arc;

use bytes::Bytes;

use crate::access::Grant;
use crate::cache::epoch::Epoch;
use crate::cache::error::warn_of;
use crate::cache::hot::HotTag;
use crate::cache::key::{MutableRecord, RecordKey};
use crate::cache::mutable::revalidate::LastValidated;
use crate::cache::{Cache, CacheError, Shared};
use crate::oci::{Digest, MediaType, Tag};
use crate::store::{TagRecord, VerifiedContent};

impl Cache {
    /// What is known of these things does not hold any more: it is forgotten, and what is being
    /// asked about them now is not kept. The next who wants them asks anew.
    pub async fn raise(&self, grant: &Grant, what: &[MutableRecord]) {
        for what in what {
            self.shared.overtake(grant, what.clone(), None).await;
        }
    }

    /// The upstream has taken this manifest, under these tags or none: it is held from now on, and
    /// the tags mean it. If another push or a delete changed one of them after `since`, the order
    /// of the answers does not tell which the upstream took last, so that one is forgotten. The
    /// repository's lists are to be asked for anew.
    ///
    /// # Errors
    ///
    /// [`CacheError::Manifest`] when it is none that could be served. The tags are forgotten then,
    /// as by [`Cache::raise`], and the push is as good as it was.
    pub async fn pushed(
        &self,
        grant: &Grant,
        media_type: Option<MediaType>,
        manifest: VerifiedContent<Bytes>,
        tags: &[Tag],
        since: Epoch,
    ) -> Result<(), CacheError> {
        let digest = manifest.digest().clone();
        // Before the tags: a tag that names what is not held would be asked for.
        let kept = self.shared.keep(grant.clone(), media_type, manifest, since).await;
        for tag in tags {
            let meaning = kept.is_ok().then(|| (digest.clone(), since));
            self.shared.overtake(grant, MutableRecord::Tag(tag.clone()), meaning).await;
        }
        self.shared.overtake(grant, MutableRecord::Lists, None).await;
        kept.map(drop)
    }
}

impl Shared {
    /// Whether this is what a tag means, as far as is known: then the order of two pushes does not
    /// matter.
    fn means(&self, grant: &Grant, what: &MutableRecord, digest: &Digest) -> bool {
        let MutableRecord::Tag(tag) = what else { return false };
        let hot = self.hot.tags.get(&RecordKey::tag(grant, tag));
        hot.is_some_and(|hot| hot.digest.as_ref() == Some(digest))
    }

    /// Forgets what is known, or puts a digest in its place, if no other has taken that since.
    async fn overtake(
        self: &Arc<Self>,
        grant: &Grant,
        what: MutableRecord,
        meaning: Option<(Digest, Epoch)>,
    ) {
        let (shared, grant) = (Arc::clone(self), grant.clone());
        let overtake = move || {
            let subject = RecordKey::mutable(&grant, &what);
            let (registry, repository) = (grant.registry().name(), grant.repository());
            shared.epochs.exclusively(&subject, || {
                let now = shared.clock.now();
                let digest = meaning.filter(|(digest, since)| {
                    shared.epochs.is_current(|| subject.clone(), *since)
                        || shared.means(&grant, &what, digest)
                });
                let epoch = shared.epochs.invalidate(&subject, now);
                let MutableRecord::Tag(tag) = &what else {
                    // In memory they are of another generation.
                    warn_of(shared.store.drop_lists(registry, repository), "cannot drop lists");
                    return;
                };
                let dropped = shared.store.drop_views(registry, repository, tag);
                warn_of(dropped, "cannot drop a tag's other records");
                let Some((digest, _)) = digest else {
                    shared.hot.tags.remove(&subject);
                    let dropped = shared.store.drop_tag(registry, repository, tag, None);
                    return warn_of(dropped, "cannot drop a tag record");
                };
                let record = TagRecord { digest: Some(digest), checked_at: now };
                let checked = LastValidated::now(now, epoch);
                let hot = HotTag { digest: record.digest.clone(), checked };
                shared.hot.tags.put(subject.clone(), Arc::new(hot));
                let put = shared.store.put_tag(registry, repository, tag, None, &record);
                warn_of(put, "cannot keep a tag record");
            });
        };
        // A panic in it has been reported; the record is invalidated first.
        drop(tokio::task::spawn_blocking(overtake).await);
    }
}
