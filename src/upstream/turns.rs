//! The turns of several logins at one upstream: which one asks, and when the next one does.
//!
//! The login that has most left of its allowance asks; between equals the order of the
//! configuration decides. A login that is limited, or whose credential is refused, leaves the
//! question to the next. Any other answer, also that there is no right to a repository, is the
//! registry's. Storage is shown no login, and one that limits would limit the next as well. Clients
//! with credentials of their own, and pushes, use the first login alone.

use std::time::Duration;

use super::ask::Upstream;
use super::budget::RateBudget;
use super::error::UpstreamError;
use super::login::UpstreamLogin;
use super::question::{Answer, Question};

impl Upstream {
    /// All logins, in the order of the configuration.
    pub(super) fn logins(&self) -> impl Iterator<Item = &UpstreamLogin> {
        std::iter::once(&self.login).chain(&self.further_logins)
    }

    /// The age up to which the cached record of a tag is not checked.
    pub(super) fn check_after(&self) -> Duration {
        let best = self.logins().map(|login| login.transport.budget()).min();
        best.map_or(Duration::ZERO, RateBudget::check_after)
    }

    /// Whether limits of each login are respected now.
    pub(super) fn is_limited(&self) -> bool {
        self.transport.storage_limits_held() > 0
            || self.logins().all(|login| login.transport.limits_held() > 0)
    }

    /// Asks once by each login, until one is answered.
    ///
    /// To be awaited in a box, as everything that goes upstream from a request: hits never come
    /// here, and would carry room for it in futures of their own.
    pub(super) async fn attempt(&self, question: &Question) -> Result<Answer, UpstreamError> {
        let mut refused = None;
        for login in self.in_turn(question) {
            match self.attempt_by(login, question).await {
                Err(error) if leaves_turn(&error) => refused = Some(sooner(refused, error)),
                answer => return answer,
            }
        }
        let (host, reason) = (self.host().to_owned(), "it was not asked".to_owned());
        Err(refused.unwrap_or(UpstreamError::Unreachable { host, reason }))
    }

    fn in_turn(&self, question: &Question) -> Vec<&UpstreamLogin> {
        if question.client.is_some() {
            return vec![&self.login];
        }
        let mut order: Vec<_> = self.logins().collect();
        if order.len() > 1 {
            order.sort_by_cached_key(|login| login.transport.budget());
        }
        order
    }
}

/// Whether another login may be answered otherwise.
fn leaves_turn(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Throttled { by_storage: false, .. }
            | UpstreamError::CredentialRefused { .. }
            | UpstreamError::NoCredential { .. }
    )
}

/// The refusal that is over first.
fn sooner(one: Option<UpstreamError>, other: UpstreamError) -> UpstreamError {
    let wait = |error: &UpstreamError| match error {
        UpstreamError::Throttled { wait, .. } => wait.unwrap_or_default(),
        _ => Duration::MAX,
    };
    one.filter(|one| wait(one) <= wait(&other)).unwrap_or(other)
}
