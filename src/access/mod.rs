//! Identifies clients and grants what they may do.
//!
//! The result is a [`Grant`], the only key that opens the cache. Which method needs which right is
//! a table (`action.rs`); a method that is not in it is refused. This module does not decide which
//! registry a request means, nor which status a denied client reads: `routes` does.

mod action;
mod basic;
mod denied;
mod failures;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gate;
mod grant;
mod htpasswd;
mod login_cache;
mod options;
mod policy;
mod principal;
mod probe;
mod process_key;
mod resource_head;
mod rights;
mod rights_query;
mod ttl_map;

pub use action::{Action, RequiredRight, allowed_methods};
pub use denied::AccessDenied;
pub use gate::{IdentityRequest, ListenerAccess};
pub use grant::{AccessRequest, Grant};
pub use htpasswd::{BadLine, CheapHashes, LineFault, UserTable};
pub use login_cache::{LoginCache, NoRandomness};
pub use options::{AccessOptions, CertificateUser, ChallengePolicy, HtpasswdUsers};
pub use policy::{AccessPolicy, AccessRule, AnonymousAccess};
pub use principal::{Issuer, Principal};
pub use resource_head::ResourceHead;
pub use rights_query::KnownLengths;
