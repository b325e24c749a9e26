//! What the push path lets an operator choose.

use secrecy::SecretSlice;

/// What the push path needs to know, whatever the registry.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// What uploads under way are sealed with; `None` for a key of the cache directory's own.
    pub session_key: Option<SecretSlice<u8>>,
}

impl PushOptions {
    /// A key with fewer bytes could be guessed.
    pub const SESSION_KEY_BYTES_MIN: usize = 32;
}
