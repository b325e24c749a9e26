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
mod keyed;
mod ledger;
mod memory;
mod policy;
mod principal;
mod probe;
mod rights;

pub use action::{Action, Right, methods};
pub use gate::{Access, CertificateUser, Challenge, Htpasswd, Options};
pub use grant::{Grant, Refused, Wish};
pub use htpasswd::{BadLine, Cheap, Fault, Users};
pub use ledger::{Ledger, NoRandomness, Turned};
pub use policy::{Anonymous, Policy, Rule};
pub use principal::{Issuer, Principal};
