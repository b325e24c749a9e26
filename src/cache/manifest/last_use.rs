//! When a manifest in memory was last noted as used, and by which reference.
//!
//! The index and the order of eviction know uses by the second. A machine that asks for the same
//! tag a thousand times a second has noted all that there is with its first request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::clock::unix_seconds;
use crate::oci::Reference;

/// The last use that was noted: the second in the upper half, a hash of the reference in the lower.
#[derive(Debug, Default)]
pub(in crate::cache) struct LastUse(AtomicU64);

impl LastUse {
    /// Whether the use of a reference is the first of this second, or follows one of another. Two
    /// references of one manifest with the same hash count as one within a second.
    pub(in crate::cache) fn is_first(&self, reference: &Reference, now: SystemTime) -> bool {
        let this = unix_seconds(now) << 32 | u64::from(hash_of(reference));
        self.0.load(Ordering::Relaxed) != this && self.0.swap(this, Ordering::Relaxed) != this
    }
}

impl Clone for LastUse {
    /// A copy of a manifest has no use of its own yet.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// FNV-1a of a tag. A digest has one hash, as a manifest has one digest.
fn hash_of(reference: &Reference) -> u32 {
    let Reference::Tag(tag) = reference else { return 0 };
    let add = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619);
    tag.as_str().as_bytes().iter().fold(2_166_136_261, add)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_use_is_noted_once_in_a_second_for_each_reference() {
        let last = LastUse::default();
        let [latest, edge] = ["latest", "edge"].map(|tag| Reference::Tag(tag.parse().unwrap()));
        let digest = Reference::Digest(crate::oci::Digest::of(crate::oci::Algorithm::Sha256, b"x"));
        let second = |at: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + at);
        for (reference, at, want) in [
            (&latest, 0, true),
            (&latest, 0, false),
            (&edge, 0, true),
            (&digest, 0, true),
            (&digest, 0, false),
            (&latest, 1, true),
            (&latest, 1, false),
            (&latest, 3, true),
        ] {
            assert_eq!(last.is_first(reference, second(at)), want, "{reference:?} at {at}");
        }
        assert!(last.clone().is_first(&latest, second(3)));
    }
}
