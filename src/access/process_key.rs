//! Hashes of secrets that only this process can compute.
//!
//! A credential is cached under such a hash, so an attacker who reads a dump of the memory learns
//! no password and can test no guess. The key is random, never leaves the process and ends with
//! it. The hash is HMAC-SHA256, and this is the only file of the room that names the library. How
//! long anything is cached is not decided here.

use std::fmt;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use aws_lc_rs::rand::SystemRandom;

use crate::upstream::CredentialId;

/// The secret key of this process.
#[derive(Clone)]
pub(super) struct ProcessKey {
    key: Key,
}

impl ProcessKey {
    /// A new key; `None` if the system gives no random bytes.
    pub(super) fn random() -> Option<Self> {
        Key::generate(HMAC_SHA256, &SystemRandom::new()).ok().map(|key| Self { key })
    }

    /// The hash of these parts, in this order. Parts are hashed with their lengths, so moving a
    /// boundary between them gives another hash.
    pub(super) fn hash(&self, parts: &[&[u8]]) -> CredentialId {
        let mut hash = Context::with_key(&self.key);
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 32];
        // Both have the 32 bytes of SHA-256.
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
    fn a_hash_depends_on_the_boundaries_of_its_parts_and_on_the_key() {
        let (one, other) = (ProcessKey::random().unwrap(), ProcessKey::random().unwrap());
        let hash = one.hash(&[b"ab", b"c"]);
        assert_eq!(hash, one.hash(&[b"ab", b"c"]));
        assert_ne!(hash, one.hash(&[b"a", b"bc"]));
        assert_ne!(hash, one.hash(&[b"abc"]));
        assert_ne!(hash, other.hash(&[b"ab", b"c"]));
    }
}
