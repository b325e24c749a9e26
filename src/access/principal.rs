//! Who a client is.

use std::time::SystemTime;

use crate::http::Via;
use crate::upstream::ClientCredential;

/// An identity, as its issuer vouched for it.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Who vouches.
    pub issuer: Issuer,
    /// The name, unique for its issuer; empty for nobody in particular.
    pub subject: String,
    /// Groups that rules may name.
    pub groups: Vec<String>,
    /// When it has to be proven anew; `None` for what does not expire.
    pub expires: Option<SystemTime>,
    /// What it presented, if that is meant for the upstream of the one registry whose credentials
    /// are taken where it was presented. Not verified: only that upstream can.
    pub credential: Option<ClientCredential>,
    /// Through which other instances of Larder it asks.
    pub via: Via,
}

impl Principal {
    /// A client that presented nothing.
    pub fn anonymous(via: Via) -> Self {
        Self::named(Issuer::Nobody, String::new(), via)
    }

    /// Somebody for whom `issuer` vouches.
    pub fn named(issuer: Issuer, subject: String, via: Via) -> Self {
        Self { issuer, subject, groups: Vec::new(), expires: None, credential: None, via }
    }

    /// Who it is, in one text: for what only the same may go on with.
    pub fn label(&self) -> String {
        let issuer = match self.issuer {
            Issuer::Certificate => "certificate",
            Issuer::Htpasswd => "htpasswd",
            Issuer::Nobody => return String::new(),
            Issuer::Upstream => "upstream",
        };
        format!("{issuer}:{}", self.subject)
    }
}

/// What an identity rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// A client certificate, whose name the configuration maps to a user.
    Certificate,
    /// The file of users and hashed passwords.
    Htpasswd,
    /// Nothing: the network is open.
    Nobody,
    /// The upstream, which is asked with the client's own credential.
    Upstream,
}
