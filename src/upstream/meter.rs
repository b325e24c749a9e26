//! The requests to a registry's upstreams and their outcomes, in numbers.
//!
//! One meter for all upstreams of a registry, their token servers and their storage. It counts the
//! requests that are sent, redirects and retries each by itself; back-off and breaker hold others
//! back.

use http::StatusCode;
use tokio::time::Instant;

use super::backoff::LimitClass;
use crate::telemetry::{Counter, CounterGrid, Histogram, HistogramSnapshot};

/// Requests and their outcomes.
#[derive(Debug, Default)]
pub struct UpstreamMeter {
    requests: CounterGrid<{ LimitClass::ALL.len() }, { CallOutcome::ALL.len() }>,
    heads: [Histogram; LimitClass::ALL.len()],
    received: Counter,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    Success,
    Redirect,
    Refusal,
    Fault,
    /// It asks us to slow down.
    Limit,
    /// The caller had no more time, or no more interest.
    Abandoned,
    /// Its address may not be dialled: nothing was sent.
    Forbidden,
    /// No head came in time.
    Stalled,
    /// No connection, or one that broke.
    Unreachable,
}

impl CallOutcome {
    const ALL: [Self; 9] = [
        Self::Success,
        Self::Redirect,
        Self::Refusal,
        Self::Fault,
        Self::Limit,
        Self::Abandoned,
        Self::Forbidden,
        Self::Stalled,
        Self::Unreachable,
    ];

    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::Refusal,
            500.. => Self::Fault,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::Refusal => "4xx",
            Self::Fault => "5xx",
            Self::Limit => "limited",
            Self::Abandoned => "abandoned",
            Self::Forbidden => "forbidden",
            Self::Stalled => "stalled",
            Self::Unreachable => "unreachable",
        }
    }
}

impl UpstreamMeter {
    /// Whether it ever answered with content: an upstream that is there, and that takes Larder's
    /// credential.
    pub fn has_succeeded(&self) -> bool {
        let mut answers = self
            .requests
            .counted()
            .filter(|(_, outcome, _)| *outcome == CallOutcome::Success.index());
        answers.any(|(class, ..)| class != LimitClass::Token.index())
    }

    #[cfg(test)]
    pub(crate) fn succeed_for_test(&self) {
        self.begin(LimitClass::ManifestGet).answered(StatusCode::OK);
    }

    /// A request of this class is being sent.
    pub(super) fn begin(&self, class: LimitClass) -> CallInFlight<'_> {
        let (began, outcome) = (Instant::now(), CallOutcome::Abandoned);
        CallInFlight { meter: self, class, began, outcome }
    }

    /// Bytes of a body have come.
    pub(super) fn received_more(&self, bytes: usize) {
        self.received.add(bytes as u64);
    }

    /// Requests by class and by what came of them.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.requests.counted().filter_map(|(class, outcome, count)| {
            Some((
                LimitClass::ALL.get(class)?.as_str(),
                CallOutcome::ALL.get(outcome)?.as_str(),
                count,
            ))
        })
    }

    /// How long answers took to begin, by class; of classes that were answered at all.
    pub fn heads(&self) -> impl Iterator<Item = (&'static str, HistogramSnapshot)> {
        let all = LimitClass::ALL.into_iter().zip(&self.heads);
        let read = all.map(|(class, heads)| (class.as_str(), heads.read()));
        read.filter(|(_, observed)| observed.count > 0)
    }

    /// Bytes of bodies that came.
    pub fn received(&self) -> u64 {
        self.received.get()
    }
}

/// A request under way. Dropped without more, it was abandoned.
#[derive(Debug)]
pub(super) struct CallInFlight<'m> {
    meter: &'m UpstreamMeter,
    class: LimitClass,
    began: Instant,
    outcome: CallOutcome,
}

impl CallInFlight<'_> {
    /// The head of an answer came.
    pub(super) fn answered(self, status: StatusCode) {
        self.ended(CallOutcome::of(status));
    }

    /// The head of an answer came, and asks us to slow down.
    pub(super) fn limited(self) {
        self.ended(CallOutcome::Limit);
    }

    fn ended(mut self, outcome: CallOutcome) {
        self.outcome = outcome;
        if let Some(heads) = self.meter.heads.get(self.class.index()) {
            heads.observe(self.began.elapsed());
        }
    }

    /// None came.
    pub(super) fn failed(mut self, outcome: CallOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for CallInFlight<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.meter.requests.at(self.class.index(), self.outcome.index()) {
            counter.increment();
        }
    }
}

impl CallOutcome {
    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_is_counted_whatever_came_of_it() {
        let meter = UpstreamMeter::default();
        let asking = meter.begin(LimitClass::Blob);
        tokio::time::advance(Duration::from_secs(2)).await;
        asking.answered(StatusCode::PARTIAL_CONTENT);
        meter.begin(LimitClass::Token).failed(CallOutcome::Unreachable);
        drop(meter.begin(LimitClass::Token));

        let requests: Vec<_> = meter.requests().collect();
        let want = [("blob", "2xx", 1), ("token", "abandoned", 1), ("token", "unreachable", 1)];
        assert_eq!(requests, want);
        let heads: Vec<_> = meter.heads().collect();
        let [("blob", observed)] = &heads[..] else { panic!("{heads:?}") };
        assert_eq!((observed.count, observed.sum), (1, 2.0));
    }

    #[test]
    fn statuses_are_told_by_their_class_and_indices_are_places() {
        for (status, word) in [(200, "2xx"), (206, "2xx"), (307, "3xx"), (404, "4xx"), (599, "5xx")]
        {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(CallOutcome::of(status).as_str(), word);
        }
        assert!(CallOutcome::ALL.iter().enumerate().all(|(at, outcome)| outcome.index() == at));
        assert!(LimitClass::ALL.iter().enumerate().all(|(at, class)| class.index() == at));
    }
}
