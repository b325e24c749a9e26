//! One request, one answer.
//!
//! Who the client is and what it may do is settled here, before anything is looked up.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::time::Instant;

use super::door::{DoorQuery, ResolveError, ResolvedTarget, enter};
use super::entrance::Entrance;
use super::observed::{Observation, ObservedBody};
use super::reply::{RouteReply, UpstreamRefusal};
use super::sources::MountSources;
use super::traffic::{RegistryCounts, TrafficCounters};
use super::{blobs, lists, manifests, pushes};
use crate::access::{
    AccessDenied, AccessRequest, Action, Grant, Issuer, LoginError, Principal, RequiredRight,
    methods,
};
use crate::cache::{Cache, ListKind};
use crate::http::{ClientPeer, ForwardingLoop, InstanceId, RequestBody, Via};
use crate::oci::{ApiCall, ErrorCode, Resource};
use crate::push::PushService;
use crate::registry::{Registry, RegistrySet};

/// Everything that a request can reach.
#[derive(Debug)]
pub struct Routes {
    cache: Cache,
    push: PushService,
    instance: InstanceId,
    table: RegistrySet,
    traffic: Arc<TrafficCounters>,
    /// By the registries' places in the table.
    counts: Vec<Arc<RegistryCounts>>,
}

impl Routes {
    /// Routes to the registries of `table` through `cache` and `push`, as `instance`. What passes is
    /// noted in `traffic`, for these registries and no others.
    pub fn new(
        table: RegistrySet,
        (cache, push): (Cache, PushService),
        instance: InstanceId,
        traffic: Arc<TrafficCounters>,
    ) -> Self {
        let names = table.registries().map(|registry| registry.label());
        let counts = traffic.count_for(names);
        Self { cache, push, instance, table, traffic, counts }
    }

    /// The registries that it knows.
    pub fn table(&self) -> &RegistrySet {
        &self.table
    }

    /// Answers a request of `peer` that came in through `entrance`. Its body is read where it is
    /// passed on, and not before that may be done.
    pub async fn answer(
        &self,
        request: Request<RequestBody>,
        entrance: &Entrance,
        peer: &ClientPeer,
    ) -> Response<ObservedBody> {
        let began = Instant::now();
        let (request, body) = request.into_parts();
        let (reply, entered) = match self.enter(&request, entrance) {
            _ if crate::http::is_oddly_coded(&request.headers) => (RouteReply::oddly_coded(), None),
            Ok(entered) => {
                let visit = RequestVisit { entered: &entered, entrance, peer, request: &request };
                let admitted = self.admit(&visit, body).await;
                (admitted.unwrap_or_else(|denied| denied.reply(&visit)), Some(entered))
            }
            Err(error) => (RouteReply::not_entered(&error), None),
        };
        let reply = finished(reply, &request, entered.as_ref());
        let noted_in = (&self.traffic, self.counts_for(entered.as_ref()));
        let observation = Observation::of((&request, began), entered.as_ref(), &reply, noted_in);
        reply.response.map(|body| ObservedBody::new(body, observation))
    }

    fn counts_for(&self, entered: Option<&ResolvedTarget>) -> &Arc<RegistryCounts> {
        let registry = entered.and_then(|entered| entered.registry.as_ref());
        let counts = registry.and_then(|registry| self.counts.get(registry.place()));
        counts.unwrap_or(self.traffic.nowhere())
    }

    fn enter(
        &self,
        request: &http::request::Parts,
        entrance: &Entrance,
    ) -> Result<ResolvedTarget, ResolveError> {
        let host = entrance.host(request, self.table.has_hosts())?;
        let (path, query) = (request.uri.path(), request.uri.query().unwrap_or_default());
        enter(&self.table, entrance.doors, DoorQuery { path, query, host: host.as_ref() })
    }

