//! Tags and referrers: lists that change, fresh for as long as a tag is.
//!
//! A page is kept by its query, and revalidated with one GET. For how long it is fresh, and which
//! clients wait for a revalidation, is decided in `revalidate`. A 404 is kept like a page:
//! registries without referrers give it each time.
//!
//! Keys that only an upstream understands are sent to it when they come from a link of its own,
//! and are ignored otherwise: a client could make up any number of them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::timeout_at;

use crate::access::Grant;
use crate::cache::disk::warn_of;
use crate::cache::document::DocumentThreads;
use crate::cache::epoch::Epoch;
use crate::cache::flight::{FlightTable, Sharing};
use crate::cache::key::RecordKey;
use crate::cache::memory::{MemoryTable, MemoryUse};
use crate::cache::mutable::held_lists::HeldLists;
use crate::cache::mutable::revalidate::{LastValidated, Purpose, RecordValidation, Resolution};
use crate::cache::question::{HEADERS_WAIT_MAX, deadline, question_of};
use crate::cache::tasks::DetachedTasks;
use crate::cache::{CacheError, Decision, ListKind, ListPage, Pulled};
use crate::oci::{ErrorCode, PageQuery};
use crate::registry::TagPolicy;
use crate::store::{AbsentRecord, ListRecord, RepositoryRecords};
use crate::upstream::{Question, ReadMethod, UpstreamError};

/// A page in memory, with the time of its last validation.
#[derive(Clone, Debug)]
struct CachedList {
    content: ListContent,
    validated: LastValidated,
}

/// A page, or that there is none.
#[derive(Clone, Debug)]
enum ListContent {
    /// The upstream said 404, with this error.
    Absent(Option<Bytes>),
    /// The page.
    Found(Arc<ListPage>),
}

/// Pulls lists.
#[derive(Debug)]
pub(in crate::cache) struct ListPulls {
    validation: Arc<RecordValidation>,
    memory: MemoryTable<Arc<CachedList>>,
    /// Pages that an upstream's own link leads to.
    issued: MemoryTable<()>,
    /// Lists of registries that are not asked.
    held: Arc<HeldLists>,
    flights: FlightTable<(RecordKey, Epoch), Arc<ListPage>>,
}

impl ListPulls {
    /// Keeps pages in about `bytes_max` bytes of memory.
    pub(in crate::cache) fn new(
        validation: Arc<RecordValidation>,
        tasks: DetachedTasks,
        bytes_max: u64,
    ) -> Self {
        let bytes_of = |list: &Arc<CachedList>| match &list.content {
            ListContent::Absent(said) => said.as_ref().map_or(0, Bytes::len),
            ListContent::Found(list) => list.body.len(),
        };
        let store = Arc::clone(&validation.store);
        Self {
            validation,
            memory: MemoryTable::new("lists", bytes_max / 2, bytes_of),
            issued: MemoryTable::new("pages", bytes_max / 4, |()| 0),
            held: Arc::new(HeldLists::new(store, tasks.clone(), bytes_max / 4)),
            flights: FlightTable::new(tasks),
        }
    }

    /// A page of a list.
    pub(in crate::cache) async fn pull(
        self: &Arc<Self>,
        grant: &Grant,
        listing: &ListKind,
        page: &PageQuery,
    ) -> Result<Pulled<Arc<ListPage>>, CacheError> {
        let (page, known) = self.find_meant(grant, listing, page).await;
        let is_found = |known: &Arc<CachedList>| matches!(known.content, ListContent::Found(_));
        if grant.registry().is_offline()
            && !known.as_ref().is_some_and(is_found)
            && let Some(what) = self.held.page(grant, listing, &page).await
        {
            return Ok(Pulled { what, decision: Decision::Hit, age: None });
        }
        let ask = |sharing: Sharing| {
            let epoch = self.validation.epochs.of(|| RecordKey::lists(grant));
            let key = sharing.key(RecordKey::list(grant, &listing.name(&page)), grant);
            let (this, grant) = (Arc::clone(self), grant.clone());
            self.flights
                .join((key, epoch), || this.revalidate(grant, listing.clone(), page.clone(), epoch))
        };
        let validated = known.as_ref().map(|known| &known.validated);
        let policy = policy(grant, listing, known.as_deref());
        match self.validation.resolve(grant, validated, policy, Purpose::Pull, false, ask).await? {
            Resolution::Validated(what, decision) => {
                Ok(Pulled { what, decision, age: Some(Duration::ZERO) })
            }
            Resolution::Cached { decision, age } => match known.as_ref().map(|it| &it.content) {
                Some(ListContent::Found(list)) => {
                    Ok(Pulled { what: Arc::clone(list), decision, age: Some(age) })
                }
                Some(ListContent::Absent(said)) => {
                    Err(CacheError::absent(grant, said.clone(), decision, age))
                }
                None => Err(CacheError::Internal("a list that is not cached was to be served")),
            },
        }
    }

