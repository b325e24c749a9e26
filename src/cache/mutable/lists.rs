//! Tags and referrers: lists that change, believed as long as a tag is.
//!
//! A page is kept by its query, and revalidated with one GET. When that
//! is done, and who waits for it, is decided in `belief`. A 404 is kept like a page: registries
//! without referrers give it each time.
//!
//! Keys that only an upstream understands are sent to it when they come from a link of its own,
//! and are ignored otherwise: anybody could make up any number of them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::timeout_at;

use crate::access::Grant;
use crate::cache::epoch::Epoch;
use crate::cache::error::warn_of;
use crate::cache::flight::Sharing;
use crate::cache::key::RecordKey;
use crate::cache::mutable::revalidate::{LastValidated, Purpose, Resolution};
use crate::cache::question::{HEADERS_WAIT_MAX, deadline, question_of};
use crate::cache::{CacheError, Decision, ListKind, ListPage, Pulled, Shared};
use crate::oci::PageQuery;
use crate::store::{AbsentRecord, ListRecord, Store};
use crate::upstream::{self, Question, ReadMethod};

/// A page in memory, with the time of its last validation.
#[derive(Clone, Debug)]
pub(in crate::cache) struct HotList {
    pub(in crate::cache) content: ListContent,
    checked: LastValidated,
}

/// A page, or that there is none.
#[derive(Clone, Debug)]
pub(in crate::cache) enum ListContent {
    /// The upstream said 404, with this error.
    Absent(Option<Bytes>),
    /// The page.
    Found(Arc<ListPage>),
}

impl Shared {
    pub(in crate::cache) async fn list(
        self: &Arc<Self>,
        grant: &Grant,
        listing: &ListKind,
        page: &PageQuery,
    ) -> Result<Pulled<Arc<ListPage>>, CacheError> {
        let (page, known) = self.placed(grant, listing, page).await;
        let ask = |company: Sharing| {
            let epoch = self.epochs.of(|| RecordKey::lists(grant));
            let key = company.key(RecordKey::list(grant, &listing.name(&page)), grant);
            let (shared, grant) = (Arc::clone(self), grant.clone());
            self.lists_asked.join((key, epoch), || {
                shared.revalidate_list(grant, listing.clone(), page.clone(), epoch)
            })
        };
        let checked = known.as_ref().map(|known| &known.checked);
        match self
            .settle(grant, checked, (grant.registry().default_tag_policy(), Purpose::Pull), ask)
            .await?
        {
            Resolution::Validated(what, decision) => {
                Ok(Pulled { what, decision, age: Some(Duration::ZERO) })
            }
            Resolution::Cached { decision, age } => match known {
                Some(known) => known.recalled(grant, decision, age),
                None => Err(CacheError::Internal("a list that is not known was to be recalled")),
            },
        }
    }

    /// The page that is meant, and what is known of it.
    async fn placed(
        self: &Arc<Self>,
        grant: &Grant,
        listing: &ListKind,
        page: &PageQuery,
    ) -> (PageQuery, Option<Arc<HotList>>) {
        let known = self.known_list(grant, listing, &listing.name(page)).await;
        let is_issued = || self.hot.issued.contains(&RecordKey::list(grant, &listing.name(page)));
        if known.is_some() || !page.is_opaque() || is_issued() {
            return (page.clone(), known);
        }
        let page = page.plain();
        let known = self.known_list(grant, listing, &listing.name(&page)).await;
        (page, known)
    }

