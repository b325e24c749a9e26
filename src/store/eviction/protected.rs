//! The content that no upstream could give again, as far as is known now: the news of registries
//! and tags, and the marks that they leave in the order of eviction.
//!
//! How long and how much of it is protected is decided in `protection.rs`, the contents of images
//! whose tags are gone are found in `vanished.rs`. Nothing here looks at the disk.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::class::{BlobClass, BlobHold, RegistryGroup};
use super::key::BlobKey;
use super::order::{EvictionOrder, LOOK_BLOBS};
use super::protection::{ProtectionLimits, ProtectionRules};
use crate::oci::{Digest, RegistryName, RepositoryName, Tag};
use crate::store::space::FreeSpace;

/// Tells the registries of which nothing can be fetched now.
#[derive(Clone)]
pub struct UpstreamStates(Arc<dyn Fn() -> Vec<RegistryName> + Send + Sync>);

impl UpstreamStates {
    /// `unavailable` is asked once a second, and must not block.
    pub fn new(unavailable: impl Fn() -> Vec<RegistryName> + Send + Sync + 'static) -> Self {
        Self(Arc::new(unavailable))
    }
}

impl fmt::Debug for UpstreamStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamStates").finish_non_exhaustive()
    }
}

/// A tag that the upstream has no longer, or has again.
pub(super) type TagNews = (RegistryName, RepositoryName, Tag);

/// The rules of protection, and what they are to be applied to.
#[derive(Debug)]
pub(super) struct LostContent {
    rules: Mutex<ProtectionRules>,
    states: Mutex<Option<UpstreamStates>>,
    news: Mutex<LostNews>,
}

/// The changes since the last look.
#[derive(Debug, Default)]
pub(super) struct LostNews {
    /// Whether all repositories are to be looked at.
    pub(super) everywhere: bool,
    pub(super) tags: Vec<TagNews>,
    /// Whether the time of protection is another one.
    has_new_limits: bool,
}

impl LostContent {
    pub(super) fn new(limits: ProtectionLimits) -> Self {
        let (rules, states, news) = Default::default();
        let this = Self { rules, states, news };
        this.set_limits(limits);
        this
    }

    /// The limits from now on.
    pub(super) fn set_limits(&self, limits: ProtectionLimits) {
        let before = std::mem::replace(&mut self.rules.lock().limits, limits);
        let mut news = self.news.lock();
        news.has_new_limits |= before != limits;
        news.everywhere |= limits.is_on() && !before.is_on();
    }

    /// The one to ask from now on.
    pub(super) fn set_states(&self, states: UpstreamStates) {
        *self.states.lock() = Some(states);
    }

    /// The registries of which nothing can be fetched now; none where nothing is protected.
    pub(super) fn unavailable(&self) -> Vec<RegistryName> {
        let is_on = self.rules.lock().limits.is_on();
        let states = self.states.lock().clone().filter(|_| is_on);
        states.map(|states| states.0()).unwrap_or_default()
    }

    /// The registries that can give nothing from now on.
    pub(super) fn set_unavailable(&self, groups: &[RegistryGroup]) {
        self.rules.lock().set_unavailable(groups);
    }

    /// Has the contents of all tags that are gone be found.
    pub(super) fn look_everywhere(&self) {
        self.news.lock().everywhere = true;
    }

    /// Notes that the upstream has a tag no longer, or has it again.
    pub(super) fn note_tag(&self, registry: &RegistryName, repository: &RepositoryName, tag: &Tag) {
        let mut news = self.news.lock();
        if news.tags.len() < NEWS_MAX {
            news.tags.push((registry.clone(), repository.clone(), tag.clone()));
        } else {
            news.everywhere = true;
        }
    }

    /// The tags to look at; none where nothing is protected.
    pub(super) fn take_tags(&self) -> LostNews {
        let is_on = self.rules.lock().limits.is_on();
        let mut news = self.news.lock();
        let tags = std::mem::take(&mut news.tags);
        let everywhere = std::mem::take(&mut news.everywhere);
        if is_on {
            LostNews { everywhere, tags, has_new_limits: false }
        } else {
            LostNews::default()
        }
    }

    /// Marks what was not pulled for too long to be protected, if it `is_time` for that or the
    /// limits are others.
    pub(super) fn mark_idle(&self, order: &Mutex<EvictionOrder<BlobKey>>, now: u32, is_time: bool) {
        let has_new_limits = std::mem::take(&mut self.news.lock().has_new_limits);
        if !self.rules.lock().limits.is_on() || !(is_time || has_new_limits) {
            return;
        }
        let mut from = 0;
        loop {
            // Others have the locks in between.
            let rules = self.rules.lock();
            let mut order = order.lock();
            if from >= order.len() {
                return;
            }
            let is_wrong = |class: BlobClass, used| rules.is_mismarked(class, used, now);
            for key in order.choose(from, LOOK_BLOBS, is_wrong) {
                if let Some(class) = order.class(&key) {
                    order.set_class(&key, BlobClass { is_idle: !class.is_idle, ..class });
                }
            }
            from += LOOK_BLOBS;
        }
    }

    /// The blob that goes next of those that are meant, protected ones last.
    pub(super) fn next(
        &self,
        order: &Mutex<EvictionOrder<BlobKey>>,
        space: &FreeSpace,
        is_meant: impl Fn(BlobClass) -> bool,
    ) -> Option<BlobKey> {
        let rules = self.rules.lock();
        let max = space.part_of_most(rules.limits.amount);
        rules.next(&order.lock(), is_meant, max).cloned()
    }

    /// Bytes of the blobs that go last.
    pub(super) fn bytes(&self, order: &Mutex<EvictionOrder<BlobKey>>) -> u64 {
        let rules = self.rules.lock();
        order.lock().bytes_of(|class| rules.protects(class))
    }
}

/// Marks contents of an image whose tag the upstream has no longer, or has again.
pub(super) fn set_vanished<'d>(
    order: &mut EvictionOrder<BlobKey>,
    digests: impl IntoIterator<Item = &'d Digest>,
    is_gone: bool,
) {
    for key in digests.into_iter().map(BlobKey::of) {
        let Some(class) = order.class(&key) else { continue };
        let hold = match (class.hold, is_gone) {
            (BlobHold::Free, true) => BlobHold::Vanished,
            (BlobHold::Vanished, false) => BlobHold::Free,
            (hold, _) => hold,
        };
        order.set_class(&key, BlobClass { hold, ..class });
    }
}

/// Tags that wait to be looked at; beyond it, all repositories are.
const NEWS_MAX: usize = 1024;
