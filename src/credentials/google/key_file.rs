//! The key file of a service account: it signs who Larder is, and Google gives a token for that
//! (Google, "Using OAuth 2.0 for Server to Server Applications"; RFC 7523, 2.1).

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;

use super::super::cloud_client::CloudClient;
use super::super::error::CredentialError;
use super::super::jwt::{SigningAlgorithm, SigningKey, validity};
use super::super::oauth;
use super::token::{AccessToken, SCOPE, google_url};

/// For how long what the key signs is good, and what it is exchanged for: the longest that Google
/// takes.
const LIFE: Duration = Duration::from_secs(3600);

/// A credentials file of the type `service_account`.
#[derive(Deserialize)]
pub(super) struct ServiceAccount {
    client_email: String,
    private_key_id: String,
    private_key: String,
    token_uri: String,
}

/// A token of the account.
///
/// # Errors
///
/// If the key cannot sign, or Google gives none.
pub(super) async fn token(
    client: &CloudClient,
    account: &ServiceAccount,
) -> Result<AccessToken, CredentialError> {
    let url = google_url(&account.token_uri, "token_uri")?;
    let key = SigningKey::of_pem(account.private_key.as_bytes())
        .map_err(|error| CredentialError::new(format!("`private_key`: {error}")))?;
    let [_, at, end] = validity(client.clock.now(), LIFE);
    let claims = json!({
        "iss": account.client_email, "scope": SCOPE, "aud": account.token_uri,
        "iat": at, "exp": end,
    });
    let assertion = key.sign(SigningAlgorithm::Rs256, "kid", &account.private_key_id, &claims)?;
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", assertion.expose_secret()),
    ];
    let answer = oauth::post_form(client, &url, &fields).await?;
    let secret = answer.secret("access_token")?;
    Ok(AccessToken { secret, life: answer.life(), owner: account.client_email.clone() })
}
