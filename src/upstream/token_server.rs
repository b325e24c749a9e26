//! Fetches one token (distribution, "Token Authentication Specification").
//!
//! Asks and reads; whether the server may be asked was decided in `realm`, how long the token is
//! kept is decided in `token`. Redirects are followed within the server's own origin: the
//! credential goes to the server that was checked, or nowhere.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use super::error::UpstreamError;
use super::identity::ClientCredential;
use super::payload::ChangePayload;
use super::request::UpstreamRequest;
use super::scope::TokenScope;
use super::shown::host_of;
use super::token::BearerToken;
use super::transport::UpstreamTransport;
use super::walk::follow;

/// The longest answer of a token server, in bytes. Tokens take up to 10 KiB.
const ANSWER_LEN_MAX: usize = 64 * 1024;

/// The life that the specification gives a token whose server does not tell, and the least.
const LIFE_MIN: Duration = Duration::from_secs(60);

/// The longest that a token is believed to be good, whatever its server says.
const LIFE_MAX: Duration = Duration::from_secs(60 * 60);

/// The name of Larder to token servers, which the OAuth form of the question has to give.
const CLIENT_ID: &str = "larder";

/// A question to a token server, and what is shown to it.
pub(super) struct TokenRequest {
    request: UpstreamRequest,
    body: Bytes,
    authorization: Option<HeaderValue>,
    has_credential: bool,
    /// The tokens that answer it are kept under this.
    pub(super) key: String,
}

impl TokenRequest {
    /// Asks `realm` for `scope`, with `credential` or anonymously: by GET, or by POST with a
    /// refresh token (distribution, "OAuth 2.0 token").
    pub(super) fn new(
        realm: &Url,
        service: Option<&str>,
        scope: &TokenScope,
        credential: Option<&ClientCredential>,
    ) -> Self {
        let url = token_url(realm, service, scope, credential);
        // No URL has a space in it. The account of Larder's own credential is in the URL.
        let key = match credential.and_then(ClientCredential::tag) {
            Some(client) => format!("{url} {client}"),
            None => url.to_string(),
        };
        let (has_credential, authorization) =
            (credential.is_some(), credential.and_then(ClientCredential::header));
        let (request, body) = match credential.and_then(ClientCredential::identity_token) {
            None => (UpstreamRequest::of_token(url, scope), Bytes::new()),
            Some(token) => {
                let mut request = UpstreamRequest::of_token(realm.clone(), scope);
                request.method = Method::POST;
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers.insert(CONTENT_TYPE, form);
                (request, refresh_form(service, scope, token))
            }
        };
        Self { request, body, authorization, has_credential, key }
    }

    /// The host that is asked.
    pub(super) fn host(&self) -> String {
        host_of(&self.request.url)
    }

    fn is_refused_with(&self, status: StatusCode) -> bool {
        let is_refresh = !self.body.is_empty();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.has_credential,
            StatusCode::BAD_REQUEST => is_refresh,
            _ => false,
        }
    }
}

/// The URL at which `realm` is asked for a token: the service of the challenge, the scope, and the
/// name of the account if there is one.
fn token_url(
    realm: &Url,
    service: Option<&str>,
    scope: &TokenScope,
    account: Option<&ClientCredential>,
) -> Url {
    let mut url = realm.clone();
    let mut query = url.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    for text in &scope.texts {
        query.append_pair("scope", text);
    }
    if let Some(account) = account {
        query.append_pair("account", account.username());
    }
    drop(query);
    url
}

fn refresh_form(service: Option<&str>, scope: &TokenScope, token: &SecretString) -> Bytes {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("service", service.unwrap_or_default());
    form.append_pair("client_id", CLIENT_ID);
    form.append_pair("scope", &scope.texts.join(" "));
    form.append_pair("refresh_token", token.expose_secret());
    form.finish().into()
}

/// Fetches a token by `asked`.
///
/// # Errors
///
/// [`UpstreamError::CredentialRefused`] if the server refuses the credential, and
/// [`UpstreamError::Denied`] if it refuses to give a token without one.
pub(super) async fn fetch_token(
    transport: &UpstreamTransport,
    asked: &TokenRequest,
) -> Result<BearerToken, UpstreamError> {
    let body = if asked.body.is_empty() {
        ChangePayload::Empty
    } else {
        ChangePayload::Small(asked.body.clone())
    };
    let mut reply = follow(transport, &asked.request, body, asked.authorization.as_ref()).await?;
    let status = reply.status;
    let unexpected = |host, reason: &str| {
        Err(UpstreamError::unexpected(host, status, format!("as a token server: {reason}")))
    };
    match status {
        StatusCode::OK => match read(&reply.body.collect(ANSWER_LEN_MAX).await?) {
            Ok((token, life)) => Ok(BearerToken::new(token, life)),
            Err(reason) => unexpected(reply.host, reason),
        },
        // To a refresh token the answer is 400 (RFC 6749, 5.2).
        _ if asked.is_refused_with(status) => {
            let reason = format!("its token server {} answered {}", reply.host, status.as_u16());
            Err(UpstreamError::CredentialRefused { host: transport.host.clone(), status, reason })
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            reply.read_error().await;
            let is_proven = reply.is_of_a_registry();
            Err(UpstreamError::Denied { host: reply.host, status, is_proven })
        }
        _ => unexpected(reply.host, "it gave no token"),
    }
}

/// The token and its life, from a token server's answer.
pub(super) fn read(body: &[u8]) -> Result<(SecretString, Duration), &'static str> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "its answer is not JSON")?;
    let member = |name| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let token = member("token").or_else(|| member("access_token")).ok_or("it gave no token")?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its token cannot be written in a header");
    }
    let life = answer.get("expires_in").and_then(Value::as_u64).map(Duration::from_secs);
    Ok((SecretString::from(token), life.unwrap_or(LIFE_MIN).clamp(LIFE_MIN, LIFE_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_either_member_and_is_sensitive() {
        for body in [
            r#"{"token":"abc"}"#,
            r#"{"access_token":"abc"}"#,
            r#"{"token":"abc","access_token":"def"}"#,
            r#"{"token":"","access_token":"abc","issued_at":"0001-01-01T00:00:00Z"}"#,
        ] {
            let (token, life) = read(body.as_bytes()).unwrap();
            let header = BearerToken::new(token, life).header().unwrap();
            assert_eq!(header, "Bearer abc", "{body}");
            assert!(header.is_sensitive());
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for body in [
            "",
            "<html>",
            "[]",
            "null",
            "\"abc\"",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":5}"#,
            r#"{"token":null,"access_token":null}"#,
            r#"{"token":"a\r\nX-Evil: 1"}"#,
            r#"{"token":"a\u0000"}"#,
            r#"{"token":"a b"}"#,
            r#"{"token":"ä"}"#,
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_life_is_kept_between_a_minute_and_an_hour() {
        for (expires_in, want) in [
            ("300", 300),
            ("0", 60),
            ("-1", 60),
            ("59", 60),
            ("9223372036854775808", 3600),
            ("99999999999999999999999", 60),
            ("\"abc\"", 60),
            ("null", 60),
            ("[]", 60),
            ("86400", 3600),
        ] {
            let body = format!(r#"{{"token":"t","expires_in":{expires_in}}}"#);
            let (_, life) = read(body.as_bytes()).unwrap();
            assert_eq!(life, Duration::from_secs(want), "{expires_in}");
        }
        assert_eq!(read(br#"{"token":"t"}"#).unwrap().1, LIFE_MIN);
    }
}
