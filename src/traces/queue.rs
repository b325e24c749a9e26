//! Spans that wait to be sent: never more than a bound, so that a collector that hangs costs
//! memory once, and no request waits for it.

use parking_lot::Mutex;
use std::collections::VecDeque;

use tokio::sync::Notify;

use super::span::FinishedSpan;
use crate::telemetry::Counter;

/// The spans.
#[derive(Debug, Default)]
pub struct SpanQueue {
    spans: Mutex<VecDeque<FinishedSpan>>,
    is_batch: Notify,
    /// The counts of spans.
    pub losses: SpanLosses,
}

/// How many spans were sent, and how many were not.
#[derive(Debug, Default)]
pub struct SpanLosses {
    /// The collector has taken them.
    pub sent: Counter,
    /// There was no room for them: the collector was too slow, or away.
    pub lost: Counter,
    /// The collector has refused them.
    pub refused: Counter,
}

impl SpanQueue {
    /// Adds a span, or loses it if there is no room.
    pub(super) fn push(&self, span: FinishedSpan) {
        let mut spans = self.spans.lock();
        if spans.len() >= QUEUED_MAX {
            return self.losses.lost.increment();
        }
        spans.push_back(span);
        // The sender looks at intervals: to wake it for each span would cost a system call.
        if spans.len() == BATCH_SPANS {
            self.is_batch.notify_one();
        }
    }

    /// Takes the spans that have waited longest, as many as are sent at once.
    pub(super) fn take_batch(&self) -> Vec<FinishedSpan> {
        let mut spans = self.spans.lock();
        let count = spans.len().min(BATCH_SPANS);
        spans.drain(..count).collect()
    }

    /// Waits until there are as many as are sent at once. It may end although there are fewer.
    pub(super) async fn until_batch(&self) {
        if self.len() < BATCH_SPANS {
            self.is_batch.notified().await;
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.spans.lock().len()
    }
}

/// How many spans may wait. OpenTelemetry's default.
const QUEUED_MAX: usize = 2048;

/// How many spans are sent at once. OpenTelemetry's default.
const BATCH_SPANS: usize = 512;
