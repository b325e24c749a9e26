//! Identifies the clients of one listener and grants what they ask for.
//!
//! Two sources of rights exist: the rules of the listener (`policy.rs`), and, for a registry that
//! is asked with each client's own credential, that registry itself (`rights.rs`). How passwords
//! are verified is decided in `login_cache.rs`, and the status of a denial in `routes/error.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::basic::BasicCredential;
use super::grant::UpstreamRight;
use super::htpasswd::UserTable;
use super::login_cache::CredentialTry;
use super::resource_head::ResourceHead;
use super::rights_query::RightsQuery;
use super::{
    AccessDenied, AccessOptions, AccessPolicy, AccessRequest, Action, ChallengePolicy, Grant,
    HtpasswdUsers, Issuer, LoginCache, Principal,
};
use crate::http::{ClientPeer, Via};
use crate::registry::{GrantPolicy, Registry, RegistryOptions};
use crate::upstream::{ClientCredential, UpstreamError};

/// Identifies clients and grants access at one listener.
#[derive(Debug)]
pub struct ListenerAccess {
    options: AccessOptions,
    logins: Arc<LoginCache>,
}

/// The parts of a request that identify its client.
#[derive(Debug)]
pub struct IdentityRequest<'r> {
    /// The headers.
    pub headers: &'r HeaderMap,
    /// The other end of the connection.
    pub peer: &'r ClientPeer,
    /// The proxies that the request has passed.
    pub via: Via,
    /// The registry that the request is about, if any.
    pub registry: Option<&'r Registry>,
    /// The registry that clients log in to at the host they called. A credential for it is kept
    /// for its upstream and verified there, not here.
    pub login_registry: Option<&'r Registry>,
}

impl ListenerAccess {
    /// Access by these options, with the outcomes that `logins` has cached.
    pub fn new(options: AccessOptions, logins: Arc<LoginCache>) -> Self {
        Self { options, logins }
    }

    /// Whether clients are asked for a password here.
    pub fn challenges(&self) -> bool {
        self.options.challenge == ChallengePolicy::Basic
    }

    /// Identifies the client. Without challenges the `Authorization` header is not read.
    ///
    /// # Errors
    ///
    /// Every [`AccessDenied`] that is about a login.
    pub async fn identify(&self, request: IdentityRequest<'_>) -> Result<Principal, AccessDenied> {
        let credential = match self.options.challenge {
            ChallengePolicy::Never => None,
            ChallengePolicy::Basic => BasicCredential::read(request.headers)?,
        };
        let Some(credential) = credential else { return Ok(self.by_certificate(request)) };
        let users = self.options.htpasswd.as_ref().map(HtpasswdUsers::users);
        match (users, request.login_registry) {
            // The name of a local user: its password is local as well, and is sent nowhere.
            (Some(users), Some(_)) if users.contains(&credential.username) => {
                self.by_password(&users, credential, request).await
            }
            (_, Some(login)) if request.registry.is_none_or(|it| it.name() == login.name()) => {
                self.by_upstream(&credential, request.via)
            }
            // The credential is for another registry than the request.
            (_, Some(_)) => Ok(self.by_certificate(request)),
            (Some(users), None) => self.by_password(&users, credential, request).await,
            (None, None) => Err(AccessDenied::BadCredentials),
        }
    }

    async fn by_password(
        &self,
        users: &Arc<UserTable>,
        credential: BasicCredential,
        request: IdentityRequest<'_>,
    ) -> Result<Principal, AccessDenied> {
        let user = self.logins.log_in(users, credential, request.peer.address).await?;
        Ok(Principal::named(Issuer::Htpasswd, user, request.via))
    }

    fn by_upstream(
        &self,
        credential: &BasicCredential,
        via: Via,
    ) -> Result<Principal, AccessDenied> {
        let BasicCredential { username, password } = credential;
        let id = self.logins.credential_id(credential);
        let client = ClientCredential::of_client(username, password, id);
        let client = client.map_err(|_| AccessDenied::BadCredentials)?;
        let principal = Principal::named(Issuer::Upstream, username.clone(), via);
        Ok(Principal { credential: Some(client), ..principal })
    }

