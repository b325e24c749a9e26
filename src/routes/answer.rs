//! One request, one answer.
//!
//! Who the client is and what it may do is settled here, before anything is looked up.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response};
use tokio::time::Instant;

use super::door::{Asked, Entered, NotEntered, enter};
use super::entrance::Entrance;
use super::observed::{Observation, ObservedBody};
use super::reply::Reply;
use super::traffic::{Counts, Traffic};
use super::{blobs, lists, manifests, pushes};
use crate::access::{Access, Action, Grant, Principal, Right};
use crate::cache::{Cache, Listing};
use crate::http::{InstanceId, Received, Via};
use crate::oci::{Call, Resource};
use crate::push::Push;
use crate::registry::Table;

/// Everything that a request can reach.
#[derive(Debug)]
pub struct Routes {
    access: Access,
    cache: Cache,
    push: Push,
    instance: InstanceId,
    table: Table,
    traffic: Arc<Traffic>,
    /// By the registries' places in the table.
    counts: Vec<Arc<Counts>>,
}

impl Routes {
    /// Routes to the registries of `table` through `cache` and `push`, as `instance`. What passes is
    /// noted in `traffic`, for these registries and no others.
    pub fn new(
        table: Table,
        (cache, push): (Cache, Push),
        access: Access,
        instance: InstanceId,
        traffic: Arc<Traffic>,
    ) -> Self {
        let names = table.registries().map(|registry| registry.label());
        let counts = traffic.count_for(names);
        Self { access, cache, push, instance, table, traffic, counts }
    }

    /// The registries that it knows.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Answers a request that came in through `entrance`. Its body is read where it is passed on, and
    /// not before that may be done.
    pub async fn answer(
        &self,
        request: Request<Received>,
        entrance: &Entrance,
    ) -> Response<ObservedBody> {
        let began = Instant::now();
        let (request, body) = request.into_parts();
        let (reply, entered) = match self.enter(&request, entrance) {
            _ if crate::http::is_oddly_coded(&request.headers) => (Reply::oddly_coded(), None),
            Ok(entered) => (self.reply(&entered, (&request, body), entrance).await, Some(entered)),
            Err(error) => (Reply::not_entered(&error), None),
        };
        let reply = finished(reply, &request, entered.as_ref());
        let noted_in = (&self.traffic, self.counts_for(entered.as_ref()));
        let observation = Observation::of((&request, began), entered.as_ref(), &reply, noted_in);
        reply.response.map(|body| ObservedBody::new(body, observation))
    }

    fn counts_for(&self, entered: Option<&Entered>) -> &Arc<Counts> {
        let registry = entered.and_then(|entered| entered.registry.as_ref());
        let counts = registry.and_then(|registry| self.counts.get(registry.place()));
        counts.unwrap_or(self.traffic.nowhere())
    }

    fn enter(
        &self,
        request: &http::request::Parts,
        entrance: &Entrance,
    ) -> Result<Entered, NotEntered> {
        let host = entrance.host(request, self.table.has_hosts())?;
        let (path, query) = (request.uri.path(), request.uri.query().unwrap_or_default());
        enter(&self.table, entrance.doors, Asked { path, query, host: host.as_ref() })
    }

    async fn reply(
        &self,
        entered: &Entered,
        (request, body): (&http::request::Parts, Received),
        entrance: &Entrance,
    ) -> Reply {
        let Some(right) = Right::of(&request.method, &entered.call) else {
            return Reply::not_allowed("the protocol has no such method here");
        };
        let (Call::In(repository, resource), Some(registry)) = (&entered.call, &entered.registry)
        else {
            return Reply::ping();
        };
        let Right::Do(action) = right else { return Reply::ping() };
        let principal = match Via::read(&request.headers, self.instance) {
            Ok(via) => Principal::anonymous(via),
            Err(error) => return Reply::looped(error),
        };
        let (registry, repository) = (registry.clone(), repository.clone());
        let host = registry.upstream().host().to_owned();
        let granted = self.access.grant(&principal, registry, repository, action, resource).await;
        let grant = match granted {
            Ok(grant) => grant,
            Err(refused) => return Reply::refused(&host, &refused),
        };
        if action != Action::Pull {
            let from = self.source(&principal, (request, entrance), &grant).await;
            let (push, presented) = (&self.push, &entered.presented);
            let asked = pushes::Asked { push, grant: &grant, presented, head: request, from };
            return asked.answer(resource, body).await;
        }
        let query = request.uri.query().unwrap_or_default();
        match resource {
            Resource::Blob(digest) => blobs::pull(&self.cache, &grant, digest, request).await,
            Resource::Manifest(reference) => {
                manifests::pull(&self.cache, &grant, reference, &request.headers).await
            }
            Resource::Referrers(digest) => {
                let listing = Listing::Referrers(digest.clone());
                lists::pull(&self.cache, &grant, &listing, &entered.presented, query).await
            }
            Resource::Tags => {
                let (listing, presented) = (Listing::Tags, &entered.presented);
                lists::pull(&self.cache, &grant, &listing, presented, query).await
            }
            // Every method of theirs is part of a push.
            Resource::Upload(_) => Reply::not_allowed("the protocol has no such method here"),
        }
    }

    /// Leave to read in the repository that `from` names to this client, if it is one of the same
    /// registry.
    async fn source(
        &self,
        principal: &Principal,
        (request, entrance): (&http::request::Parts, &Entrance),
        grant: &Grant,
    ) -> Option<Grant> {
        let query = request.uri.query()?;
        let from = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "from")?.1;
        let before = request.uri.path().find("/v2/").map(|at| &request.uri.path()[..at])?;
        let path = format!("{before}/v2/{from}/tags/list");
        let host = entrance.host(request, self.table.has_hosts()).ok()?;
        let asked = Asked { path: &path, query, host: host.as_ref() };
        let entered = enter(&self.table, entrance.doors, asked).ok()?;
        let (Some(registry), Call::In(repository, resource)) = (entered.registry, entered.call)
        else {
            return None;
        };
        let is_the_same = registry.name() == grant.registry().name();
        let granted =
            self.access.grant(principal, registry, repository, Action::Pull, &resource).await;
        granted.ok().filter(|_| is_the_same)
    }
}

/// What every answer gets, whatever it is.
fn finished(mut reply: Reply, request: &http::request::Parts, entered: Option<&Entered>) -> Reply {
    let namespace = entered.and_then(|entered| entered.namespace.as_deref());
    if let Some(Ok(value)) = namespace.map(HeaderValue::from_str) {
        reply.set(OCI_NAMESPACE, value);
    }
    if request.method == Method::HEAD {
        reply.without_body();
    }
    reply
}

/// distribution-spec, "Registry Proxying": a registry that used `ns` should say so.
const OCI_NAMESPACE: http::HeaderName = http::HeaderName::from_static("oci-namespace");
