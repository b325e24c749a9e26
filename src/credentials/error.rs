//! Why there is no credential.

use std::fmt;
use std::sync::Arc;

/// Why a source gives no credential. Its text is for operators, and has no secret in it.
#[derive(Clone, thiserror::Error)]
#[error("{reason}")]
pub struct CredentialError {
    reason: Arc<str>,
}

impl CredentialError {
    /// An error for this reason.
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into().into() }
    }

    /// Whether both are clones of one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.reason, &other.reason)
    }
}

impl fmt::Debug for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.reason, f)
    }
}
