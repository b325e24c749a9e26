//! Who a client is, and what it may do.
//!
//! The result is a [`Grant`], the only key that opens the cache. What is not in the table of
//! actions is refused.

mod action;
mod basic;
mod failures;
mod gate;
mod grant;
mod htpasswd;
mod login_cache;
mod policy;
mod principal;
mod probe;
mod process_key;
mod rights;
mod ttl_map;

pub use action::{Action, RequiredRight, methods};
pub use gate::{AccessOptions, CertificateUser, ChallengePolicy, HtpasswdUsers, ListenerAccess};
pub use grant::{AccessDenied, AccessRequest, Grant};
pub use htpasswd::{BadLine, CheapHashes, LineFault, UserTable};
pub use login_cache::{LoginCache, LoginError, NoRandomness};
pub use policy::{AccessPolicy, AccessRule, AnonymousAccess};
pub use principal::{Issuer, Principal};
