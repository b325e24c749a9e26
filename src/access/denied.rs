//! Why a client is denied access.
//!
//! One enum for logins and for rights. It says what happened; the status that a client reads is
//! decided in `routes/error.rs`, because a client that may not know of a repository gets a 404.

use std::time::Duration;

use crate::oci::RegistryName;
use crate::upstream::UpstreamError;

/// Why a client may not do what it asks for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessDenied {
    /// The user or the password is wrong, or the header is not readable as RFC 7617 has it.
    #[error("the user name or the password is wrong")]
    BadCredentials,
    /// There is more than one `Authorization` header, so two readers could see two users.
    #[error("there is more than one `Authorization` header")]
    DuplicateHeader,
    /// The registry's `allow` and `deny` exclude the repository; clients read that it does not
    /// exist.
    #[error("the registry's `allow` and `deny` exclude this repository")]
    Excluded,
    /// Too many logins wait for their passwords to be verified.
    #[error("too many logins at once")]
    LoginQueueFull,
    /// The client is anonymous, and anonymous clients may not do this.
    #[error("login required")]
    LoginRequired,
    /// The user may read in the repository, but no rule allows this action.
    #[error("no `[[access.rule]]` permits this user this action in this repository")]
    NoRuleForAction,
    /// No rule lets the user read in the repository; to this user it does not exist.
    #[error("no `[[access.rule]]` permits this user anything in this repository")]
    NoRuleForRepository,
    /// The registry has not confirmed that the client may read in the repository; to this client
    /// it does not exist.
    #[error("the registry has not confirmed that this client may read in this repository")]
    NotConfirmed,
    /// Too many logins have failed.
    #[error("too many failed logins")]
    RateLimited {
        /// How long until the next login is tried.
        wait: Duration,
    },
    /// The registry takes no pushes or deletions through Larder.
    #[error("`{registry}` takes no pushes here: `push = true` in its table would pass them on")]
    ReadOnly {
        /// The registry.
        registry: RegistryName,
    },
    /// The upstream, which alone could confirm the right, cannot be asked.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}
