//! Hashes of secrets that only this process can compute.
//!
//! What is remembered of a credential is such a hash: whoever reads the memory, or its keys in a
//! dump, learns no password and can try none. The key is random, never leaves the process and ends
//! with it. The only place that knows which library hashes.

use std::fmt;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use aws_lc_rs::rand::SystemRandom;

use crate::upstream::CredentialId;

/// The key of this process.
#[derive(Clone)]
pub(super) struct ProcessKey {
    key: Key,
}

impl ProcessKey {
    /// A new key; `None` if the system gives no random bytes.
    pub(super) fn random() -> Option<Self> {
        Key::generate(HMAC_SHA256, &SystemRandom::new()).ok().map(|key| Self { key })
    }

    /// The hash of these parts, in this order; other boundaries between them give another hash.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> CredentialId {
        let mut hash = Context::with_key(&self.key);
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 32];
        // Both are as long as SHA-256 is.
        for (byte, of_hash) in bytes.iter_mut().zip(hash.sign().as_ref()) {
            *byte = *of_hash;
        }
        CredentialId::new(bytes)
    }
}

impl fmt::Debug for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_of_its_parts_and_of_its_process() {
        let (one, other) = (ProcessKey::random().unwrap(), ProcessKey::random().unwrap());
        let tag = one.tag(&[b"ab", b"c"]);
        assert_eq!(tag, one.tag(&[b"ab", b"c"]));
        assert_ne!(tag, one.tag(&[b"a", b"bc"]));
        assert_ne!(tag, one.tag(&[b"abc"]));
        assert_ne!(tag, other.tag(&[b"ab", b"c"]));
    }
}
