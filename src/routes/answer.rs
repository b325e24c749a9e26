//! From one request to one answer.
//!
//! Resolves the registry, identifies the client and grants the action, in this order, and only then
//! looks at content. An error in any of the steps becomes an answer in `error.rs`.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response};
use tokio::time::Instant;

use super::door::{DoorQuery, ResolvedTarget, resolve};
use super::entrance::Entrance;
use super::error::{ErrorContext, RequestError};
use super::event_client::EventClient;
use super::observed::{Observation, ObservedBody, ObservedRequest};
use super::pushes::PushRequest;
use super::reply::RouteReply;
use super::sources::MountSources;
use super::traffic::{RegistryCounts, TrafficCounters};
use super::{blobs, lists, manifests};
use crate::access::{
    AccessDenied, AccessRequest, Action, Grant, IdentityRequest, Issuer, Principal, RequiredRight,
};
use crate::cache::{Cache, ListKind};
use crate::http::{
    ClientPeer, HostPort, InstanceId, RequestBody, Via, is_cross_site, is_local_host,
    is_of_browser, set_inert,
};
use crate::oci::{ApiCall, Resource};
use crate::push::PushService;
use crate::registry::{Registry, RegistryOptions, RegistrySet};
use crate::traces::{RequestTrace, within};

/// Answers requests to the registries of one configuration.
#[derive(Debug)]
pub struct Routes {
    cache: Cache,
    push: PushService,
    instance: InstanceId,
    registries: RegistrySet,
    traffic: Arc<TrafficCounters>,
    /// In the order of [`Registry::index`].
    counts: Vec<Arc<RegistryCounts>>,
}

/// One request, and the listener that it came to.
#[derive(Clone, Copy)]
struct RequestVisit<'v> {
    target: &'v ResolvedTarget,
    entrance: &'v Entrance,
    peer: &'v ClientPeer,
    request: &'v http::request::Parts,
}

impl Routes {
    /// Routes to `registries` through `cache` and `push`. Requests are counted in `traffic`, for
    /// these registries and no others; a request that has passed `instance` before is refused.
    pub fn new(
        registries: RegistrySet,
        cache: Cache,
        push: PushService,
        instance: InstanceId,
        traffic: Arc<TrafficCounters>,
    ) -> Self {
        let names = registries.configured().map(|registry| registry.name().as_str());
        let counts = traffic.count_for(names);
        Self { cache, push, instance, registries, traffic, counts }
    }

    /// The registries.
    pub fn registries(&self) -> &RegistrySet {
        &self.registries
    }

    /// Answers a request of `peer` that came to `entrance`. The body is read only where it is sent
    /// on, after access is granted.
    pub async fn answer(
        &self,
        request: Request<RequestBody>,
        entrance: &Entrance,
        peer: &ClientPeer,
    ) -> Response<ObservedBody> {
        let began = Instant::now();
        let (request, body) = request.into_parts();
        let trace = self.traffic.tracer().map(|tracer| tracer.begin(&request.headers));
        let resolved = self.resolve(&request, entrance);
        let target = resolved.as_ref().ok();
        let (mut client, received) = (EventClient::at(peer.address), body.received());
        let answered = match &resolved {
            Ok(target) => {
                let visit = RequestVisit { target, entrance, peer, request: &request };
                match trace.as_ref().and_then(RequestTrace::scope) {
                    None => self.answer_visit(visit, body, &mut client).await,
                    // Boxed, so that requests without a trace need no room for it.
                    scope => {
                        let answer = self.answer_visit(visit, body, &mut client);
                        Box::pin(within(scope, answer)).await
                    }
                }
            }
            // Some load balancers can ask for nothing else, and have no login.
            Err(RequestError::NotACall(_)) if request.uri.path() == "/" => Ok(RouteReply::ping()),
            Err(error) => Ok(error.to_reply(context(None, entrance))),
        };
        let reply = answered.unwrap_or_else(|error| error.to_reply(context(target, entrance)));
        let reply = finish(reply, &request, target);
        let counts = self.counts_of(target);
        let observed = ObservedRequest { head: &request, began, target, client, received, trace };
        let observation = Observation::new(observed, &reply, &self.traffic, &counts);
        reply.response.map(|body| ObservedBody::new(body, observation))
    }

