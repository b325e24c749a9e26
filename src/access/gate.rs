//! Who somebody is: what a listener makes of what a client shows.

use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderMap;

use super::basic::{BadBasic, Basic};
use super::htpasswd::Users;
use super::{Action, Issuer, Ledger, Policy, Principal, Turned};
use crate::http::{Peer, Via};
use crate::registry::{Pattern, Registry};

/// How clients are let in at one listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether clients are asked for a password.
    pub challenge: Challenge,
    /// Who may do what.
    pub policy: Policy,
    /// Whose passwords are known here.
    pub htpasswd: Option<Htpasswd>,
    /// Who the holders of client certificates are; the first that takes a name counts.
    pub certificates: Vec<CertificateUser>,
}

/// Whether clients are asked for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Where something takes one.
    Basic,
    /// Never, and what they send is not read: dockerd would offer Docker Hub's password to any
    /// mirror that asks.
    Never,
}

impl Challenge {
    /// What the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Never => "never",
        }
    }
}

/// Users with passwords, which can be replaced. Clones are the same.
#[derive(Clone, Debug)]
pub struct Htpasswd {
    users: Arc<RwLock<Arc<Users>>>,
}

/// Who the holder of a certificate is.
#[derive(Clone, Debug)]
pub struct CertificateUser {
    /// A name in the certificate.
    pub name: Pattern,
    /// The user.
    pub user: String,
}

/// The rules of one listener.
#[derive(Debug)]
pub struct Access {
    pub(super) options: Options,
    pub(super) ledger: Arc<Ledger>,
}

impl Default for Options {
    /// Everybody may pull, nobody is asked who they are.
    fn default() -> Self {
        Self {
            challenge: Challenge::Never,
            policy: Policy::open_for_pull(),
            htpasswd: None,
            certificates: Vec::new(),
        }
    }
}

impl Htpasswd {
    /// These users.
    pub fn new(users: Users) -> Self {
        Self { users: Arc::new(RwLock::new(Arc::new(users))) }
    }

    /// Other users, from now on. Says whether they are others.
    pub fn replace(&self, users: Users) -> bool {
        let mut present = self.users.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = !present.is_the_same_as(&users);
        *present = Arc::new(users);
        is_other
    }

    /// Whether there is a user of this name.
    pub fn contains(&self, username: &str) -> bool {
        self.users().contains(username)
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Access {
    /// These rules, with what is remembered in `ledger`.
    pub fn new(options: Options, ledger: Arc<Ledger>) -> Self {
        Self { options, ledger }
    }

    /// Whether clients are asked for a password here.
    pub fn challenges(&self) -> bool {
        self.options.challenge == Challenge::Basic
    }

    /// Finds out who a client is. Where nobody is asked and no certificate was shown, nothing is
    /// looked at.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        via: Via,
    ) -> Result<Principal, Turned> {
        let presented = match self.options.challenge {
            Challenge::Never => None,
            Challenge::Basic => Basic::read(headers).map_err(|bad| match bad {
                BadBasic::Twice => Turned::Twice,
                BadBasic::Unreadable => Turned::Wrong,
            })?,
        };
        let Some(presented) = presented else { return Ok(self.by_certificate(peer, via)) };
        let Some(htpasswd) = &self.options.htpasswd else { return Err(Turned::Wrong) };
        let user = self.ledger.log_in(&htpasswd.users(), presented, peer.address).await?;
        Ok(Principal::named(Issuer::Htpasswd, user, via))
    }

    /// Whether any of these registries has something for those who log in that it has not for
    /// everybody: then clients have to be told, for some ask only once.
    pub fn rewards_a_login<'r>(&self, registries: impl IntoIterator<Item = &'r Registry>) -> bool {
        if !self.challenges() {
            return false;
        }
        let Policy { anonymous, rules } = &self.options.policy;
        let is_given = |action| {
            let by_rule = rules.iter().any(|rule| rule.actions.contains(&action));
            if rules.is_empty() { action != Action::Delete } else { by_rule }
        };
        registries.into_iter().any(|registry| {
            let is_there = |action| action == Action::Pull || registry.takes_pushes();
            let is_reward = |action| !anonymous.covers(action) && is_there(action);
            Action::ALL.into_iter().any(|action| is_reward(action) && is_given(action))
        })
    }

    fn by_certificate(&self, peer: &Peer, via: Via) -> Principal {
        let known = self.options.certificates.iter().find(|known| {
            let names = &mut peer.names.iter();
            names.any(|name| known.name.takes(name))
        });
        match known {
            Some(known) => Principal::named(Issuer::Certificate, known.user.clone(), via),
            None => Principal::anonymous(via),
        }
    }
}