    async fn known_list(
        self: &Arc<Self>,
        grant: &Grant,
        listing: &ListKind,
        name: &str,
    ) -> Option<Arc<HotList>> {
        if let Some(hot) = self.hot.lists.get(&RecordKey::list(grant, name))
            && self.epochs.is_current(|| RecordKey::lists(grant), hot.checked.epoch)
        {
            return Some(hot);
        }
        let (shared, grant, listing) = (Arc::clone(self), grant.clone(), listing.clone());
        let name = name.to_owned();
        let read = move || shared.read_list(&grant, &listing, &name);
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Blocks.
    fn read_list(&self, grant: &Grant, listing: &ListKind, name: &str) -> Option<Arc<HotList>> {
        let (registry, repository) = (grant.registry().name(), grant.repository());
        let read = |epoch| {
            let found = self.store.list(registry, repository, name).ok()?;
            let (content, at) = if let Some(record) = found {
                let checked_at = record.checked_at;
                (ListContent::Found(Arc::new(listing.restore(record))), checked_at)
            } else {
                let absent = self.store.absent(registry, repository, name).ok()??;
                (ListContent::Absent(absent.said), absent.checked_at)
            };
            let checked = LastValidated::earlier(at, epoch);
            Some((Arc::new(HotList { content, checked }), at))
        };
        let keep = |hot: &Arc<HotList>| self.put_hot_list(grant, listing, name, Arc::clone(hot));
        self.recall(&RecordKey::lists(grant), read, keep)
    }

    fn put_hot_list(&self, grant: &Grant, listing: &ListKind, name: &str, hot: Arc<HotList>) {
        if let ListContent::Found(list) = &hot.content
            && let Some(next) = list.next.as_ref().filter(|next| next.is_opaque())
        {
            self.hot.issued.put(RecordKey::list(grant, &listing.name(next)), ());
        }
        self.hot.lists.put(RecordKey::list(grant, name), hot);
    }

    /// Asks the upstream for the page, and keeps the answer.
    async fn revalidate_list(
        self: Arc<Self>,
        grant: Grant,
        listing: ListKind,
        page: PageQuery,
        epoch: Epoch,
    ) -> Result<Arc<ListPage>, CacheError> {
        let fetched = fetch(&grant, &listing, &page).await.map(Arc::new);
        let content = match &fetched {
            Ok(list) => Some(ListContent::Found(Arc::clone(list))),
            Err(error) if error.refuses(&grant) => return fetched,
            // Of a client's own it may be only that one who may not know of it.
            Err(CacheError::Upstream(upstream::UpstreamError::NotFound { said, .. }))
                if !grant.uses_client_credential() =>
            {
                Some(ListContent::Absent(said.clone()))
            }
            Err(error) if error.is_an_answer() => None,
            Err(_) => return fetched,
        };
        let (subject, name) = (RecordKey::lists(&grant), listing.name(&page));
        let keep = move |shared: &Self| {
            let checked = LastValidated::now(shared.clock.now(), epoch);
            match content.clone() {
                None => shared.hot.lists.remove(&RecordKey::list(&grant, &name)),
                Some(content) => {
                    let hot = Arc::new(HotList { content, checked });
                    shared.put_hot_list(&grant, &listing, &name, hot);
                }
            }
            shared.write_list(&grant, &name, content, checked.at);
        };
        self.commit(subject, epoch, keep).await;
        fetched
    }

    /// Blocks.
    fn write_list(
        &self,
        grant: &Grant,
        name: &str,
        content: Option<ListContent>,
        checked_at: SystemTime,
    ) {
        let (registry, repository) = (grant.registry().name(), grant.repository());
        let written = match content {
            Some(ListContent::Found(list)) => {
                let record = ListRecord {
                    checked_at,
                    media_type: list.media_type.clone(),
                    filters_applied: list.filters_applied.clone(),
                    next: list.next.as_ref().map(PageQuery::to_query),
                    body: list.body.clone(),
                };
                self.store.put_list(registry, repository, name, &record)
            }
            Some(ListContent::Absent(said)) => {
                let record = AbsentRecord { checked_at, said };
                let dropped = self.store.drop_list(registry, repository, name);
                dropped.and_then(|()| self.store.put_absent(registry, repository, name, &record))
            }
            None => self.store.drop_list(registry, repository, name),
        };
        warn_of(written, "cannot keep a list");
    }
}

impl HotList {
    /// Bytes of memory, about.
    pub(in crate::cache) fn len(&self) -> usize {
        match &self.content {
            ListContent::Absent(said) => said.as_ref().map_or(0, Bytes::len),
            ListContent::Found(list) => list.body.len(),
        }
    }

    fn recalled(
        &self,
        grant: &Grant,
        decision: Decision,
        age: Duration,
    ) -> Result<Pulled<Arc<ListPage>>, CacheError> {
        match &self.content {
            ListContent::Absent(said) => {
                Err(CacheError::absent(grant, said.clone(), decision, age))
            }
            ListContent::Found(list) => {
                Ok(Pulled { what: Arc::clone(list), decision, age: Some(age) })
            }
        }
    }
}

/// The page from the upstream. A body that breaks off is asked for again.
async fn fetch(
    grant: &Grant,
    listing: &ListKind,
    page: &PageQuery,
) -> Result<ListPage, CacheError> {
    let question = Question {
        query: page.to_query(),
        accept: Some(listing.media_type().to_owned()),
        ..question_of(grant, ReadMethod::Get, listing.resource())
    };
    let upstream = grant.registry().upstream();
    let host = || upstream.host().to_owned();
    let until = deadline();
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = upstream.ask(&question, until).await?;
        let (status, headers) = (answer.status, answer.headers);
        match timeout_at(until, answer.body.collect(Store::LIST_BYTES_MAX)).await {
            Ok(Ok(body)) => {
                return listing.read(page, &headers, body).map_err(|reason| {
                    let reason = reason.to_owned();
                    upstream::UpstreamError::Unexpected { host: host(), status, reason }.into()
                });
            }
            Ok(Err(error)) if error.is_transient() && tries < TRIES_MAX => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(CacheError::TimedOut { host: host(), waited: HEADERS_WAIT_MAX }),
        }
    }
}

/// How often a list whose body broke off is asked for.
const TRIES_MAX: usize = 3;