    fn counts_of(&self, target: Option<&ResolvedTarget>) -> Arc<RegistryCounts> {
        let Some(registry) = target.and_then(|target| target.registry.as_ref()) else {
            return Arc::clone(self.traffic.without_registry());
        };
        let counts = registry.index().and_then(|index| self.counts.get(index));
        counts.cloned().unwrap_or_else(|| {
            let known = || self.registries.registries();
            self.traffic.counts_of(registry.name().as_str(), known)
        })
    }

    fn resolve(
        &self,
        request: &http::request::Parts,
        entrance: &Entrance,
    ) -> Result<ResolvedTarget, RequestError> {
        if crate::http::is_oddly_coded(&request.headers) {
            return Err(RequestError::TransferCoding);
        }
        let is_of_browser = is_of_browser(&request.headers);
        if is_of_browser && !request.method.is_safe() && is_cross_site(request) {
            return Err(RequestError::CrossSite);
        }
        let host = entrance.host(request, is_of_browser || self.registries.has_hosts())?;
        let is_own =
            |host: &HostPort| is_local_host(host) || self.registries.by_host(host).is_some();
        if is_of_browser && entrance.names.is_empty() && !host.as_ref().is_some_and(is_own) {
            return Err(RequestError::ForeignHost);
        }
        let query = DoorQuery {
            path: request.uri.path(),
            query: request.uri.query().unwrap_or_default(),
            host: host.as_ref(),
        };
        resolve(&self.registries, entrance.doors, query)
    }

    async fn answer_visit(
        &self,
        visit: RequestVisit<'_>,
        body: RequestBody,
        client: &mut EventClient,
    ) -> Result<RouteReply, RequestError> {
        let RequestVisit { target, entrance, peer, request } = visit;
        let right = RequiredRight::of(&request.method, &target.call);
        let right = right.ok_or(RequestError::MethodNotAllowed)?;
        let via = Via::read(&request.headers, self.instance);
        let identity = IdentityRequest {
            headers: &request.headers,
            peer,
            via: via.map_err(RequestError::ForwardingLoop)?,
            registry: target.subject(),
            login_registry: target.login_registry.as_deref(),
        };
        let principal = entrance.access.identify(identity).await?;
        client.identify(&principal);
        let (ApiCall::In(repository, resource), Some(registry), RequiredRight::Do(action)) =
            (&target.call, &target.registry, right)
        else {
            return self.ping(visit, &principal).await;
        };
        let wanted = AccessRequest {
            registry: Arc::clone(registry),
            repository: repository.clone(),
            action,
            resource,
            address: peer.address,
            may_ask: true,
            lengths: &self.cache,
        };
        let grant = entrance.access.grant(&principal, wanted).await?;
        if action == Action::Pull {
            return self.pull(visit, &grant, resource).await;
        }
        // Boxed, so that pulls need no room for it.
        Box::pin(self.push(visit, &grant, &principal, body)).await
    }

    /// `/v2/`: whether this is a registry, and whether the client has to log in or has done so.
    async fn ping(
        &self,
        visit: RequestVisit<'_>,
        principal: &Principal,
    ) -> Result<RouteReply, RequestError> {
        let RequestVisit { target, entrance, peer, .. } = visit;
        if let (Some(client), Some(registry)) = (&principal.credential, &target.login_registry) {
            entrance.access.check_login(client, registry, peer.address).await?;
        } else if principal.issuer == Issuer::Anonymous
            && entrance.access.login_grants_more(self.reachable(target))
        {
            return Err(AccessDenied::LoginRequired.into());
        }
        Ok(RouteReply::ping())
    }

