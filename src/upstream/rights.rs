//! The rights of Larder's own logins in one repository, for an operator who asks.
//!
//! The upstream's answers decide: to read, that it shows a manifest; to write, that an upload may
//! begin. Claims in tokens are not looked at.

use std::time::SystemTime;

use http::{HeaderMap, Method};
use tokio::time::{Instant, timeout_at};

use super::ask::Upstream;
use super::change::{ChangeCall, ChangeTarget};
use super::error::UpstreamError;
use super::examination::head_question;
use super::payload::ChangePayload;
use crate::http::Via;
use crate::oci::{Reference, RepositoryName, Resource};

/// Asks an upstream for the rights of its logins in a repository, all before a deadline.
#[derive(Clone, Copy, Debug)]
pub struct RightsExamination<'e> {
    /// The upstream.
    pub upstream: &'e Upstream,
    /// The repository.
    pub repository: &'e RepositoryName,
    /// When the last answer has to be there.
    pub deadline: Instant,
}

/// Whether a login may read in a repository.
#[derive(Debug)]
pub struct PullRight {
    /// The user of its credential; `None` for an anonymous client.
    pub user: Option<String>,
    /// When a credential ends that a source issued.
    pub ends: Option<SystemTime>,
    /// The error if it may not.
    pub outcome: Result<(), UpstreamError>,
}

impl RightsExamination<'_> {
    /// Asks for a manifest by each login, without its body.
    pub async fn pull(&self, reference: &Reference) -> Vec<PullRight> {
        let question = head_question(self.repository.clone(), reference.clone());
        let mut rights = Vec::new();
        for login in self.upstream.logins() {
            let asked = Box::pin(self.upstream.attempt_by(login, &question));
            let outcome = self.in_time(asked).await.map(drop);
            let user = login.user().await.ok().flatten();
            let ends = login.credential_state().and_then(|state| state.ends);
            rights.push(PullRight { user, ends, outcome });
        }
        rights
    }

    /// Begins an upload by the login that pushes, and cancels it.
    ///
    /// # Errors
    ///
    /// The refusal, or why there is no answer.
    pub async fn push(&self) -> Result<(), UpstreamError> {
        self.in_time(Box::pin(self.begin_and_cancel())).await
    }

    async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let start = Instant::now();
        let answered = timeout_at(self.deadline, asked).await;
        answered.unwrap_or_else(|_| Err(self.upstream.stalled(start)))
    }

    async fn begin_and_cancel(&self) -> Result<(), UpstreamError> {
        let target = ChangeTarget::Resource(Resource::Upload(None));
        let begun = self.upstream.change(self.change(Method::POST, target)).await?;
        let (host, status) = (begun.host.clone(), begun.status);
        match status.as_u16() {
            200..300 => {}
            401 | 403 => return Err(UpstreamError::Denied { host, status, is_proven: true }),
            _ => return Err(UpstreamError::unexpected(host, status, "it begins no upload")),
        }
        let target = ChangeTarget::Upload(self.upstream.location_in(&begun)?);
        // One that may not be cancelled ends by itself.
        self.upstream.change(self.change(Method::DELETE, target)).await.ok();
        Ok(())
    }

    fn change(&self, method: Method, target: ChangeTarget) -> ChangeCall {
        ChangeCall {
            method,
            repository: self.repository.clone(),
            target,
            query: String::new(),
            source: None,
            headers: HeaderMap::new(),
            payload: ChangePayload::Empty,
            client: None,
            asker: None,
            via: Via::default(),
        }
    }
}
