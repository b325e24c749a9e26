//! The options of the push path.

use secrecy::SecretSlice;

/// The options of the push path that are the same for every registry.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// The key that seals upload sessions; `None` for one that the cache directory keeps. Several
    /// instances behind one name need the same key.
    pub session_key: Option<SecretSlice<u8>>,
}

impl PushOptions {
    /// The shortest key, in bytes: a shorter one could be guessed.
    pub const SESSION_KEY_BYTES_MIN: usize = 32;
}