    /// Finds out who asks and what that takes, and only then looks at what is asked for.
    async fn admit(
        &self,
        visit: &RequestVisit<'_>,
        body: RequestBody,
    ) -> Result<RouteReply, RequestError> {
        let RequestVisit { entered, entrance, peer, request } = visit;
        let right =
            RequiredRight::of(&request.method, &entered.call).ok_or(RequestError::NoSuchMethod)?;
        let via = Via::read(&request.headers, self.instance).map_err(RequestError::Loop)?;
        let access = &entrance.access;
        let asked_for = entered.registry.as_deref().filter(|_| entered.call != ApiCall::Ping);
        let registries = (asked_for, entered.with_logins.as_deref());
        let principal = access.identify(&request.headers, peer, via, registries).await?;
        let (ApiCall::In(repository, resource), Some(registry), RequiredRight::Do(action)) =
            (&entered.call, &entered.registry, right)
        else {
            return self.enter_only(visit, &principal).await;
        };
        let (registry, repository) = (registry.clone(), repository.clone());
        let address = peer.address;
        let wish = AccessRequest { registry, repository, action, resource, address, may_ask: true };
        let grant = access.grant(&principal, wish).await?;
        if action == Action::Pull {
            let reply = self.reply(visit, &grant, resource).await;
            return match reply.refusal {
                // Whatever others may, this client may not any more.
                Some(refusal) if grant.uses_client_credential() => {
                    access.revoke(&grant);
                    Err(refusal.into())
                }
                _ => Ok(reply),
            };
        }
        let asked = pushes::PushRequest {
            push: &self.push,
            grant: &grant,
            principal: &principal,
            presented: &entered.presented,
            head: request,
            sources: MountSources {
                cache: &self.cache,
                entrance,
                grant: &grant,
                head: request,
                peer,
                principal: &principal,
                table: &self.table,
            },
        };
        // In a box, so that pulls need not carry room for it.
        let mut reply = Box::pin(asked.answer(resource, body)).await;
        if reply.response.status() == StatusCode::UNAUTHORIZED && grant.uses_client_credential() {
            if !access.challenges() {
                return Err(RequestError::Refused(AccessDenied::NotConfirmed));
            }
            reply.challenges();
        }
        Ok(reply)
    }

    /// `/v2/`: whether there is a registry, and whether it knows the client.
    async fn enter_only(
        &self,
        visit: &RequestVisit<'_>,
        who: &Principal,
    ) -> Result<RouteReply, RequestError> {
        let RequestVisit { entered, entrance, peer, .. } = visit;
        let access = &entrance.access;
        if let (Some(client), Some(registry)) = (&who.credential, &entered.with_logins) {
            access.check(client, registry, peer.address).await?;
            return Ok(RouteReply::ping());
        }
        let is_somebody = who.issuer != Issuer::Nobody;
        if is_somebody || !access.login_grants_more(self.reachable(entered)) {
            return Ok(RouteReply::ping());
        }
        Err(RequestError::Nameless)
    }

    /// The registries that a client could reach where it asks for none of their repositories.
    fn reachable<'t>(&'t self, entered: &'t ResolvedTarget) -> impl Iterator<Item = &'t Registry> {
        let one = entered.registry.as_deref().filter(|_| entered.is_named);
        let is_here = |it: &&Registry| {
            let with_logins = entered.with_logins.as_deref();
            it.grants().is_none() || with_logins.is_some_and(|taken| taken.name() == it.name())
        };
        let all = self.table.registries().filter(move |_| one.is_none()).map(AsRef::as_ref);
        one.into_iter().chain(all).filter(is_here)
    }

    async fn reply(
        &self,
        visit: &RequestVisit<'_>,
        grant: &Grant,
        resource: &Resource,
    ) -> RouteReply {
        let RequestVisit { entered, request, .. } = visit;
        let query = request.uri.query().unwrap_or_default();
        match resource {
            Resource::Blob(digest) => blobs::pull(&self.cache, grant, digest, request).await,
            Resource::Manifest(reference) => {
                manifests::pull(&self.cache, grant, reference, request).await
            }
            Resource::Referrers(digest) => {
                let listing = ListKind::Referrers(digest.clone());
                lists::pull(&self.cache, grant, &listing, &entered.presented, query).await
            }
            Resource::Tags => {
                let (listing, presented) = (ListKind::Tags, &entered.presented);
                lists::pull(&self.cache, grant, &listing, presented, query).await
            }
            // Every method of theirs is part of a push.
            Resource::Upload(_) => RequestError::NoSuchMethod.reply(visit),
        }
    }
}

