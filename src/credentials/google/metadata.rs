//! The metadata server of Google Cloud: a token of the machine's service account (Compute Engine,
//! "Access tokens"), in GKE of the workload's.

use http::Request;
use http::header::HeaderName;
use url::Url;

use super::super::cloud_client::CloudClient;
use super::super::environment::CredentialEnvironment;
use super::super::error::CredentialError;
use super::super::oauth;
use super::token::AccessToken;
use crate::http::HostPort;

/// The server's name, which leads to a link-local address.
const HOST: &str = "metadata.google.internal";

/// It takes and gives this, so that no other server is taken for it.
const FLAVOR: (HeaderName, &str) = (HeaderName::from_static("metadata-flavor"), "Google");

/// The services of this machine that may be called.
pub(super) fn local_hosts(environment: &CredentialEnvironment) -> Vec<HostPort> {
    // A `credential_source` may be a service of this machine.
    let addresses = [HOST, "169.254.169.254", "localhost", "127.0.0.1", "[::1]"];
    let named = environment.text("GCE_METADATA_HOST");
    addresses.into_iter().chain(named).filter_map(|text| text.parse().ok()).collect()
}

/// A token of the machine's service account.
///
/// # Errors
///
/// If there is no such server, or it gives none.
pub(super) async fn token(
    client: &CloudClient,
    environment: &CredentialEnvironment,
) -> Result<AccessToken, CredentialError> {
    let of = |error: CredentialError| CredentialError::new(format!("metadata server: {error}"));
    let host = environment.text("GCE_METADATA_HOST").unwrap_or(HOST);
    let path = "computeMetadata/v1/instance/service-accounts/default/token";
    let url = Url::parse(&format!("http://{host}/{path}"));
    let url = url.map_err(|_| CredentialError::new("`GCE_METADATA_HOST` is no host"))?;
    let request = Request::get(url.as_str());
    let sent = oauth::send(client, request, &[FLAVOR], "".into()).await;
    let (host, response) = sent.map_err(of)?;
    if response.headers().get(FLAVOR.0).is_none_or(|flavor| flavor != FLAVOR.1) {
        return Err(of(CredentialError::new(format!("{host} is none of Google's"))));
    }
    let answer = oauth::read(host, response.body()).map_err(of)?;
    let secret = answer.secret("access_token").map_err(of)?;
    let owner = "the service account of this machine".to_owned();
    Ok(AccessToken { secret, life: answer.life(), owner })
}
