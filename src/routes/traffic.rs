//! Counts requests, by the registry that they mean.
//!
//! A registry is counted under its name in the configuration, so no text of a client adds a series.
//! Only those that a pattern matches are counted under names of clients; the set of registries
//! bounds them. How the counts are exposed is decided in `admin`.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;

use super::event::{AnswerEnd, EventSender, RequestKind, RequestSummary};
use super::line_queue::RequestLogs;
use super::pull_filter::PullFilter;
use crate::cache::Decision;
use crate::registry::Registry;
use crate::telemetry::{Counter, CounterGrid, Histogram};
use crate::traces::Tracer;

/// The counters of all requests since the start. They outlive a reload of the configuration.
#[derive(Debug, Default)]
pub struct TrafficCounters {
    events: EventSender,
    logs: RequestLogs,
    access_log_refused: Arc<Counter>,
    /// Records spans, if they are sent anywhere.
    tracer: Option<Arc<Tracer>>,
    pulls: PullFilter,
    timings: [RequestTiming; RequestKind::ALL.len()],
    /// Requests that mean no registry.
    without_registry: Arc<RegistryCounts>,
    registries: Mutex<BTreeMap<String, Arc<RegistryCounts>>>,
}

/// How long requests of one kind take.
#[derive(Debug, Default)]
pub struct RequestTiming {
    /// Time to the end of the answer.
    pub took: Histogram,
    /// Time to its first byte.
    pub first_byte: Histogram,
}

/// The requests that mean one registry.
#[derive(Debug, Default)]
pub struct RegistryCounts {
    /// By route and decision, and by status.
    answered: CounterGrid<{ RequestKind::ALL.len() * DECISIONS }, STATUSES>,
    /// Bytes, by route and decision.
    sent: CounterGrid<{ RequestKind::ALL.len() }, DECISIONS>,
    ends: CounterGrid<1, { AnswerEnd::ALL.len() }>,
}

/// The number of requests with these labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerLabels {
    /// The kind of resource.
    pub route: RequestKind,
    /// The decision of the cache, if it took part.
    pub decision: Option<Decision>,
    /// The class of the status: `2xx` and so on.
    pub status: &'static str,
    /// The number of requests.
    pub count: u64,
}

impl TrafficCounters {
    /// Counts, and has `tracer` record spans.
    pub fn traced(tracer: Arc<Tracer>) -> Self {
        Self { tracer: Some(tracer), ..Self::default() }
    }

    /// Records spans; `None` if they are not sent anywhere.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_deref()
    }

    /// The sender of events.
    pub fn events(&self) -> &EventSender {
        &self.events
    }

    /// The logs with a line for each request.
    pub fn logs(&self) -> &RequestLogs {
        &self.logs
    }

    /// The lines of the access log that its disk did not take.
    pub fn access_log_refused(&self) -> &Arc<Counter> {
        &self.access_log_refused
    }

    /// The filter of the events that may begin a pull.
    pub(super) fn pulls(&self) -> &PullFilter {
        &self.pulls
    }

    /// How long requests took.
    pub fn timings(&self) -> impl Iterator<Item = (RequestKind, &RequestTiming)> {
        RequestKind::ALL.into_iter().zip(&self.timings)
    }

    /// The counts of every registry by name; the empty name has requests that mean no registry.
    pub fn counts(&self) -> Vec<(String, Arc<RegistryCounts>)> {
        let registries = self.registries.lock();
        let named = registries.iter().map(|(name, counts)| (name.clone(), Arc::clone(counts)));
        named.chain([(String::new(), Arc::clone(&self.without_registry))]).collect()
    }

    /// Counts for these registries from now on, and forgets the others. Returns the counts in the
    /// order of the names.
    pub(super) fn count_for<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> Vec<Arc<RegistryCounts>> {
        let mut registries = self.registries.lock();
        let before = std::mem::take(&mut *registries);
        let counts = |name: &str| before.get(name).map(Arc::clone).unwrap_or_default();
        let wanted: Vec<_> = names.map(|name| (name.to_owned(), counts(name))).collect();
        registries.extend(wanted.iter().cloned());
        wanted.into_iter().map(|(_, counts)| counts).collect()
    }

    /// The counts of a registry that a pattern matches. Those of registries that are not `known`
    /// any more are forgotten when a new one comes.
    pub(super) fn counts_of(
        &self,
        name: &str,
        known: impl FnOnce() -> Vec<Arc<Registry>>,
    ) -> Arc<RegistryCounts> {
        let mut registries = self.registries.lock();
        if let Some(counts) = registries.get(name) {
            return Arc::clone(counts);
        }
        let known = known();
        registries.retain(|name, _| known.iter().any(|it| it.name().as_str() == name));
        Arc::clone(registries.entry(name.to_owned()).or_default())
    }

    pub(super) fn without_registry(&self) -> &Arc<RegistryCounts> {
        &self.without_registry
    }

    pub(super) fn note(&self, counts: &RegistryCounts, summary: &RequestSummary) {
        counts.note(summary);
        if let Some(timing) = self.timings.get(summary.route.index()) {
            timing.took.observe(summary.took);
            if let Some(first_byte) = summary.first_byte {
                timing.first_byte.observe(first_byte);
            }
        }
    }
}