/// One request, and where it came in.
struct RequestVisit<'v> {
    entered: &'v ResolvedTarget,
    entrance: &'v Entrance,
    peer: &'v ClientPeer,
    request: &'v http::request::Parts,
}

/// Why a request is not answered with what it asks for.
enum RequestError {
    Loop(ForwardingLoop),
    Nameless,
    NoSuchMethod,
    Refused(AccessDenied),
    Turned(LoginError),
}

impl From<AccessDenied> for RequestError {
    fn from(refused: AccessDenied) -> Self {
        Self::Refused(refused)
    }
}

impl From<UpstreamRefusal> for RequestError {
    fn from(refusal: UpstreamRefusal) -> Self {
        match refusal {
            UpstreamRefusal::Credential => Self::Turned(LoginError::BadCredentials),
            UpstreamRefusal::Repository => Self::Refused(AccessDenied::NotConfirmed),
        }
    }
}

impl From<LoginError> for RequestError {
    fn from(turned: LoginError) -> Self {
        Self::Turned(turned)
    }
}

impl RequestError {
    fn reply(self, visit: &RequestVisit<'_>) -> RouteReply {
        let host = || visit.entered.registry.as_ref().map_or("", |it| it.upstream().host());
        let methods = || {
            let registry = visit.entered.registry.as_ref();
            methods(&visit.entered.call, registry.is_some_and(|it| it.takes_pushes()))
        };
        let absent = || match &visit.entered.call {
            ApiCall::In(_, resource) => absent_code(resource),
            ApiCall::Ping => ErrorCode::NameUnknown,
        };
        match self {
            Self::Loop(error) => RouteReply::looped(error),
            Self::NoSuchMethod => {
                RouteReply::not_allowed("the protocol has no such method here", &methods())
            }
            Self::Refused(refused @ AccessDenied::ReadOnly { .. }) => {
                RouteReply::not_allowed(&refused.to_string(), &methods())
            }
            Self::Turned(turned) | Self::Refused(AccessDenied::Turned(turned)) => {
                RouteReply::turned(turned)
            }
            // Whom nobody asks for a password cannot give one.
            Self::Nameless | Self::Refused(AccessDenied::LoginRequired)
                if visit.entrance.access.challenges() =>
            {
                RouteReply::challenge(&AccessDenied::LoginRequired)
            }
            Self::Nameless => RouteReply::refused(host(), &AccessDenied::LoginRequired),
            Self::Refused(AccessDenied::Upstream(error)) => {
                RouteReply::failed(&error.into(), absent())
            }
            Self::Refused(refused @ AccessDenied::NotConfirmed) => {
                RouteReply::absent(host(), absent(), &refused)
            }
            Self::Refused(refused) => RouteReply::refused(host(), &refused),
        }
    }
}

/// The code that goes with a 404 about this.
fn absent_code(resource: &Resource) -> ErrorCode {
    match resource {
        Resource::Blob(_) => ErrorCode::BlobUnknown,
        Resource::Manifest(_) => ErrorCode::ManifestUnknown,
        Resource::Referrers(_) | Resource::Tags | Resource::Upload(_) => ErrorCode::NameUnknown,
    }
}

/// What every answer gets, whatever it is.
fn finished(
    mut reply: RouteReply,
    request: &http::request::Parts,
    entered: Option<&ResolvedTarget>,
) -> RouteReply {
    let namespace = entered.and_then(|entered| entered.namespace.as_deref());
    if let Some(Ok(value)) = namespace.map(HeaderValue::from_str) {
        reply.set(OCI_NAMESPACE, value);
    }
    let registry = entered.and_then(|entered| entered.registry.as_ref());
    if registry.is_some_and(|registry| !registry.exposes_cache_status()) {
        reply.says_not_how();
    }
    if request.method == Method::HEAD {
        reply.without_body();
    }
    reply
}

/// distribution-spec, "Registry Proxying": a registry that used `ns` should say so.
const OCI_NAMESPACE: http::HeaderName = http::HeaderName::from_static("oci-namespace");