    /// Forgets the lists of the repository.
    pub(in crate::cache) async fn overtake(&self, grant: &Grant) {
        let validation = Arc::clone(&self.validation);
        let key = RecordKey::lists(grant);
        let overtake = move |records: &RepositoryRecords| {
            validation.epochs.exclusively(&key, || {
                // In memory they are of an earlier epoch now.
                validation.epochs.invalidate(&key, validation.clock.now());
                warn_of(records, records.drop_lists(), "cannot remove cached lists");
            });
            Ok(())
        };
        self.validation.overtake(grant, &RecordKey::lists(grant), overtake).await;
    }

    /// Forgets the pages in memory.
    pub(in crate::cache) fn clear_memory(&self) {
        self.memory.clear();
        self.held.clear_memory();
    }

    /// How much memory it takes.
    pub(in crate::cache) fn usage(&self) -> [MemoryUse; 3] {
        [self.memory.usage(), self.issued.usage(), self.held.usage()]
    }

    /// The page that is meant, and its record.
    async fn find_meant(
        self: &Arc<Self>,
        grant: &Grant,
        listing: &ListKind,
        page: &PageQuery,
    ) -> (PageQuery, Option<Arc<CachedList>>) {
        let known = self.find(grant, listing, &listing.name(page)).await;
        let is_issued = || self.issued.contains(&RecordKey::list(grant, &listing.name(page)));
        if known.is_some() || !page.is_opaque() || is_issued() {
            return (page.clone(), known);
        }
        let page = page.plain();
        let known = self.find(grant, listing, &listing.name(&page)).await;
        (page, known)
    }

    /// The record in memory or on disk.
    async fn find(
        self: &Arc<Self>,
        grant: &Grant,
        listing: &ListKind,
        name: &str,
    ) -> Option<Arc<CachedList>> {
        let epochs = &self.validation.epochs;
        if let Some(cached) = self.memory.get(&RecordKey::list(grant, name))
            && epochs.is_current(|| RecordKey::lists(grant), cached.validated.epoch)
        {
            return Some(cached);
        }
        let (listing_read, name_read, of) = (listing.clone(), name.to_owned(), grant.clone());
        let read = move |records: &RepositoryRecords, epoch| {
            let (content, at, is_doubtful) = if let Some(record) = records.list(&name_read)? {
                let (at, is_doubtful) = (record.checked_at, record.is_doubtful);
                (ListContent::Found(Arc::new(listing_read.restore(record))), at, is_doubtful)
            } else {
                let Some(absent) = records.absent(&name_read)? else { return Ok(None) };
                (ListContent::Absent(absent.said), absent.checked_at, absent.is_doubtful)
            };
            let validated = LastValidated::earlier(at, epoch).doubtful_if(is_doubtful, &of);
            Ok(Some((Arc::new(CachedList { content, validated }), validated)))
        };
        let (this, of, listing, name) =
            (Arc::clone(self), grant.clone(), listing.clone(), name.to_owned());
        let keep =
            move |cached: &Arc<CachedList>| this.remember(&of, &listing, &name, Arc::clone(cached));
        self.validation.load(grant, RecordKey::lists(grant), read, keep).await
    }

    /// Puts a record into memory, and the page that its link leads to.
    fn remember(&self, grant: &Grant, listing: &ListKind, name: &str, cached: Arc<CachedList>) {
        if let ListContent::Found(list) = &cached.content
            && let Some(next) = list.next.as_ref().filter(|next| next.is_opaque())
        {
            self.issued.put(RecordKey::list(grant, &listing.name(next)), ());
        }
        self.memory.put(RecordKey::list(grant, name), cached);
    }

