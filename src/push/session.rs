//! The sealed state of an upload, which its client holds and can neither read nor forge.
//!
//! The upload itself is the upstream's. All that Larder must know of it is in the id that the
//! client sends back each time (AES-256-GCM-SIV), so nothing is stored and a restart ends no
//! upload. The id of another client's upload, or of one in another repository, does not open.
//!
//! Whether the upstream's location may be used is decided anew each time, in
//! `upstream/location.rs`.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The state of an upload, and its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UploadSession {
    /// Random; the key of the copy that is kept of the upload.
    pub(super) id: SessionId,
    pub(super) owner: SessionOwner,
    /// The upload's URL at the upstream. A secret.
    pub(super) location: String,
    /// The bytes that were sent on so far. A copy with fewer cannot become whole.
    pub(super) passed: u64,
    /// Seconds since 1970.
    pub(super) expires: u64,
}

/// The client and the path that an upload belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionOwner {
    pub(super) registry: String,
    pub(super) repository: String,
    /// The path by which the client reaches the repository.
    pub(super) door: String,
    /// The identity of the client, without its credential.
    pub(super) principal: String,
}

/// The random id of an upload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct SessionId(u128);

impl SessionId {
    /// A new id; `None` if the machine gives no random numbers.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).ok()?;
        Some(Self(u128::from_le_bytes(bytes)))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Seals sessions, and opens those that it has sealed.
pub(super) struct SessionSeal {
    key: RandomizedNonceKey,
}

impl SessionSeal {
    /// A seal by this secret, of any length; `None` if the library refuses it.
    pub(super) fn new(secret: &[u8]) -> Option<Self> {
        // The cipher needs a key of 32 bytes, without any pattern of the secret.
        let key = digest::digest(&digest::SHA256, secret);
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, key.as_ref()).ok()?;
        Some(Self { key })
    }

    /// A new secret of 32 bytes; `None` if the machine gives no random numbers.
    pub(super) fn fresh_secret() -> Option<Vec<u8>> {
        let mut secret = vec![0; 32];
        rand::fill(&mut secret).ok()?;
        Some(secret)
    }

    /// The session as its client gets it, in characters that a path need not escape. `None` if
    /// sealing fails.
    pub(super) fn seal(&self, session: &UploadSession) -> Option<String> {
        let mut bytes = serde_json::to_vec(session).ok()?;
        let nonce = self.key.seal_in_place_append_tag(Aad::from(VERSION), &mut bytes).ok()?;
        let sealed = [&VERSION[..], nonce.as_ref(), &bytes].concat();
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The session, if it was sealed here, belongs to `owner` and has not expired by `now`, in
    /// seconds since 1970.
    pub(super) fn open(
        &self,
        sealed: &str,
        owner: &SessionOwner,
        now: u64,
    ) -> Option<UploadSession> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let sealed = sealed.strip_prefix(&VERSION)?;
        let (nonce, bytes) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = bytes.to_vec();
        let nonce = Nonce::from(nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(VERSION), &mut bytes).ok()?;
        let session: UploadSession = serde_json::from_slice(opened).ok()?;
        (session.owner == *owner && now < session.expires).then_some(session)
    }
}

impl fmt::Debug for SessionSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSeal").finish_non_exhaustive()
    }
}

/// The version of the sealed form, so that it can change.
const VERSION: [u8; 1] = [1];

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> SessionOwner {
        SessionOwner {
            registry: "docker.io".to_owned(),
            repository: "o/a".to_owned(),
            door: "/v2/o/a".to_owned(),
            principal: "htpasswd:ann".to_owned(),
        }
    }

    fn session() -> UploadSession {
        let location = "https://up.test/v2/o/a/blobs/uploads/7?_state=secret".to_owned();
        UploadSession { id: SessionId(7), owner: owner(), location, passed: 0, expires: 1000 }
    }

    fn seal(secret: &[u8]) -> SessionSeal {
        SessionSeal::new(secret).unwrap()
    }

    #[test]
    fn a_sealed_session_opens_for_its_owner_until_it_expires() {
        let seal = seal(b"key");
        let sealed = seal.seal(&session()).unwrap();
        assert!(sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_ne!(sealed, seal.seal(&session()).unwrap(), "two seals of one session differ");

        assert_eq!(seal.open(&sealed, &owner(), 999), Some(session()));
        assert_eq!(seal.open(&sealed, &owner(), 1000), None);
    }

    #[test]
    fn the_session_of_another_owner_does_not_open() {
        let seal = seal(b"key");
        let sealed = seal.seal(&session()).unwrap();
        let other = || "other".to_owned();
        let owners = [
            SessionOwner { registry: other(), ..owner() },
            SessionOwner { repository: other(), ..owner() },
            SessionOwner { door: other(), ..owner() },
            SessionOwner { principal: other(), ..owner() },
        ];
        for owner in owners {
            assert_eq!(seal.open(&sealed, &owner, 0), None, "{owner:?}");
        }
        assert_eq!(SessionSeal::new(b"another key").unwrap().open(&sealed, &owner(), 0), None);
    }

    /// Every bit counts, and no made-up id opens.
    #[test]
    fn a_forged_or_cut_session_does_not_open() {
        let seal = seal(b"key");
        let sealed = URL_SAFE_NO_PAD.decode(seal.seal(&session()).unwrap()).unwrap();
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(seal.open(&URL_SAFE_NO_PAD.encode(&forged), &owner(), 0), None, "{at}");
        }
        for len in 0..sealed.len() {
            let cut = URL_SAFE_NO_PAD.encode(&sealed[..len]);
            assert_eq!(seal.open(&cut, &owner(), 0), None, "{len}");
        }
        for bad in ["", "7", "../x", "AQ==", "ä", &"A".repeat(10_000)] {
            assert_eq!(seal.open(bad, &owner(), 0), None, "{bad:.20}");
        }
    }
}
