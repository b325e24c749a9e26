//! Fuzz target of the sealed state of uploads, which clients hold.

use super::session::{SessionOwner, SessionSeal};

/// An upload id: none that was not sealed here opens.
pub(crate) fn session(bytes: &[u8]) {
    let Some(seal) = SessionSeal::new(b"the key of a fuzz target") else { return };
    let owner = SessionOwner {
        registry: "docker.io".to_owned(),
        repository: "o/a".to_owned(),
        door: "/v2/o/a".to_owned(),
        principal: "htpasswd:ann".to_owned(),
    };
    assert!(seal.open(&String::from_utf8_lossy(bytes), &owner, 0).is_none());
}
