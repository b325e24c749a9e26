//! `type = "google"`: an access token as the password of the user `oauth2accesstoken` (Artifact
//! Registry, "Configure authentication to Artifact Registry for Docker").
//!
//! It is the one of the credentials file that is configured or that the environment names, else of
//! the machine's service account.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::super::cloud_client::{CloudClient, CredentialRoute, ServiceHosts};
use super::super::environment::CredentialEnvironment;
use super::super::error::CredentialError;
use super::super::file;
use super::super::issued::{IssuedCredential, IssuedSecret};
use super::super::source::{CredentialSource, PendingCredential};
use super::external::{self, ExternalAccount};
use super::key_file::{self, ServiceAccount};
use super::metadata;
use super::token::AccessToken;
use crate::http::TrustError;

/// The longest credentials file, in bytes.
const FILE_LEN_MAX: u64 = 64 * 1024;

/// How an access token of Google is obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoogleOptions {
    /// The credentials file; `None` for the one that the environment names.
    pub file: Option<PathBuf>,
    /// The variables that name the sources.
    pub environment: CredentialEnvironment,
}

/// A credentials file, by its `type`.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum CredentialsFile {
    ExternalAccount(ExternalAccount),
    ServiceAccount(ServiceAccount),
    #[serde(other)]
    Other,
}

/// An identity of Google Cloud as the source of an upstream's credential.
pub(in super::super) struct GoogleSource {
    options: GoogleOptions,
    client: CloudClient,
}

impl GoogleSource {
    /// The source for the registry of `route`.
    ///
    /// # Errors
    ///
    /// If the certificates of `route` are unusable.
    pub(in super::super) fn new(
        options: GoogleOptions,
        route: CredentialRoute<'_>,
    ) -> Result<Self, TrustError> {
        let local = metadata::local_hosts(&options.environment);
        let client = CloudClient::new(route, ServiceHosts { local, remote: Vec::new() })?;
        Ok(Self { options, client })
    }

    async fn ask(&self) -> Result<IssuedCredential, CredentialError> {
        let GoogleOptions { file, environment } = &self.options;
        let named = || environment.path("GOOGLE_APPLICATION_CREDENTIALS");
        let token = match file.clone().or_else(named) {
            Some(path) => self.of_file(&path).await?,
            None => metadata::token(&self.client, environment).await?,
        };
        let username = "oauth2accesstoken".to_owned();
        let secret = IssuedSecret::Password { username, password: token.secret };
        let now = self.client.clock.now();
        let issued = match now.checked_add(token.life) {
            Some(end) => IssuedCredential::until(secret, end, now),
            None => IssuedCredential::new(secret, token.life),
        };
        Ok(issued.of(Some(token.owner)))
    }

    async fn of_file(&self, path: &Path) -> Result<AccessToken, CredentialError> {
        let of = |reason: String| CredentialError::new(format!("{}: {reason}", path.display()));
        let bytes = file::read(path, FILE_LEN_MAX).await.map_err(|error| of(error.to_string()))?;
        let read = serde_json::from_slice(&bytes);
        // Its message could show a part of a key.
        let read = read.map_err(|_| of("it is no credentials file of Google".to_owned()))?;
        let token = match read {
            CredentialsFile::ServiceAccount(account) => {
                key_file::token(&self.client, &account).await
            }
            CredentialsFile::ExternalAccount(account) => {
                external::token(&self.client, &account).await
            }
            CredentialsFile::Other => Err(CredentialError::new(
                "its `type` is neither `service_account` nor `external_account`",
            )),
        };
        token.map_err(|error| of(error.to_string()))
    }
}

impl CredentialSource for GoogleSource {
    fn kind(&self) -> &'static str {
        "google"
    }

    fn fetch(self: Arc<Self>, _repository: Option<String>) -> PendingCredential {
        Box::pin(async move { self.ask().await })
    }
}