    /// Asks the upstream for the page, and stores the answer.
    async fn revalidate(
        self: Arc<Self>,
        grant: Grant,
        listing: ListKind,
        page: PageQuery,
        epoch: Epoch,
    ) -> Result<Arc<ListPage>, CacheError> {
        let fetched =
            fetch(&grant, &listing, &page, &self.validation.documents).await.map(Arc::new);
        let content = match &fetched {
            Ok(list) => Some(ListContent::Found(Arc::clone(list))),
            Err(error) if error.refuses(&grant) => return fetched,
            // Another client may be shown a list that this client's credential does not show.
            Err(CacheError::Upstream(UpstreamError::NotFound {
                said, is_proven: true, ..
            })) if !grant.uses_client_credential() => Some(ListContent::Absent(said.clone())),
            Err(error) if error.is_an_answer() => None,
            Err(_) => return fetched,
        };
        let (this, of, name) = (Arc::clone(&self), grant.clone(), listing.name(&page));
        let write = move |records: &RepositoryRecords| {
            let validated = LastValidated::now(this.validation.clock.now(), epoch);
            match content.clone() {
                None => this.memory.remove(&RecordKey::list(&of, &name)),
                Some(content) => {
                    let cached = Arc::new(CachedList { content, validated });
                    this.remember(&of, &listing, &name, cached);
                }
            }
            let written = write_list(records, &name, content, validated.at);
            warn_of(records, written, "cannot store a list");
        };
        let key = RecordKey::lists(&grant);
        self.validation.store_if_current(&grant, key, epoch, write).await;
        fetched
    }
}

/// For how long a record is fresh. Registries without referrers give a 404 for each digest, and
/// `NAME_UNKNOWN` to say that there is no such repository.
fn policy(grant: &Grant, listing: &ListKind, known: Option<&CachedList>) -> TagPolicy {
    let policy = grant.registry().default_tag_policy();
    match (listing, known.map(|known| &known.content)) {
        (ListKind::Referrers(_), Some(ListContent::Absent(said)))
            if !said.as_ref().is_some_and(says_name_unknown) =>
        {
            policy.without_referrers()
        }
        _ => policy,
    }
}

fn says_name_unknown(said: &Bytes) -> bool {
    let said = serde_json::from_slice::<serde_json::Value>(said).unwrap_or_default();
    said["errors"][0]["code"] == ErrorCode::NameUnknown.as_str()
}

/// Blocks.
fn write_list(
    records: &RepositoryRecords,
    name: &str,
    content: Option<ListContent>,
    checked_at: SystemTime,
) -> io::Result<()> {
    match content {
        Some(ListContent::Found(list)) => {
            let record = ListRecord {
                checked_at,
                media_type: list.media_type.clone(),
                filters_applied: list.filters_applied.clone(),
                next: list.next.as_ref().map(PageQuery::to_query),
                body: list.body.clone(),
                is_doubtful: false,
            };
            records.put_list(name, &record)
        }
        Some(ListContent::Absent(said)) => {
            records.drop_list(name)?;
            records.put_absent(name, &AbsentRecord { checked_at, said, is_doubtful: false })
        }
        None => records.drop_list(name),
    }
}

/// The page from the upstream. A body that breaks off is asked for again. If the registry refuses
/// so many entries, as distribution and ECR do above 1,000, fewer are asked for.
async fn fetch(
    grant: &Grant,
    listing: &ListKind,
    page: &PageQuery,
    documents: &DocumentThreads,
) -> Result<ListPage, CacheError> {
    let mut page = page.clone();
    let mut question = Question {
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
        let answer = match (upstream.ask(&question, until).await, page.with_fewer()) {
            (Err(UpstreamError::Rejected { status, .. }), Some(fewer)) if status == 400 => {
                question.query = fewer.to_query();
                page = fewer;
                tries = 0;
                continue;
            }
            (answer, _) => answer?,
        };
        let (status, headers) = (answer.status, answer.headers);
        match timeout_at(until, answer.body.collect(ListRecord::BODY_BYTES_MAX)).await {
            Ok(Ok(body)) => {
                let read = read(documents, listing.clone(), page, headers, body).await?;
                return read
                    .map_err(|reason| UpstreamError::unexpected(host(), status, reason).into());
            }
            Ok(Err(error)) if error.is_transient() && tries < TRIES_MAX => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(CacheError::TimedOut { host: host(), waited: HEADERS_WAIT_MAX }),
        }
    }
}

async fn read(
    documents: &DocumentThreads,
    listing: ListKind,
    page: PageQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Result<ListPage, String>, CacheError> {
    let length = body.len();
    let read = move || listing.read(&page, &headers, body).map_err(str::to_owned);
    documents.read(length, read).await
}

/// How often a list whose body broke off is asked for.
const TRIES_MAX: usize = 3;
