//! The identity of a client. Its rights are decided in `gate.rs`.

use std::time::SystemTime;

use crate::http::Via;
use crate::upstream::ClientCredential;

/// A client, as its issuer identified it.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The issuer of the identity.
    pub issuer: Issuer,
    /// The user's name, unique for its issuer; empty for an anonymous client.
    pub subject: String,
    /// Groups that rules may name.
    pub groups: Vec<String>,
    /// When the identity expires; `None` if it does not.
    pub expires: Option<SystemTime>,
    /// The credential that the client sent for the upstream of the one registry that clients log in
    /// to at the host they called. Not verified: only that upstream can.
    pub credential: Option<ClientCredential>,
    /// The proxies that the request has passed.
    pub via: Via,
}

impl Principal {
    /// A client without a credential or certificate.
    pub fn anonymous(via: Via) -> Self {
        Self::named(Issuer::Anonymous, String::new(), via)
    }

    /// The user `subject` of this issuer.
    pub fn named(issuer: Issuer, subject: String, via: Via) -> Self {
        Self { issuer, subject, groups: Vec::new(), expires: None, credential: None, via }
    }

    /// The identity as one text, `<issuer>:<subject>`: the owner of an upload. Empty for an
    /// anonymous client.
    pub fn label(&self) -> String {
        let issuer = match self.issuer {
            Issuer::Anonymous => return String::new(),
            Issuer::Certificate => "certificate",
            Issuer::Htpasswd => "htpasswd",
            Issuer::Upstream => "upstream",
        };
        format!("{issuer}:{}", self.subject)
    }
}

/// The source of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Issuer {
    /// None: the client presented nothing.
    Anonymous,
    /// A client certificate, whose name the configuration maps to a user.
    Certificate,
    /// The file of users and hashed passwords.
    Htpasswd,
    /// The upstream, which is asked with the client's own credential.
    Upstream,
}
