//! Who a client is.

use std::time::SystemTime;

use crate::http::Via;

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
    /// Through which other instances of Larder it asks.
    pub via: Via,
}

impl Principal {
    /// A client that presented nothing.
    pub fn anonymous(via: Via) -> Self {
        let (subject, groups) = (String::new(), Vec::new());
        Self { issuer: Issuer::Nobody, subject, groups, expires: None, via }
    }
}

/// What an identity rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// Nothing: the network is open.
    Nobody,
}
