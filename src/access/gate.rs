//! Who somebody is: what a listener makes of what a client shows.

use parking_lot::RwLock;
use std::sync::Arc;

use http::HeaderMap;

use super::basic::{BadBasic, BasicCredential};
use super::htpasswd::UserTable;
use super::{AccessPolicy, Action, Issuer, LoginCache, LoginError, Principal};
use crate::http::{ClientPeer, Via};
use crate::registry::{Registry, RepositoryPattern};
use crate::upstream::ClientCredential;

/// How clients are let in at one listener.
#[derive(Clone, Debug)]
pub struct AccessOptions {
    /// Whether clients are asked for a password.
    pub challenge: ChallengePolicy,
    /// Who may do what.
    pub policy: AccessPolicy,
    /// Whose passwords are known here.
    pub htpasswd: Option<HtpasswdUsers>,
    /// Who the holders of client certificates are; the first that takes a name counts.
    pub certificates: Vec<CertificateUser>,
}

/// Whether clients are asked for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengePolicy {
    /// Where something takes one.
    Basic,
    /// Never, and what they send is not read: dockerd would offer Docker Hub's password to any
    /// mirror that asks.
    Never,
}

impl ChallengePolicy {
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
pub struct HtpasswdUsers {
    users: Arc<RwLock<Arc<UserTable>>>,
}

/// Who the holder of a certificate is.
#[derive(Clone, Debug)]
pub struct CertificateUser {
    /// A name in the certificate.
    pub name: RepositoryPattern,
    /// The user.
    pub user: String,
}

/// The rules of one listener.
#[derive(Debug)]
pub struct ListenerAccess {
    pub(super) options: AccessOptions,
    pub(super) ledger: Arc<LoginCache>,
}

impl Default for AccessOptions {
    /// Everybody may pull, nobody is asked who they are.
    fn default() -> Self {
        Self {
            challenge: ChallengePolicy::Never,
            policy: AccessPolicy::open_for_pull(),
            htpasswd: None,
            certificates: Vec::new(),
        }
    }
}

impl HtpasswdUsers {
    /// These users.
    pub fn new(users: UserTable) -> Self {
        Self { users: Arc::new(RwLock::new(Arc::new(users))) }
    }

    /// Other users, from now on. Says whether they are others.
    pub fn replace(&self, users: UserTable) -> bool {
        let mut present = self.users.write();
        let is_other = !present.is_the_same_as(&users);
        *present = Arc::new(users);
        is_other
    }

    /// Whether there is a user of this name.
    pub fn contains(&self, username: &str) -> bool {
        self.users().contains(username)
    }

    fn users(&self) -> Arc<UserTable> {
        Arc::clone(&self.users.read())
    }
}

impl ListenerAccess {
    /// These rules, with what is remembered in `ledger`.
    pub fn new(options: AccessOptions, ledger: Arc<LoginCache>) -> Self {
        Self { options, ledger }
    }

    /// Whether clients are asked for a password here.
    pub fn challenges(&self) -> bool {
        self.options.challenge == ChallengePolicy::Basic
    }

    /// Finds out who a client is that asks for something of `registry`, or for nothing in particular.
    /// `with_logins` is the registry whose credentials are taken at the host that the client called:
    /// for that one, what is presented is kept and looked at by nobody here.
    ///
    /// Where nobody is asked and no certificate was shown, nothing is looked at.
    pub async fn identify(
        &self,
        headers: &HeaderMap,
        peer: &ClientPeer,
        via: Via,
        (registry, with_logins): (Option<&Registry>, Option<&Registry>),
    ) -> Result<Principal, LoginError> {
        let presented = match self.options.challenge {
            ChallengePolicy::Never => None,
            ChallengePolicy::Basic => BasicCredential::read(headers).map_err(|bad| match bad {
                BadBasic::Twice => LoginError::DuplicateHeader,
                BadBasic::Unreadable => LoginError::BadCredentials,
            })?,
        };
        let Some(presented) = presented else { return Ok(self.by_certificate(peer, via)) };
        let users = self.options.htpasswd.as_ref().map(HtpasswdUsers::users);
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
            (None, None) => Err(LoginError::BadCredentials),
        }
    }

    async fn by_password(
        &self,
        users: &Arc<UserTable>,
        presented: BasicCredential,
        peer: &ClientPeer,
        via: Via,
    ) -> Result<Principal, LoginError> {
        let user = self.ledger.log_in(users, presented, peer.address).await?;
        Ok(Principal::named(Issuer::Htpasswd, user, via))
    }

    fn by_upstream(&self, presented: &BasicCredential, via: Via) -> Result<Principal, LoginError> {
        let tag = self.ledger.credential_tag(presented);
        let identity = ClientCredential::of_client(&presented.username, &presented.password, tag);
        let credential = Some(identity.map_err(|_| LoginError::BadCredentials)?);
        let subject = presented.username.clone();
        Ok(Principal { credential, ..Principal::named(Issuer::Upstream, subject, via) })
    }

    /// Whether any of these registries has something for those who log in that it has not for
    /// everybody: then clients have to be told, for some ask only once.
    pub fn login_grants_more<'r>(
        &self,
        registries: impl IntoIterator<Item = &'r Registry>,
    ) -> bool {
        if !self.challenges() {
            return false;
        }
        let AccessPolicy { anonymous, rules } = &self.options.policy;
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

    fn by_certificate(&self, peer: &ClientPeer, via: Via) -> Principal {
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
