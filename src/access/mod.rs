//! Who a client is, and what it may do.
//!
//! The result is a [`Grant`], the only key that opens the cache. What is not in the table of
//! actions is refused.

mod action;
mod grant;
mod policy;
mod principal;

pub use action::{Action, Right};
pub use grant::{Access, Grant, Refused};
pub use policy::{Anonymous, Policy, Rule};
pub use principal::{Issuer, Principal};
