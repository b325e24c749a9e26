//! One event for a request, for its readers: the log of pulls, the page, traces.
//!
//! Events are broadcast without waiting for a reader: a slow one loses the oldest events and learns
//! how many. Metrics are not counted by a reader, because a counter must not lose any; they are
//! counted from the same [`RequestSummary`] in `traffic.rs`. Nor are logs written by one, which
//! would cost more than the lines: `line_queue.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::door::ResolvedTarget;
use super::event_client::EventClient;
use crate::cache::Decision;
use crate::oci::{ApiCall, Reference, RepositoryName, Resource};
use crate::telemetry::Counter;

/// A request whose answer has ended.
#[derive(Debug)]
pub struct RequestEvent {
    /// The values that are counted as well.
    pub summary: RequestSummary,
    /// The values that are not.
    pub details: RequestDetails,
}

/// The parts of a request that are not counted.
#[derive(Debug)]
pub struct RequestDetails {
    /// Its method.
    pub method: Method,
    /// The first 512 characters of its path, without the query; `-` for the id of an upload, which
    /// is a key to it.
    pub path: Box<str>,
    /// The registry that it meant, if any.
    pub registry: Option<Box<str>>,
    /// The repository, by its name at the registry.
    pub repository: Option<RepositoryName>,
    /// The manifest, if it asked for one.
    pub manifest: Option<Reference>,
    /// The client.
    pub client: EventClient,
    /// The first 128 bytes of the name that the client's program gives itself, escaped.
    pub agent: Option<Box<str>>,
    /// Whether it may begin a pull. Never where the registry is asked with clients' own
    /// credentials: that a client has pulled there is between the two.
    pub is_pull: bool,
    /// Bytes of its body that have come; `None` without a body.
    pub received: Option<u64>,
    /// The id in the body of an error answer.
    pub request_id: Option<String>,
    /// The error.
    pub fault: Option<String>,
}

/// The parts of a request that are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RequestSummary {
    /// The kind of resource.
    pub route: RequestKind,
    /// The status of the answer.
    pub status: StatusCode,
    /// The decision of the cache; `None` if it took no part in the answer.
    pub decision: Option<Decision>,
    /// Bytes of the body that were handed to the connection.
    pub sent: u64,
    /// Time from the head of the request to the end of the answer.
    pub took: Duration,
    /// Time from the head of the request to the first byte of the body, or to the head of an answer
    /// without a body. `None` if the client had left by then.
    pub first_byte: Option<Duration>,
    /// The end of the answer.
    pub end: AnswerEnd,
}

/// The kind of resource that a request asks for.
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
    /// None of them.
    Unknown,
    /// `blobs/uploads/`
    Upload,
}

impl RequestKind {
    /// Every kind, in the order of [`RequestKind::index`].
    pub const ALL: [Self; 7] = [
        Self::Blob,
        Self::Manifest,
        Self::Ping,
        Self::Referrers,
        Self::Tags,
        Self::Unknown,
        Self::Upload,
    ];

    pub(super) fn of(target: Option<&ResolvedTarget>) -> Self {
        match target.map(|target| &target.call) {
            None => Self::Unknown,
            Some(ApiCall::Ping) => Self::Ping,
            Some(ApiCall::In(_, Resource::Blob(_))) => Self::Blob,
            Some(ApiCall::In(_, Resource::Manifest(_))) => Self::Manifest,
            Some(ApiCall::In(_, Resource::Referrers(_))) => Self::Referrers,
            Some(ApiCall::In(_, Resource::Tags)) => Self::Tags,
            Some(ApiCall::In(_, Resource::Upload(_))) => Self::Upload,
        }
    }

    /// Its index in [`RequestKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in logs and metrics.
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

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    /// The client closed the connection before the end.
    ClientLeft,
    /// The answer was cut, so that the client sees that it is incomplete.
    Cut,
    /// All of it was handed to the connection.
    Whole,
}

impl AnswerEnd {
    /// Every end, in the order of [`AnswerEnd::index`].
    pub const ALL: [Self; 3] = [Self::ClientLeft, Self::Cut, Self::Whole];

    /// Its index in [`AnswerEnd::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientLeft => "client left",
            Self::Cut => "cut",
            Self::Whole => "whole",
        }
    }
}

/// The class of an event, by which readers choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventClass {
    /// An event that neither of the others has: a ping, a path that names no registry, or a cached
    /// manifest that the client has asked for alike within the last half minute.
    Any,
    /// An event with news, for a page.
    Notable,
    /// An event of a request that may begin a pull.
    Pull,
}

/// Sends events to their readers.
#[derive(Debug)]
pub struct EventSender {
    sender: broadcast::Sender<Arc<RequestEvent>>,
    /// Readers, by the lowest class that they want.
    readers: Arc<[AtomicUsize; 3]>,
    lost: Arc<Counter>,
}

impl Default for EventSender {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(LAG_MAX);
        Self { sender, readers: Arc::default(), lost: Arc::default() }
    }
}

impl EventSender {
    /// Whether there is a reader of any class.
    pub fn has_readers(&self) -> bool {
        self.wants(EventClass::Pull)
    }

    /// Whether a reader wants the events of this class. If not, none need be built.
    pub fn wants(&self, class: EventClass) -> bool {
        let wanted = self.readers.iter().take(class as usize + 1);
        wanted.map(|readers| readers.load(Ordering::Relaxed)).any(|readers| readers > 0)
    }

