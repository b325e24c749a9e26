//! Workload identity federation: a token of another issuer, from a file or a URL, is exchanged for
//! one of Google's, with which perhaps a service account is impersonated (AIP-4117; RFC 8693).
//!
//! A credentials file that was made elsewhere may name any URL. A token is fetched from this
//! machine, from the metadata servers of clouds, or over TLS, and is sent to Google alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::super::cloud_client::CloudClient;
use super::super::error::CredentialError;
use super::super::{file, oauth};
use super::token::{AccessToken, SCOPE, google_url};

/// The longest file with a token, in bytes.
const FILE_LEN_MAX: u64 = 64 * 1024;

/// For how long a token of the impersonated account is asked for: the longest without leave.
const LIFE: &str = "3600s";

/// A credentials file of the type `external_account`.
#[derive(Deserialize)]
pub(super) struct ExternalAccount {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: TokenSource,
}

/// The place of the other issuer's token.
#[derive(Deserialize)]
struct TokenSource {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    format: Option<TokenFormat>,
}

#[derive(Deserialize)]
struct TokenFormat {
    r#type: String,
    subject_token_field_name: Option<String>,
}

/// A token of Google for the account.
///
/// # Errors
///
/// If the other issuer's token is not there, or Google does not take it.
pub(super) async fn token(
    client: &CloudClient,
    account: &ExternalAccount,
) -> Result<AccessToken, CredentialError> {
    let url = google_url(&account.token_url, "token_url")?;
    let impersonation = account.service_account_impersonation_url.as_deref();
    let impersonation = impersonation
        .map(|url| google_url(url, "service_account_impersonation_url"))
        .transpose()?;
    let subject = account.credential_source.read(client).await?;
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", account.audience.as_str()),
        ("scope", SCOPE),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token", subject.expose_secret()),
        ("subject_token_type", account.subject_token_type.as_str()),
    ];
    let answer = oauth::post_form(client, &url, &fields).await?;
    let secret = answer.secret("access_token")?;
    let token = AccessToken { secret, life: answer.life(), owner: account.audience.clone() };
    match impersonation {
        Some(url) => impersonate(client, &url, &token).await,
        None => Ok(token),
    }
}

/// A token of the service account that `url` is about (IAM, `generateAccessToken`).
async fn impersonate(
    client: &CloudClient,
    url: &Url,
    token: &AccessToken,
) -> Result<AccessToken, CredentialError> {
    let bearer = SecretString::from(format!("Bearer {}", token.secret.expose_secret()));
    let headers = [(AUTHORIZATION, bearer.expose_secret()), (CONTENT_TYPE, "application/json")];
    let body = json!({ "scope": [SCOPE], "lifetime": LIFE }).to_string();
    let answer = oauth::ask(client, Request::post(url.as_str()), &headers, body.into()).await?;
    let end = humantime::parse_rfc3339_weak(answer.text("expireTime")?).ok();
    let now = client.clock.now();
    let life =
        end.map_or(Duration::ZERO, |end: SystemTime| end.duration_since(now).unwrap_or_default());
    let owner = url.path().rsplit('/').next().unwrap_or_default();
    let owner = owner.split(':').next().unwrap_or_default().to_owned();
    Ok(AccessToken { secret: answer.secret("accessToken")?, life, owner })
}

impl TokenSource {
    /// The other issuer's token, as it is now.
    async fn read(&self, client: &CloudClient) -> Result<SecretString, CredentialError> {
        let of = |reason: String| CredentialError::new(format!("`credential_source`: {reason}"));
        let bytes = match (&self.file, &self.url) {
            (Some(path), None) => {
                let read = file::read(path, FILE_LEN_MAX).await;
                read.map_err(|error| of(format!("{}: {error}", path.display())))?
            }
            (None, Some(url)) => {
                let fetched = self.fetch(client, url).await;
                fetched.map_err(|error| of(error.to_string()))?
            }
            _ => return Err(of("only a `file` and a `url` are supported".to_owned())),
        };
        let text = String::from_utf8(bytes).map_err(|_| of("it is not UTF-8".to_owned()))?;
        let token = match self.format.as_ref().filter(|format| format.r#type == "json") {
            None => Some(text.trim().to_owned()),
            Some(format) => {
                let members: Option<Value> = serde_json::from_str(&text).ok();
                let name = format.subject_token_field_name.as_deref().unwrap_or_default();
                members.and_then(|it| Some(it.get(name)?.as_str()?.to_owned()))
            }
        };
        let token = token.filter(|token| !token.is_empty());
        token.map(SecretString::from).ok_or_else(|| of("there is no token in it".to_owned()))
    }

    async fn fetch(&self, client: &CloudClient, url: &str) -> Result<Vec<u8>, CredentialError> {
        let unusable = || CredentialError::new("its headers cannot be sent");
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| unusable())?;
            headers.push((name, value.as_str()));
        }
        let (_, response) = oauth::send(client, Request::get(url), &headers, "".into()).await?;
        Ok(response.body().to_vec())
    }
}
