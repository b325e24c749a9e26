//! Who a client is.

use std::time::SystemTime;

/// An identity, as its issuer vouched for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who vouches.
    pub issuer: Issuer,
    /// The name, unique for its issuer; empty for nobody in particular.
    pub subject: String,
    /// Groups that rules may name.
    pub groups: Vec<String>,
    /// When it has to be proven anew; `None` for what does not expire.
    pub expires: Option<SystemTime>,
}

impl Principal {
    /// A client that presented nothing.
    pub fn anonymous() -> Self {
        let (subject, groups) = (String::new(), Vec::new());
        Self { issuer: Issuer::Nobody, subject, groups, expires: None }
    }
}

/// What an identity rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// Nothing: the network is open.
    Nobody,
}
