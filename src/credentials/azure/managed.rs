//! Managed identities: the services of a machine of Azure that give a token of Entra.
//!
//! App Service, Functions and Container Apps name theirs in `IDENTITY_ENDPOINT`; on a virtual
//! machine and in AKS it is the Instance Metadata Service (Microsoft, "How to use managed
//! identities for App Service", "How to use managed identities on an Azure VM").

use http::Request;
use http::header::HeaderName;
use secrecy::SecretString;
use url::{Host, Url};

use super::super::cloud_client::{CloudClient, is_loopback};
use super::super::environment::CredentialEnvironment;
use super::super::error::CredentialError;
use super::super::oauth;
use crate::http::HostPort;

/// The Instance Metadata Service.
const METADATA: &str = "http://169.254.169.254";

/// The services of this machine that may be called: at its own and link-local addresses, and
/// elsewhere over TLS only.
pub(super) fn local_hosts(environment: &CredentialEnvironment) -> Vec<HostPort> {
    let named = ["IDENTITY_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST"];
    let named = named.iter().filter_map(|name| Url::parse(environment.text(name)?).ok());
    let known = Url::parse(METADATA).ok();
    let hosts = known.into_iter().chain(named).filter_map(|url| HostPort::of(&url));
    hosts.filter(|host| is_of_machine(&host.host)).collect()
}

fn is_of_machine(host: &Host) -> bool {
    is_loopback(host) || matches!(host, Host::Ipv4(address) if address.is_link_local())
}

/// A token for `resource`, of the identity of the machine or of the one with this id.
///
/// # Errors
///
/// If there is no such service, or it gives none.
pub(super) async fn token(
    client: &CloudClient,
    environment: &CredentialEnvironment,
    client_id: Option<&str>,
    resource: &str,
) -> Result<SecretString, CredentialError> {
    let (url, header) = service(environment, client_id, resource)?;
    let header = (HeaderName::from_static(header.0), header.1);
    let answer = oauth::ask(client, Request::get(url.as_str()), &[header], "".into()).await?;
    answer.secret("access_token")
}

/// The URL of the service, and the header that it wants.
fn service<'e>(
    environment: &'e CredentialEnvironment,
    client_id: Option<&str>,
    resource: &str,
) -> Result<(Url, (&'static str, &'e str)), CredentialError> {
    let (url, version, header) = if let Some(endpoint) = environment.text("IDENTITY_ENDPOINT") {
        let secret = environment.text("IDENTITY_HEADER").ok_or_else(|| {
            // Azure Arc has one, and a protocol of its own.
            CredentialError::new("`IDENTITY_ENDPOINT` is set and `IDENTITY_HEADER` is not")
        })?;
        (endpoint.to_owned(), "2019-08-01", ("x-identity-header", secret))
    } else {
        let other = environment.text("AZURE_POD_IDENTITY_AUTHORITY_HOST");
        let base = other.unwrap_or(METADATA).trim_end_matches('/');
        let url = format!("{base}/metadata/identity/oauth2/token");
        (url, "2018-02-01", ("metadata", "true"))
    };
    let unusable = |_| CredentialError::new("`IDENTITY_ENDPOINT` is no URL");
    let mut url = Url::parse(&url).map_err(unusable)?;
    let mut query = url.query_pairs_mut();
    query.append_pair("api-version", version).append_pair("resource", resource);
    if let Some(id) = client_id {
        query.append_pair("client_id", id);
    }
    drop(query);
    Ok((url, header))
}
