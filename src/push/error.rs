//! Why a push has no answer of the registry.
//!
//! An error status of the registry is an answer (`answer.rs`), not an error here. The status that
//! the client reads is decided in `routes/error.rs`.

use crate::http::BodyError;
use crate::upstream;

/// Why a push was not sent on, or got no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The client, or all clients together, have too much in flight.
    #[error("too many pushes are in flight")]
    Busy,
    /// The client's body ended early.
    #[error("the request body ended early: {0}")]
    Body(BodyError),
    /// A digest in the request is missing or malformed.
    #[error("{0}")]
    Digest(&'static str),
    /// The request is not as the protocol has it.
    #[error("{0}")]
    Invalid(&'static str),
    /// A fault of Larder or its machine.
    #[error("internal error: {0}")]
    Internal(&'static str),
    /// A part that ends before it begins, or that is beyond any blob.
    #[error("invalid range: {0}")]
    Range(&'static str),
    /// The body is too long to be sent on.
    #[error("the body is longer than {max} bytes, the most that is sent on")]
    TooLong {
        /// The limit in bytes.
        max: u64,
    },
    /// The upload was not begun here, belongs to another client, or has expired.
    #[error("there is no such upload")]
    UnknownUpload,
    /// The upstream gave no usable answer.
    #[error(transparent)]
    Upstream(#[from] upstream::UpstreamError),
}
