//! Why a push cannot be passed on, or what is wrong with it before it is.
//!
//! What the registry itself says to a push is no error here, but its answer.

use crate::http::BodyError;
use crate::upstream;

/// Why there is no answer of the registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The request's body broke off.
    #[error("the request's body broke off: {0}")]
    Body(BodyError),
    /// A digest in the request is missing, or none.
    #[error("{0}")]
    Digest(&'static str),
    /// What stands in the request is not what the protocol has there.
    #[error("{0}")]
    Invalid(&'static str),
    /// Our own fault.
    #[error("internal fault: {0}")]
    Internal(&'static str),
    /// A part that begins behind its end, or at no possible place.
    #[error("the part is none: {0}")]
    Range(&'static str),
    /// More than is passed on.
    #[error("it is longer than {max} bytes, which is as much as is passed on")]
    TooLong {
        /// The limit in bytes.
        max: u64,
    },
    /// There is no such upload: it was made up, is another's, has ended or expired.
    #[error("there is no such upload")]
    UnknownUpload,
    /// The registry gave no answer, or one that nothing can be done with.
    #[error(transparent)]
    Upstream(#[from] upstream::UpstreamError),
}
