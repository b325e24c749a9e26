//! A request under way, and all that keep account of its host.

use std::time::Duration;

use http::Response;

use super::backoff::BackoffPermit;
use super::breaker::BreakerPermit;
use super::limit;
use super::meter::{CallInFlight, CallOutcome};
use super::status::StatusClass;
use crate::http::Incoming;

/// A request under way, whose outcome is told to all that keep account of its host.
pub(super) struct GuardedCall<'t> {
    pub(super) backoff: BackoffPermit<'t>,
    pub(super) breaker: BreakerPermit<'t>,
    pub(super) in_flight: CallInFlight<'t>,
}

impl GuardedCall<'_> {
    /// A head came. Returns for how long nothing of its kind will be sent, if it limits us.
    pub(super) fn answered(self, response: &Response<Incoming>) -> Option<Duration> {
        let status = response.status();
        let headers = response.headers();
        if limit::is_limit(status, headers) {
            self.in_flight.limited();
            self.breaker.answered();
            return Some(self.backoff.refused(limit::retry_after(headers)));
        }
        self.in_flight.answered(status);
        self.backoff.answered();
        if StatusClass::of(status) == StatusClass::Gateway {
            self.breaker.failed(status.as_str());
        } else {
            self.breaker.answered();
        }
        None
    }

    /// No head came, through the host or the way to it.
    pub(super) fn failed(self, outcome: CallOutcome, fault: &str) {
        self.in_flight.failed(outcome);
        self.breaker.failed(fault);
    }
}