    /// The registries that a ping is about: the one that it names, else all that can be reached at
    /// this host.
    fn reachable<'t>(
        &'t self,
        target: &'t ResolvedTarget,
    ) -> impl Iterator<Item = &'t RegistryOptions> {
        let named = target.registry.as_deref().filter(|_| target.is_named);
        let is_reachable = |it: &&RegistryOptions| {
            let login = target.login_registry.as_deref();
            it.grants().is_none() || login.is_some_and(|login| *login.name() == it.name)
        };
        let configured = self.registries.configured().map(|registry| registry.options());
        let all = configured.chain(self.registries.patterns()).filter(move |_| named.is_none());
        named.map(Registry::options).into_iter().chain(all).filter(is_reachable)
    }

    async fn pull(
        &self,
        visit: RequestVisit<'_>,
        grant: &Grant,
        resource: &Resource,
    ) -> Result<RouteReply, RequestError> {
        let RequestVisit { target, entrance, request, .. } = visit;
        let path = &target.client_path;
        let query = request.uri.query().unwrap_or_default();
        let pulled = match resource {
            Resource::Blob(digest) => blobs::pull(&self.cache, grant, digest, request).await,
            Resource::Manifest(reference) => {
                manifests::pull(&self.cache, grant, reference, request).await
            }
            Resource::Referrers(digest) => {
                let kind = ListKind::Referrers(digest.clone());
                lists::pull(&self.cache, grant, &kind, path, query).await
            }
            Resource::Tags => lists::pull(&self.cache, grant, &ListKind::Tags, path, query).await,
            // Every method of an upload is part of a push.
            Resource::Upload(_) => Err(RequestError::MethodNotAllowed),
        };
        pulled.map_err(|error| match error.client_denial() {
            // The right of this client has ended, whatever other clients may do.
            Some(denied) if grant.uses_client_credential() => {
                entrance.access.revoke(grant);
                denied.into()
            }
            _ => error,
        })
    }

    async fn push(
        &self,
        visit: RequestVisit<'_>,
        grant: &Grant,
        principal: &Principal,
        body: RequestBody,
    ) -> Result<RouteReply, RequestError> {
        let RequestVisit { target, entrance, peer, request } = visit;
        let sources = MountSources {
            cache: &self.cache,
            entrance,
            grant,
            head: request,
            peer,
            principal,
            registries: &self.registries,
        };
        let ApiCall::In(_, resource) = &target.call else {
            return Err(RequestError::MethodNotAllowed);
        };
        let push = PushRequest { push: &self.push, client_path: &target.client_path, sources };
        let pushed = push.answer(resource, body).await;
        if !grant.uses_client_credential() {
            return pushed;
        }
        let pushed = pushed.map_err(|error| error.client_denial().map_or(error, Into::into));
        let context = context(Some(target), entrance);
        let reply = pushed.unwrap_or_else(|error| error.to_reply(context));
        Ok(context.with_client_credential(reply))
    }
}

fn context<'v>(target: Option<&'v ResolvedTarget>, entrance: &Entrance) -> ErrorContext<'v> {
    ErrorContext {
        call: target.map(|target| &target.call),
        registry: target.and_then(|target| target.registry.as_deref()),
        challenges: entrance.access.challenges(),
    }
}

/// Applies to every answer: `OCI-Namespace`, whether `Cache-Status` is shown, no body for HEAD, and
/// nothing that a browser would run.
fn finish(
    mut reply: RouteReply,
    request: &http::request::Parts,
    target: Option<&ResolvedTarget>,
) -> RouteReply {
    let namespace = target.and_then(|target| target.client_path.namespace.as_deref());
    if let Some(Ok(value)) = namespace.map(HeaderValue::from_str) {
        reply.set(OCI_NAMESPACE, value);
    }
    let registry = target.and_then(|target| target.registry.as_ref());
    if registry.is_some_and(|registry| !registry.exposes_cache_status()) {
        reply.hide_cache_status();
    }
    if request.method == Method::HEAD {
        reply.remove_body();
    }
    set_inert(reply.response.headers_mut());
    reply
}

/// distribution-spec, "Registry Proxying": a registry that used `ns` should say so.
const OCI_NAMESPACE: http::HeaderName = http::HeaderName::from_static("oci-namespace");
