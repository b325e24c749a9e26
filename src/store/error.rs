//! Failures of the cache directory.

use std::io;
use std::path::PathBuf;

use crate::oci::Digest;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file operation failed.
    #[error("cannot use the cache directory: {path}")]
    Io {
        /// The file or directory that failed.
        path: PathBuf,
        /// The fault beneath.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("the cache directory {dir} is in use by another larder")]
    Locked {
        /// The cache directory.
        dir: PathBuf,
    },
}

/// Some bytes are not what their digest says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {want}, got {got}")]
pub struct DigestMismatch {
    /// The digest that was asked for.
    pub want: Digest,
    /// The digest that the bytes have.
    pub got: Digest,
}
