//! The proof that a principal may do something in a repository.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::login_cache::{CredentialTry, LoginCache};
use super::rights::{self, RightsError};
use super::{Action, Issuer, ListenerAccess, LoginError, Principal};
use crate::http::Via;
use crate::oci::{RegistryName, RepositoryName, Resource};
use crate::registry::{GrantPolicy, Registry};
use crate::upstream::{self, ClientCredential, CredentialId};

/// That this action may be done in this repository of this registry.
///
/// Made by [`ListenerAccess::grant`] and nowhere else; whoever needs the right asks for the value.
#[derive(Clone, Debug)]
pub struct Grant {
    registry: Arc<Registry>,
    repository: RepositoryName,
    action: Action,
    may_push: bool,
    client: Option<ClientCredential>,
    /// What it is remembered by, if the registry has confirmed it.
    right: Option<CredentialId>,
    is_live: bool,
    via: Via,
}

impl Grant {
    /// The registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The repository, by its name at the registry.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Through which other instances of Larder the request came that it was given to. What is
    /// asked upstream because of it says so; who joins such a question adds nothing.
    pub fn via(&self) -> &Via {
        &self.via
    }

    /// What may be done.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Whether the registry was asked whether this very client may, and others may not.
    pub fn uses_client_credential(&self) -> bool {
        self.right.is_some()
    }

    /// Whether it is as good as when it was given. Out of a grace period one may read what is held, and
    /// not more.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Whether the principal may push here, too: then what exists here must not be claimed in vain.
    pub fn may_push(&self) -> bool {
        self.may_push
    }

    /// The client's own credential, with which the upstream is to be asked. `None`: with Larder's, if
    /// it has any there.
    pub fn client(&self) -> Option<&ClientCredential> {
        self.client.as_ref()
    }
}

/// What somebody wants to do to what, and from where.
#[derive(Debug)]
pub struct AccessRequest<'w> {
    /// Where.
    pub registry: Arc<Registry>,
    /// In which of its repositories, by its name there.
    pub repository: RepositoryName,
    /// What is to be done.
    pub action: Action,
    /// To what.
    pub resource: &'w Resource,
    /// Where the client is.
    pub address: IpAddr,
    /// Whether a registry that vouches for its clients itself may be asked for it, and waited for.
    /// Otherwise only what it has confirmed lately counts.
    pub may_ask: bool,
}

impl ListenerAccess {
    /// Decides. Where the registry vouches for its clients itself, it is asked, unless it was a while
    /// ago.
    pub async fn grant(
        &self,
        principal: &Principal,
        wish: AccessRequest<'_>,
    ) -> Result<Grant, AccessDenied> {
        let AccessRequest { registry, repository, action, .. } = &wish;
        if !registry.serves(repository) {
            return Err(AccessDenied::Excluded);
        }
        if *action != Action::Pull && !registry.takes_pushes() {
            return Err(AccessDenied::ReadOnly { registry: registry.name().clone() });
        }
        if let Some(policy) = registry.grants() {
            return self.confirmed(principal, wish, policy).await;
        }
        let may =
            |action| self.options.policy.allows(principal, registry.name(), repository, action);
        if may(*action) {
            let may_push = registry.takes_pushes() && may(Action::Push);
            let (client, right, is_live, via) = (None, None, true, principal.via.clone());
            let AccessRequest { registry, repository, action, .. } = wish;
            return Ok(Grant {
                registry,
                repository,
                action,
                may_push,
                client,
                right,
                is_live,
                via,
            });
        }
        Err(match principal.issuer {
            Issuer::Nobody => AccessDenied::LoginRequired,
            _ if may(Action::Pull) => AccessDenied::NoRuleForAction,
            _ => AccessDenied::NoRuleForRepository,
        })
    }

    /// The right of a client that asks with a credential of its own, or with none.
    async fn confirmed(
        &self,
        principal: &Principal,
        wish: AccessRequest<'_>,
        policy: GrantPolicy,
    ) -> Result<Grant, AccessDenied> {
        let client = principal.credential.clone();
        let is_nobody = principal.issuer == Issuer::Nobody;
        if is_nobody && !self.options.policy.anonymous.covers(wish.action) {
            return Err(AccessDenied::LoginRequired);
        }
        let (ledger, rights) = (&self.ledger, &self.ledger.rights);
        let asked = rights::RightsQuery {
            client: client.as_ref(),
            registry: &wish.registry,
            repository: &wish.repository,
            action: wish.action,
            resource: wish.resource,
            via: &principal.via,
        };
        let right = asked.tag(&ledger.keyed);
        // What changes something is passed on with this credential, and the registry decides.
        if wish.action == Action::Pull && !rights.holds(&right, policy) {
            if !wish.may_ask {
                return Err(AccessDenied::NotConfirmed);
            }
            let trying =
                client.as_ref().map(|client| ledger.may_try(client, &wish.registry, wish.address));
            let trying = trying.transpose()?;
            // In a box, as below: a right that holds needs no room for it.
            match Box::pin(rights.confirm(&ledger.keyed, asked, policy)).await {
                Ok(_) => {}
                Err(RightsError::Not) if is_nobody => return Err(AccessDenied::LoginRequired),
                Err(RightsError::Not) => return Err(AccessDenied::NotConfirmed),
                Err(RightsError::Error(error)) => {
                    let refusing = Box::pin(self.refusal(error, asked, trying.as_ref()));
                    return Err(refusing.await);
                }
            }
        }
        let is_live = wish.action != Action::Pull || rights.holds(&right, policy);
        let (right, via) = (Some(right), principal.via.clone());
        let AccessRequest { registry, repository, action, .. } = wish;
        // Whether this client may, only the registry knows.
        let may_push = registry.takes_pushes();
        Ok(Grant { registry, repository, action, may_push, client, right, is_live, via })
    }