impl RegistryCounts {
    fn note(&self, summary: &RequestSummary) {
        let RequestSummary { route, status, decision, sent, end, .. } = *summary;
        let decision = decision.map_or(UNDECIDED, Decision::index);
        let row = route.index() * DECISIONS + decision;
        if let Some(counter) = self.answered.at(row, status_index(status)) {
            counter.increment();
        }
        if let Some(counter) = self.sent.at(route.index(), decision).filter(|_| sent > 0) {
            counter.add(sent);
        }
        if let Some(counter) = self.ends.at(0, end.index()) {
            counter.increment();
        }
    }

    /// The requests that were answered, by their labels.
    pub fn answered(&self) -> impl Iterator<Item = AnswerLabels> {
        self.answered.counted().filter_map(|(row, status, count)| {
            let route = *RequestKind::ALL.get(row / DECISIONS)?;
            let status = STATUS_NAMES.get(status)?;
            Some(AnswerLabels { route, decision: decision_at(row % DECISIONS), status, count })
        })
    }

    /// The bytes that were sent, by kind and decision.
    pub fn sent(&self) -> impl Iterator<Item = (RequestKind, Option<Decision>, u64)> {
        self.sent.counted().filter_map(|(route, decision, bytes)| {
            Some((*RequestKind::ALL.get(route)?, decision_at(decision), bytes))
        })
    }

    /// The answers, by their ends.
    pub fn ends(&self) -> impl Iterator<Item = (AnswerEnd, u64)> {
        self.ends.counted().filter_map(|(_, end, count)| Some((*AnswerEnd::ALL.get(end)?, count)))
    }
}

fn decision_at(index: usize) -> Option<Decision> {
    Decision::ALL.get(index).copied()
}

/// One for each decision, and one for requests without a decision.
const DECISIONS: usize = Decision::ALL.len() + 1;

const UNDECIDED: usize = Decision::ALL.len();

const STATUS_NAMES: [&str; STATUSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

const STATUSES: usize = 5;

fn status_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, STATUSES) - 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn summary(decision: Option<Decision>, status: u16) -> RequestSummary {
        let status = StatusCode::from_u16(status).unwrap();
        let (took, first_byte) = (Duration::from_secs(1), Some(Duration::from_millis(1)));
        let (route, end) = (RequestKind::Manifest, AnswerEnd::Whole);
        RequestSummary { route, status, decision, sent: 10, took, first_byte, end }
    }

    #[test]
    fn every_request_is_counted_under_its_labels() {
        let traffic = TrafficCounters::default();
        let counts = traffic.count_for(["a.test"].into_iter());
        for decision in Decision::ALL.into_iter().map(Some).chain([None]) {
            traffic.note(&counts[0], &summary(decision, 206));
        }

        let read: Vec<_> = counts[0].answered().map(|it| (it.decision, it.status)).collect();
        let want: Vec<_> = Decision::ALL.into_iter().map(Some).chain([None]).collect();
        assert_eq!(read, want.iter().map(|it| (*it, "2xx")).collect::<Vec<_>>());
        assert!(counts[0].answered().all(|it| it.route == RequestKind::Manifest && it.count == 1));
        assert_eq!(counts[0].sent().count(), want.len());
        let asked = want.len() as u64;
        assert_eq!(counts[0].ends().collect::<Vec<_>>(), [(AnswerEnd::Whole, asked)]);
        let (_, timing) =
            traffic.timings().find(|(route, _)| *route == RequestKind::Manifest).unwrap();
        assert_eq!((timing.took.read().count, timing.first_byte.read().count), (asked, asked));
    }

    /// A counter that falls back to zero at a reload looks like a restart.
    #[test]
    fn a_reload_keeps_the_counts_of_registries_that_remain() {
        let traffic = TrafficCounters::default();
        let counts = traffic.count_for(["a.test", "b.test"].into_iter());
        traffic.note(&counts[0], &summary(None, 200));

        let after = traffic.count_for(["c.test", "a.test"].into_iter());
        assert!(Arc::ptr_eq(&counts[0], &after[1]));
        let names: Vec<_> = traffic.counts().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.test", "c.test", ""]);
    }
}
