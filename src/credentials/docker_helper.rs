//! The credential helpers of Docker: programs called `docker-credential-<name>`
//! (github.com/docker/docker-credential-helpers).
//!
//! `get` reads the server's name and writes `{"ServerURL","Username","Secret"}`. A user that is
//! called `<token>` has an identity token for a secret.

use std::ffi::OsString;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::command;
use super::error::CredentialError;
use super::issued::{IssuedCredential, IssuedSecret};
use super::source::{CredentialSource, PendingCredential};

/// The name of a helper: what follows `docker-credential-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperName(String);

/// The text is no name of a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a helper is named by letters, digits, `-`, `_` and `.`, and begins with one of the first")]
pub struct InvalidHelperName;

impl FromStr for HelperName {
    type Err = InvalidHelperName;

    /// Reads a name that cannot be a path or mean anything to a shell.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && text.len() <= 64 && text.chars().all(is_word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidHelperName)
        }
    }
}

impl HelperName {
    /// Asks the helper for the credential of `server`; [`IssuedSecret::Nothing`] if it has none.
    ///
    /// # Errors
    ///
    /// If the program fails, or its answer is not one.
    pub(super) async fn get(&self, server: &str) -> Result<IssuedSecret, CredentialError> {
        let program = format!("docker-credential-{}", self.0);
        let arguments = ["get".to_owned()];
        let output = command::run(&OsString::from(&program), &arguments, server.as_bytes()).await?;
        if !output.is_success {
            // The libraries of helpers write this, and clients take it for an absence.
            let text = String::from_utf8_lossy(&output.stdout);
            return if text.contains("credentials not found") {
                Ok(IssuedSecret::Nothing)
            } else {
                let reason = format!("`{program}` failed; try `echo {server} | {program} get`");
                Err(CredentialError::new(reason))
            };
        }
        let answer: HelperAnswer = serde_json::from_slice(&output.stdout).map_err(|_| {
            CredentialError::new(format!("the output of `{program}` is not a credential in JSON"))
        })?;
        Ok(match answer.username.as_str() {
            "" if answer.secret.is_empty() => IssuedSecret::Nothing,
            "<token>" => IssuedSecret::IdentityToken(answer.secret.into()),
            _ => IssuedSecret::Password {
                username: answer.username,
                password: SecretString::from(answer.secret),
            },
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// `type = "helper"`: one helper, asked for one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperOptions {
    /// The helper.
    pub name: HelperName,
    /// For how long its answer is used.
    pub lifetime: Duration,
}

/// A helper as the source of an upstream's credential.
pub(super) struct HelperSource {
    pub(super) options: HelperOptions,
    /// The name of the server: the upstream's host, and its port if the URL has one.
    pub(super) server: String,
}

impl CredentialSource for HelperSource {
    fn kind(&self) -> &'static str {
        "helper"
    }

    fn fetch(self: Arc<Self>, _repository: Option<String>) -> PendingCredential {
        Box::pin(async move {
            let secret = self.options.name.get(&self.server).await?;
            Ok(IssuedCredential::new(secret, self.options.lifetime))
        })
    }
}
