//! The state of one upstream, for an operator who asks: whether it answers, with which login,
//! and until when. Its rights in a repository are asked for in `rights.rs`.

use std::time::SystemTime;

use tokio::time::Instant;

use super::ask::Upstream;
use super::error::UpstreamError;
use super::login::UpstreamLogin;
use super::question::{Question, ReadMethod};
use super::scope::TokenScope;
use crate::oci::{MANIFEST_ACCEPT, Reference, RepositoryName, Resource};

/// The image at Docker Hub that is there to be asked for the limits (Docker, "Usage and limits").
const HUB_PREVIEW: &str = "ratelimitpreview/test";

/// A login at an upstream that was asked for an answer and for nothing else.
#[derive(Debug)]
pub struct UpstreamExamination {
    /// Its host, and its port if the URL has one.
    pub host: String,
    /// The outcome of the login.
    pub outcome: Result<LoginOutcome, UpstreamError>,
    /// The identity behind a credential that a source issued, as far as it says that.
    pub owner: Option<String>,
    /// When that credential ends.
    pub ends: Option<SystemTime>,
}

/// The ways in which an upstream lets Larder in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// It gives a token to every client that asks for one.
    Anonymous,
    /// It wants no login; a credential, if there is one, was not shown.
    NotWanted,
    /// It takes Larder's credential, of this user.
    Taken(String),
}

impl Upstream {
    /// Logs in by each login as for a request, and asks for `/v2/` alone, all before `deadline`.
    pub(super) async fn examine(&self, deadline: Instant) -> Vec<UpstreamExamination> {
        let mut examined = Vec::new();
        for login in self.logins() {
            let outcome = self.log_in(login, deadline).await;
            let state = login.credential_state().unwrap_or_default();
            let host = self.host().to_owned();
            let (owner, ends) = (state.owner, state.ends);
            examined.push(UpstreamExamination { host, outcome, owner, ends });
        }
        examined
    }

    async fn log_in(
        &self,
        login: &UpstreamLogin,
        deadline: Instant,
    ) -> Result<LoginOutcome, UpstreamError> {
        self.check(login, TokenScope::entry(), deadline).await?;
        if !login.was_asked() {
            return Ok(LoginOutcome::NotWanted);
        }
        let user = login.user().await?;
        Ok(user.map_or(LoginOutcome::Anonymous, LoginOutcome::Taken))
    }
}

/// The question that has Docker Hub state its limits.
pub(super) fn hub_question() -> Option<Question> {
    let tag = Reference::Tag("latest".parse().ok()?);
    Some(head_question(HUB_PREVIEW.parse().ok()?, tag))
}

/// Whether there is a manifest, which costs no pull at Docker Hub.
pub(super) fn head_question(repository: RepositoryName, reference: Reference) -> Question {
    let mut question = Question::new(ReadMethod::Head, repository, Resource::Manifest(reference));
    question.accept = Some(MANIFEST_ACCEPT.to_owned());
    question
}
