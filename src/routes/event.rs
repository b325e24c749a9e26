//! What happened to a request, said once: the log, the metrics and whoever else wants to know have it
//! from here.
//!
//! Events are broadcast, and nobody waits for a reader: one that cannot keep up loses the oldest, and
//! is told how many. Counting is not left to a reader, because a counter that loses is wrong; it is
//! done from the same [`RequestSummary`] (`traffic.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::door::ResolvedTarget;
use crate::cache::Decision;
use crate::oci::{ApiCall, RepositoryName, Resource};
use crate::telemetry::Counter;

/// A request and what became of it.
#[derive(Debug)]
pub struct RequestEvent {
    /// What is counted.
    pub summary: RequestSummary,
    /// Its method.
    pub method: Method,
    /// The beginning of its path, without the query.
    pub path: Box<str>,
    /// The registry that it meant, if any.
    pub registry: Option<Box<str>>,
    /// The repository, by its name at the registry.
    pub repository: Option<RepositoryName>,
    /// The id that an error answer has.
    pub request_id: Option<String>,
    /// What went wrong.
    pub fault: Option<String>,
}

/// What of a request is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestSummary {
    /// What was asked for.
    pub route: RequestKind,
    /// The status of the answer.
    pub status: StatusCode,
    /// How it was come by; `None` for what the cache had no part in.
    pub decision: Option<Decision>,
    /// Bytes of the answer's body that were handed to the connection.
    pub sent: u64,
    /// From the request's head to the end of the answer.
    pub took: Duration,
    /// From the request's head to the first byte of the answer's body, or to its head if it has none.
    /// `None` if the client had left by then.
    pub first_byte: Option<Duration>,
    /// How it ended.
    pub end: AnswerEnd,
}

/// What a request asks for, without saying which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// `blobs/<digest>`
    Blob,
    /// `manifests/<reference>`
    Manifest,
    /// `/v2/`
    Ping,
    /// `referrers/<digest>`
    Referrers,
    /// `tags/list`
    Tags,
    /// Nothing that is served.
    Unknown,
    /// `blobs/uploads/`
    Upload,
}

impl RequestKind {
    /// All of them, in the order of [`RequestKind::index`].
    pub const ALL: [Self; 7] = [
        Self::Blob,
        Self::Manifest,
        Self::Ping,
        Self::Referrers,
        Self::Tags,
        Self::Unknown,
        Self::Upload,
    ];

    pub(super) fn of(entered: Option<&ResolvedTarget>) -> Self {
        match entered.map(|entered| &entered.call) {
            None => Self::Unknown,
            Some(ApiCall::Ping) => Self::Ping,
            Some(ApiCall::In(_, Resource::Blob(_))) => Self::Blob,
            Some(ApiCall::In(_, Resource::Manifest(_))) => Self::Manifest,
            Some(ApiCall::In(_, Resource::Referrers(_))) => Self::Referrers,
            Some(ApiCall::In(_, Resource::Tags)) => Self::Tags,
            Some(ApiCall::In(_, Resource::Upload(_))) => Self::Upload,
        }
    }

    /// Its place among them.
    pub fn index(self) -> usize {
        self as usize
    }

    /// What logs and metrics call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Manifest => "manifest",
            Self::Ping => "ping",
            Self::Referrers => "referrers",
            Self::Tags => "tags",
            Self::Unknown => "unknown",
            Self::Upload => "upload",
        }
    }
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    /// The client went away before the end.
    ClientLeft,
    /// It was cut off, so that the client sees that it is not whole.
    Cut,
    /// All of it was handed over.
    Whole,
}

impl AnswerEnd {
    /// All of them, in the order of [`AnswerEnd::index`].
    pub const ALL: [Self; 3] = [Self::ClientLeft, Self::Cut, Self::Whole];

    /// Its place among them.
    pub fn index(self) -> usize {
        self as usize
    }

    /// What the log calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientLeft => "client left",
            Self::Cut => "cut",
            Self::Whole => "whole",
        }
    }
}

/// Tells whoever listens.
#[derive(Debug)]
pub struct EventSender {
    sender: broadcast::Sender<Arc<RequestEvent>>,
    readers: Arc<AtomicUsize>,
    lost: Arc<Counter>,
}

