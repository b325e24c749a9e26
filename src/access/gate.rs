//! Who somebody is: what a listener makes of what a client shows.

use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderMap;

use super::basic::{BadBasic, Basic};
use super::htpasswd::Users;
use super::{Action, Issuer, Ledger, Policy, Principal, Turned};
use crate::http::{Peer, Via};
use crate::registry::{Pattern, Registry};
use crate::upstream::Identity;

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

    /// Finds out who a client is that asks for something of `registry`, or for nothing in particular.
    /// `with_logins` is the registry whose credentials are taken at the host that the client called:
    /// for that one, what is presented is kept and looked at by nobody here.
    ///
    /// Where nobody is asked and no certificate was shown, nothing is looked at.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        via: Via,
        (registry, with_logins): (Option<&Registry>, Option<&Registry>),
    ) -> Result<Principal, Turned> {
        let presented = match self.options.challenge {
            Challenge::Never => None,
            Challenge::Basic => Basic::read(headers).map_err(|bad| match bad {
                BadBasic::Twice => Turned::Twice,
                BadBasic::Unreadable => Turned::Wrong,
            })?,
        };
        let Some(presented) = presented else { return Ok(self.by_certificate(peer, via)) };
        let users = self.options.htpasswd.as_ref().map(Htpasswd::users);
        match (users, with_logins) {
            // The name of a user of ours: the password is ours too, and goes nowhere.
            (Some(users), Some(_)) if users.contains(&presented.username) => {
                self.by_password(&users, presented, peer, via).await
            }
            (_, Some(theirs)) if registry.is_none_or(|it| it.name() == theirs.name()) => {
                self.by_upstream(&presented, via)
            }
            // It is for another registry than the one that is asked for.
            (_, Some(_)) => Ok(self.by_certificate(peer, via)),
            (Some(users), None) => self.by_password(&users, presented, peer, via).await,
            (None, None) => Err(Turned::Wrong),
        }
    }

    async fn by_password(
        &self,
        users: &Arc<Users>,
        presented: Basic,
        peer: &Peer,
        via: Via,
    ) -> Result<Principal, Turned> {
        let user = self.ledger.log_in(users, presented, peer.address).await?;
        Ok(Principal::named(Issuer::Htpasswd, user, via))
    }

    fn by_upstream(&self, presented: &Basic, via: Via) -> Result<Principal, Turned> {
        let tag = self.ledger.credential_tag(presented);
        let identity = Identity::of_client(&presented.username, &presented.password, tag);
        let credential = Some(identity.map_err(|_| Turned::Wrong)?);
        let subject = presented.username.clone();
        Ok(Principal { credential, ..Principal::named(Issuer::Upstream, subject, via) })
    }

    /// Whether any of these registries has something for those who log in that it has not for
    /// everybody: then clients have to be told, for some ask only once.
    pub fn rewards_a_login<'r>(&self, registries: impl IntoIterator<Item = &'r Registry>) -> bool {
        if !self.challenges() {
            return false;
        }
        let Policy { anonymous, rules } = &self.options.policy;
        let has_users = self.options.htpasswd.is_some();
        let is_given = |action| {
            let by_rule = rules.iter().any(|rule| rule.actions.contains(&action));
            has_users && if rules.is_empty() { action != Action::Delete } else { by_rule }
        };
        registries.into_iter().any(|registry| {
            if registry.grants().is_some() {
                return true;
            }
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