    /// Sends an event to every reader, without waiting.
    pub(super) fn send(&self, event: RequestEvent) {
        // An error means only that there is no reader.
        drop(self.sender.send(Arc::new(event)));
    }

    /// A reader, from now on, of the events of this class and of those above it. Others may come to
    /// it as well.
    pub fn subscribe(&self, class: EventClass) -> EventReader {
        let receiver = self.sender.subscribe();
        let reader = EventReader {
            receiver,
            class,
            readers: Arc::clone(&self.readers),
            lost: Arc::clone(&self.lost),
        };
        reader.count().fetch_add(1, Ordering::Relaxed);
        reader
    }

    /// The number of events that slow readers have lost.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }
}

/// A reader of events.
#[derive(Debug)]
pub struct EventReader {
    receiver: broadcast::Receiver<Arc<RequestEvent>>,
    class: EventClass,
    readers: Arc<[AtomicUsize; 3]>,
    lost: Arc<Counter>,
}

/// One result of a reader.
#[derive(Clone, Debug)]
pub enum EventRead {
    /// The next event.
    Event(Arc<RequestEvent>),
    /// The number of events that were lost because they were not read in time.
    Lost(u64),
}

impl EventReader {
    /// Waits for the next event; `None` when the sender is gone.
    pub async fn next(&mut self) -> Option<EventRead> {
        match self.receiver.recv().await {
            Ok(event) => Some(EventRead::Event(event)),
            Err(RecvError::Lagged(count)) => Some(self.note_lost(count)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event, if there is one already.
    pub fn next_now(&mut self) -> Option<EventRead> {
        match self.receiver.try_recv() {
            Ok(event) => Some(EventRead::Event(event)),
            Err(TryRecvError::Lagged(count)) => Some(self.note_lost(count)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }

    /// The readers of its class.
    fn count(&self) -> &AtomicUsize {
        let [any, notable, pulls] = &*self.readers;
        match self.class {
            EventClass::Any => any,
            EventClass::Notable => notable,
            EventClass::Pull => pulls,
        }
    }

    fn note_lost(&self, count: u64) -> EventRead {
        self.lost.add(count);
        EventRead::Lost(count)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Shows each event, until the sender is gone or `stop` is cancelled; then those that are due
/// already. Waking a waiting reader would cost each request a system call, so events are read at
/// intervals of `pause`. Shows `None` whenever no more are due.
pub async fn each_event(
    mut events: EventReader,
    pause: Duration,
    stop: CancellationToken,
    mut show: impl FnMut(Option<EventRead>),
) {
    loop {
        let read = tokio::select! {
            read = events.next() => read,
            () = stop.cancelled() => None,
        };
        let is_over = read.is_none();
        if read.is_some() {
            show(read);
        }
        while let Some(read) = events.next_now() {
            show(Some(read));
        }
        show(None);
        if is_over {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// How many events a slow reader may lag behind: a twentieth of a second at the most requests that
/// two cores answer, and 4 MiB if all have the longest path.
const LAG_MAX: usize = 4096;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::routes) fn event(sent: u64) -> RequestEvent {
        let summary = RequestSummary {
            route: RequestKind::Blob,
            status: StatusCode::OK,
            decision: Some(Decision::Hit),
            sent,
            took: Duration::ZERO,
            first_byte: None,
            end: AnswerEnd::Whole,
        };
        let details = RequestDetails {
            method: Method::GET,
            path: "/v2/".into(),
            registry: None,
            repository: None,
            manifest: None,
            client: EventClient::at([127, 0, 0, 1].into()),
            agent: None,
            is_pull: false,
            received: None,
            request_id: None,
            fault: None,
        };
        RequestEvent { summary, details }
    }

    fn number(heard: Option<EventRead>) -> Option<u64> {
        match heard {
            Some(EventRead::Event(event)) => Some(event.summary.sent),
            _ => None,
        }
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_events_and_learns_how_many() {
        let events = EventSender::default();
        let (mut slow, mut quick) =
            (events.subscribe(EventClass::Any), events.subscribe(EventClass::Any));
        let all = 0..(LAG_MAX as u64 + 10);
        for sent in all.clone() {
            events.send(event(sent));
            assert_eq!(number(quick.next_now()), Some(sent));
        }

        assert!(matches!(slow.next_now(), Some(EventRead::Lost(10))));
        let rest: Vec<_> = std::iter::from_fn(|| number(slow.next_now())).collect();
        assert_eq!(rest, all.skip(10).collect::<Vec<_>>());
        assert_eq!(events.lost(), 10);
    }

    #[test]
    fn there_are_readers_from_a_subscription_until_its_reader_is_dropped() {
        let events = EventSender::default();
        let wanted =
            || [EventClass::Any, EventClass::Notable, EventClass::Pull].map(|it| events.wants(it));
        assert_eq!(wanted(), [false; 3]);
        events.send(event(1));
        for (class, want) in [
            (EventClass::Any, [true; 3]),
            (EventClass::Notable, [false, true, true]),
            (EventClass::Pull, [false, false, true]),
        ] {
            let mut reader = events.subscribe(class);
            assert!(wanted() == want && events.has_readers(), "{class:?}");
            assert!(reader.next_now().is_none(), "sent before");
        }
        assert!(wanted() == [false; 3] && !events.has_readers());
    }

    #[test]
    fn each_index_is_the_position_in_the_list() {
        assert!(RequestKind::ALL.iter().enumerate().all(|(at, route)| route.index() == at));
        assert!(AnswerEnd::ALL.iter().enumerate().all(|(at, end)| end.index() == at));
    }
}