impl Default for EventSender {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(KEPT_MAX);
        Self { sender, readers: Arc::default(), lost: Arc::default() }
    }
}

impl EventSender {
    /// Whether anybody listens. Where nobody does, no event need be made.
    pub fn are_read(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Tells those who listen. Waits for nobody.
    pub(super) fn tell(&self, event: RequestEvent) {
        // It fails when nobody listens, which is as well.
        drop(self.sender.send(Arc::new(event)));
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> EventReader {
        self.readers.fetch_add(1, Ordering::Relaxed);
        let (receiver, readers) = (self.sender.subscribe(), Arc::clone(&self.readers));
        EventReader { receiver, readers, lost: Arc::clone(&self.lost) }
    }

    /// How many events readers have lost.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }
}

/// One who listens.
#[derive(Debug)]
pub struct EventReader {
    receiver: broadcast::Receiver<Arc<RequestEvent>>,
    readers: Arc<AtomicUsize>,
    lost: Arc<Counter>,
}

/// What a reader hears.
#[derive(Clone, Debug)]
pub enum EventRead {
    /// The next event.
    Event(Arc<RequestEvent>),
    /// So many were lost, because they were not read in time.
    Lost(u64),
}

impl EventReader {
    /// The next one; `None` when there will be no more.
    pub async fn next(&mut self) -> Option<EventRead> {
        match self.receiver.recv().await {
            Ok(event) => Some(EventRead::Event(event)),
            Err(RecvError::Lagged(count)) => Some(self.has_lost(count)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next one, if there is one already.
    pub fn next_now(&mut self) -> Option<EventRead> {
        match self.receiver.try_recv() {
            Ok(event) => Some(EventRead::Event(event)),
            Err(TryRecvError::Lagged(count)) => Some(self.has_lost(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    fn has_lost(&self, count: u64) -> EventRead {
        self.lost.add(count);
        EventRead::Lost(count)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Events that are kept for the slowest reader: a twentieth of a second of the most that two cores
/// answer, and 4 MiB if all have the longest path.
const KEPT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sent: u64) -> RequestEvent {
        let summary = RequestSummary {
            route: RequestKind::Blob,
            status: StatusCode::OK,
            decision: Some(Decision::Hit),
            sent,
            took: Duration::ZERO,
            first_byte: None,
            end: AnswerEnd::Whole,
        };
        let (method, path) = (Method::GET, "/v2/".into());
        let (registry, repository, request_id, fault) = (None, None, None, None);
        RequestEvent { summary, method, path, registry, repository, request_id, fault }
    }

    fn number(heard: Option<EventRead>) -> Option<u64> {
        match heard {
            Some(EventRead::Event(event)) => Some(event.summary.sent),
            _ => None,
        }
    }

    #[test]
    fn a_reader_that_cannot_keep_up_loses_the_oldest_and_is_told() {
        let events = EventSender::default();
        let (mut slow, mut quick) = (events.subscribe(), events.subscribe());
        let all = 0..(KEPT_MAX as u64 + 10);
        for sent in all.clone() {
            events.tell(event(sent));
            assert_eq!(number(quick.next_now()), Some(sent));
        }

        assert!(matches!(slow.next_now(), Some(EventRead::Lost(10))));
        let rest: Vec<_> = std::iter::from_fn(|| number(slow.next_now())).collect();
        assert_eq!(rest, all.skip(10).collect::<Vec<_>>());
        assert_eq!(events.lost(), 10);
    }

    #[test]
    fn nobody_listens_until_somebody_does_and_after_they_have_gone() {
        let events = EventSender::default();
        assert!(!events.are_read());
        events.tell(event(1));
        let mut reader = events.subscribe();
        assert!(events.are_read() && reader.next_now().is_none());
        drop(reader);
        assert!(!events.are_read());
    }

    #[test]
    fn indices_are_places() {
        assert!(RequestKind::ALL.iter().enumerate().all(|(at, route)| route.index() == at));
        assert!(AnswerEnd::ALL.iter().enumerate().all(|(at, end)| end.index() == at));
    }
}