    /// What it means that the upstream could not be asked.
    async fn refusal(
        &self,
        error: upstream::UpstreamError,
        asked: rights::RightsQuery<'_>,
        trying: Option<&CredentialTry>,
    ) -> AccessDenied {
        let upstream::UpstreamError::CredentialRefused { status, .. } = &error else {
            return AccessDenied::Upstream(error);
        };
        let (Some(client), Some(trying)) = (asked.client, trying) else {
            return AccessDenied::LoginRequired;
        };
        // Some token servers say 403 to a good credential that may not do what is asked for.
        if *status == StatusCode::FORBIDDEN
            && self.is_known(client, asked.registry, trying).await.is_ok()
        {
            return AccessDenied::NotConfirmed;
        }
        self.ledger.note_refused(trying);
        AccessDenied::Turned(LoginError::BadCredentials)
    }

    /// Sees to it that the upstream knows a client's credential, for those who only log in. That is no
    /// right to anything.
    pub async fn check(
        &self,
        client: &ClientCredential,
        registry: &Registry,
        address: IpAddr,
    ) -> Result<(), AccessDenied> {
        let trying = self.ledger.may_try(client, registry, address)?;
        match self.is_known(client, registry, &trying).await {
            Ok(()) => Ok(()),
            Err(upstream::UpstreamError::CredentialRefused { .. }) => {
                self.ledger.note_refused(&trying);
                Err(AccessDenied::Turned(LoginError::BadCredentials))
            }
            Err(error) => Err(AccessDenied::Upstream(error)),
        }
    }

    async fn is_known(
        &self,
        client: &ClientCredential,
        registry: &Registry,
        trying: &CredentialTry,
    ) -> Result<(), upstream::UpstreamError> {
        if !self.ledger.is_known(trying) {
            registry.upstream().check(client, Instant::now() + CHECK_WAIT).await?;
            self.ledger.note_known(trying);
        }
        Ok(())
    }

    /// The registry has taken what this grant was for. Before the client hears of it, it holds no more
    /// for anybody that nothing of it is there.
    pub fn pushed(&self, grant: &Grant) {
        if grant.registry.grants().is_some() {
            let LoginCache { keyed, rights, .. } = &*self.ledger;
            rights.note_pushed(keyed, &grant.registry, &grant.repository);
        }
    }

    /// The registry itself has refused what this grant is for.
    pub fn revoke(&self, grant: &Grant) {
        if let Some(right) = &grant.right {
            self.ledger.rights.forget(right);
        }
    }
}

/// How long a login waits for the upstream.
const CHECK_WAIT: Duration = Duration::from_secs(15);

/// Why the principal may not do that here.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccessDenied {
    /// The rules leave the repository out; to clients it does not exist.
    #[error("the registry's `allow` and `deny` leave this repository out")]
    Excluded,
    /// Whoever it is might, but nobody knows who it is.
    #[error("this takes a login")]
    LoginRequired,
    /// The registry has not confirmed that the client may; to this client it does not exist.
    #[error("the registry has not confirmed that this client may")]
    NotConfirmed,
    /// No rule lets this user see the repository; to this user it does not exist.
    #[error("no rule lets this user do anything in this repository")]
    NoRuleForRepository,
    /// The user may read, but not this.
    #[error("no rule lets this user do that in this repository")]
    NoRuleForAction,
    /// Nobody may change anything.
    #[error("`{registry}` takes no pushes here: `push = true` in its table would pass them on")]
    ReadOnly {
        /// The registry.
        registry: RegistryName,
    },
    /// The login is turned away.
    #[error(transparent)]
    Turned(#[from] LoginError),
    /// The registry, which alone could confirm it, cannot be asked.
    #[error(transparent)]
    Upstream(upstream::UpstreamError),
}