    fn by_certificate(&self, request: IdentityRequest<'_>) -> Principal {
        let user = self.options.certificates.iter().find(|user| {
            let names = &mut request.peer.names.iter();
            names.any(|name| user.name.matches(name))
        });
        match user {
            Some(it) => Principal::named(Issuer::Certificate, it.user.clone(), request.via),
            None => Principal::anonymous(request.via),
        }
    }

    /// Whether a login would grant more than anonymous access at any of these registries. Then
    /// `/v2/` challenges, because some clients send a password only after that.
    pub fn login_grants_more<'r>(
        &self,
        registries: impl IntoIterator<Item = &'r RegistryOptions>,
    ) -> bool {
        if !self.challenges() {
            return false;
        }
        let AccessPolicy { anonymous, rules } = &self.options.policy;
        let has_users = self.options.htpasswd.is_some();
        let is_granted = |action| {
            let by_rule = rules.iter().any(|rule| rule.actions.contains(&action));
            has_users && if rules.is_empty() { action != Action::Delete } else { by_rule }
        };
        registries.into_iter().any(|registry| {
            if registry.grants().is_some() {
                return true;
            }
            let exists = |action| action == Action::Pull || registry.takes_pushes();
            let is_gain = |action| !anonymous.covers(action) && exists(action);
            Action::ALL.into_iter().any(|action| is_gain(action) && is_granted(action))
        })
    }

    /// Grants an action, or denies it. A registry that decides about its clients itself is asked,
    /// unless a right of this client is cached.
    ///
    /// # Errors
    ///
    /// Every [`AccessDenied`] that is about a right.
    pub async fn grant(
        &self,
        principal: &Principal,
        request: AccessRequest<'_>,
    ) -> Result<Grant, AccessDenied> {
        let registry = &request.registry;
        if !registry.serves(&request.repository) {
            return Err(AccessDenied::Excluded);
        }
        if request.action != Action::Pull && !registry.takes_pushes() {
            return Err(AccessDenied::ReadOnly { registry: registry.name().clone() });
        }
        match registry.grants() {
            Some(policy) => self.grant_by_upstream(principal, request, policy).await,
            None => self.grant_by_rules(principal, request),
        }
    }

    fn grant_by_rules(
        &self,
        principal: &Principal,
        request: AccessRequest<'_>,
    ) -> Result<Grant, AccessDenied> {
        let AccessRequest { registry, repository, action, .. } = &request;
        let may =
            |action| self.options.policy.allows(principal, registry.name(), repository, action);
        if may(*action) {
            let may_push = registry.takes_pushes() && may(Action::Push);
            return Ok(Grant::by_rules(request, principal, may_push));
        }
        Err(match principal.issuer {
            Issuer::Anonymous => AccessDenied::LoginRequired,
            _ if may(Action::Pull) => AccessDenied::NoRuleForAction,
            _ => AccessDenied::NoRuleForRepository,
        })
    }

    /// Grants an action to a client that asks with its own credential, or anonymously. Changes are
    /// sent on with that credential, and the registry decides about them; one that it does not know
    /// is refused here, so that pushes are no way to guess passwords.
    async fn grant_by_upstream(
        &self,
        principal: &Principal,
        request: AccessRequest<'_>,
        policy: GrantPolicy,
    ) -> Result<Grant, AccessDenied> {
        let is_anonymous = principal.issuer == Issuer::Anonymous;
        if is_anonymous && !self.options.policy.anonymous.covers(request.action) {
            return Err(AccessDenied::LoginRequired);
        }
        let query = RightsQuery {
            client: principal.credential.as_ref(),
            address: request.address,
            registry: &request.registry,
            repository: &request.repository,
            action: request.action,
            resource: request.resource,
            via: &principal.via,
            lengths: request.lengths,
        };
        let LoginCache { key, rights, .. } = &*self.logins;
        let id = query.right_id(key);
        let is_pull = request.action == Action::Pull;
        if let Some(client) = query.client.filter(|_| !is_pull) {
            // Boxed, so that pulls need no room for it.
            Box::pin(self.check_login(client, query.registry, request.address)).await?;
        }
        let mut head = None;
        if is_pull && !rights.is_fresh(&id, policy) {
            if !request.may_ask {
                return Err(AccessDenied::NotConfirmed);
            }
            // Boxed: a cached right needs no room for the question.
            let confirmed = Box::pin(self.confirm(query, policy)).await;
            head = confirmed.map_err(|denied| match denied {
                AccessDenied::NotConfirmed if is_anonymous => AccessDenied::LoginRequired,
                denied => denied,
            })?;
        }
        let of_pull = || RightsQuery { action: Action::Pull, ..query }.right_id(key);
        let pull_id = if is_pull { id } else { of_pull() };
        let is_reader = rights.is_fresh(&pull_id, policy);
        let right = UpstreamRight { id, is_fresh: !is_pull || is_reader, is_reader };
        Ok(Grant::by_upstream(request, principal, right, head))
    }

    async fn confirm(
        &self,
        query: RightsQuery<'_>,
        policy: GrantPolicy,
    ) -> Result<Option<ResourceHead>, AccessDenied> {
        let LoginCache { key, rights, .. } = &*self.logins;
        let is_known = rights.is_known(&query.right_id(key));
        let attempt = match query.client {
            None => None,
            Some(it) => {
                let tried = self.logins.begin_try(it, query.registry, query.address, is_known);
                Some(tried.await?)
            }
        };
        match rights.confirm(key, query, policy).await {
            Err(AccessDenied::Upstream(UpstreamError::CredentialRefused { status, .. })) => {
                Err(self.credential_refused(status, query, attempt.as_ref()).await)
            }
            outcome => outcome,
        }
    }

    /// The denial of a client whose credential the upstream has refused.
    async fn credential_refused(
        &self,
        status: StatusCode,
        query: RightsQuery<'_>,
        attempt: Option<&CredentialTry>,
    ) -> AccessDenied {
        let (Some(client), Some(attempt)) = (query.client, attempt) else {
            return AccessDenied::LoginRequired;
        };
        // Some token servers answer 403 to a good credential that lacks the requested right.
        if status == StatusCode::FORBIDDEN
            && self.ask_if_accepted(client, query.registry, query.address, attempt).await.is_ok()
        {
            return AccessDenied::NotConfirmed;
        }
        self.logins.note_refused(attempt);
        AccessDenied::BadCredentials
    }

    /// Checks that the upstream accepts a client's credential, for a client that logs in or pushes.
    /// This gives no right to anything.
    ///
    /// # Errors
    ///
    /// Every [`AccessDenied`] that is about a login, and [`AccessDenied::Upstream`] if the upstream
    /// cannot be asked within 15 s.
    pub async fn check_login(
        &self,
        client: &ClientCredential,
        registry: &Registry,
        address: IpAddr,
    ) -> Result<(), AccessDenied> {
        let attempt = self.logins.begin_try(client, registry, address, false).await?;
        match self.ask_if_accepted(client, registry, address, &attempt).await {
            Err(UpstreamError::CredentialRefused { .. }) => {
                self.logins.note_refused(&attempt);
                Err(AccessDenied::BadCredentials)
            }
            outcome => Ok(outcome?),
        }
    }

    async fn ask_if_accepted(
        &self,
        client: &ClientCredential,
        registry: &Registry,
        address: IpAddr,
        attempt: &CredentialTry,
    ) -> Result<(), UpstreamError> {
        if !self.logins.is_accepted(attempt) {
            registry.upstream().check(client, address, Instant::now() + CHECK_WAIT).await?;
            self.logins.note_accepted(attempt);
        }
        Ok(())
    }

    /// Voids the cached refusals of a repository that has just been pushed to. Called before the
    /// client reads that the push succeeded.
    pub fn note_push(&self, grant: &Grant) {
        if grant.registry().grants().is_some() {
            let LoginCache { key, rights, .. } = &*self.logins;
            rights.note_push(key, grant.registry(), grant.repository());
        }
    }

    /// Removes the cached right behind a grant that the registry has refused.
    pub fn revoke(&self, grant: &Grant) {
        if let Some(id) = grant.right_id() {
            self.logins.rights.remove(id);
        }
    }
}

/// How long a login waits for the upstream.
const CHECK_WAIT: Duration = Duration::from_secs(15);
