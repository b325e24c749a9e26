//! Calls to the token services of clouds (RFC 6749): a form, or a question, and an answer in JSON.
//!
//! No text of an answer is shown but the name of an error, which has only the letters that such
//! names have: an answer may repeat what it was asked with.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request, Response};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use super::cloud_client::CloudClient;
use super::error::CredentialError;
use crate::http::HostPort;

/// The longest name of an error that is shown, in bytes.
const CODE_LEN_MAX: usize = 64;

/// The life of a token whose answer does not say it (RFC 6749, 5.1, leaves it open).
const LIFE_DEFAULT: Duration = Duration::from_secs(5 * 60);

/// An answer of a token service.
pub(super) struct TokenAnswer {
    host: String,
    members: Value,
}

/// Posts a form.
///
/// # Errors
///
/// If there is no answer, or none in JSON with a status of success.
pub(super) async fn post_form(
    client: &CloudClient,
    url: &Url,
    fields: &[(&str, &str)],
) -> Result<TokenAnswer, CredentialError> {
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let header = (CONTENT_TYPE, "application/x-www-form-urlencoded");
    ask(client, Request::post(url.as_str()), &[header], form.into()).await
}

/// Sends a request with these headers.
///
/// # Errors
///
/// As [`post_form`].
pub(super) async fn ask(
    client: &CloudClient,
    request: http::request::Builder,
    headers: &[(HeaderName, &str)],
    body: Bytes,
) -> Result<TokenAnswer, CredentialError> {
    let (host, response) = send(client, request, headers, body).await?;
    read(host, response.body())
}

/// The answer of `host`, in JSON.
///
/// # Errors
///
/// If it is something else.
pub(super) fn read(host: String, body: &[u8]) -> Result<TokenAnswer, CredentialError> {
    match serde_json::from_slice(body) {
        Ok(members) => Ok(TokenAnswer { host, members }),
        Err(_) => Err(CredentialError::new(format!("the answer of {host} is not JSON"))),
    }
}

/// Sends a request and gives the answer, whatever is in it.
///
/// # Errors
///
/// If there is no answer, or none with a status of success.
pub(super) async fn send(
    client: &CloudClient,
    mut request: http::request::Builder,
    headers: &[(HeaderName, &str)],
    body: Bytes,
) -> Result<(String, Response<Bytes>), CredentialError> {
    for (name, value) in headers {
        let value = HeaderValue::from_str(value);
        let unusable = |_| CredentialError::new("a secret cannot be sent in a header");
        request = request.header(name, value.map_err(unusable)?);
    }
    let request = request.body(body);
    let request = request.map_err(|_| CredentialError::new("its service has no URL"))?;
    let url = Url::parse(&request.uri().to_string()).ok();
    let host = url.as_ref().and_then(HostPort::of).map(|host| host.to_string());
    let host = host.unwrap_or_default();
    let response = client.send(request).await?;
    if !response.status().is_success() {
        return Err(CredentialError::new(refusal(&host, &response)));
    }
    Ok((host, response))
}

impl TokenAnswer {
    /// A text of it that is not empty.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn text(&self, name: &str) -> Result<&str, CredentialError> {
        let text = self.members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| {
            CredentialError::new(format!("the answer of {} has no `{name}`", self.host))
        })
    }

    /// A secret of it.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(super) fn secret(&self, name: &str) -> Result<SecretString, CredentialError> {
        self.text(name).map(SecretString::from)
    }

    /// The life of its token: `expires_in`, in seconds, as a number or as a text.
    pub(super) fn life(&self) -> Duration {
        let value = self.members.get("expires_in");
        let seconds = value.and_then(|it| it.as_u64().or_else(|| it.as_str()?.parse().ok()));
        seconds.map_or(LIFE_DEFAULT, Duration::from_secs)
    }
}

/// The words for an answer that is no success: its status, and the name of its error.
fn refusal(host: &str, response: &Response<Bytes>) -> String {
    let status = response.status().as_u16();
    match error_code(response.body()) {
        Some(code) => format!("{host} answered {status} ({code})"),
        None => format!("{host} answered {status}"),
    }
}

/// The name of an error: `invalid_client` with Entra's number, or `PERMISSION_DENIED` of Google and
/// of registries.
fn error_code(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let is_code = |text: &&str| {
        let is_of =
            |is_letter: fn(&u8) -> bool| text.bytes().all(|byte| byte == b'_' || is_letter(&byte));
        (1..=CODE_LEN_MAX).contains(&text.len())
            && (is_of(u8::is_ascii_lowercase) || is_of(u8::is_ascii_uppercase))
    };
    let error = answer.get("error");
    let first = || answer.get("errors")?.get(0)?.get("code")?.as_str();
    let status = || error?.get("status")?.as_str();
    let code = error.and_then(Value::as_str).or_else(status).or_else(first).filter(is_code)?;
    let number = answer.get("error_codes").and_then(|it| it.get(0)?.as_u64());
    Some(match number {
        Some(number) => format!("{code}, AADSTS{number}"),
        None => code.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer may repeat a secret wherever it likes.
    #[test]
    fn of_a_refusal_only_what_can_be_the_name_of_an_error_is_shown() {
        for (body, want) in [
            (r#"{"error":"invalid_client","error_description":"S3cret"}"#, " (invalid_client)"),
            (
                r#"{"error":"invalid_client","error_codes":[7000215]}"#,
                " (invalid_client, AADSTS7000215)",
            ),
            (r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#, " (PERMISSION_DENIED)"),
            (r#"{"errors":[{"code":"UNAUTHORIZED","message":"S3cret"}]}"#, " (UNAUTHORIZED)"),
            (r#"{"error":"S3cret"}"#, ""),
            (r#"{"error":"with blank"}"#, ""),
            (r#"{"error":{"status":"Mixed"}}"#, ""),
            (r#"{"error":""}"#, ""),
            ("<html>", ""),
        ] {
            let response = Response::builder().status(400).body(Bytes::from(body)).unwrap();
            assert_eq!(refusal("a.test:443", &response), format!("a.test:443 answered 400{want}"));
        }
    }
}
