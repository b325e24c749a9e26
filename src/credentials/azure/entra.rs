//! A token of Entra for an identity that this machine has: a service principal with a secret or a
//! certificate, a workload identity, or a managed one.
//!
//! The order is that of Azure's SDKs: what is configured, the environment's service principal,
//! workload identity, managed identity. The first that is there decides: another one could have
//! other rights.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use url::Url;

use super::super::cloud_client::CloudClient;
use super::super::environment::CredentialEnvironment;
use super::super::error::CredentialError;
use super::super::jwt::{SigningAlgorithm, SigningKey, certificate_print, unique_id, validity};
use super::super::{file, oauth};
use super::managed;

/// The longest file with a secret, a token or a certificate, in bytes.
const FILE_LEN_MAX: u64 = 64 * 1024;

/// For how long what is signed with a certificate is good.
const ASSERTION_LIFE: Duration = Duration::from_secs(10 * 60);

/// Which identity of Entra is taken. What is not configured is looked for in the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntraIdentity {
    /// The tenant.
    pub tenant: Option<String>,
    /// The application, or the managed identity that the user has assigned.
    pub client_id: Option<String>,
    /// The file with the secret of a service principal.
    pub secret_file: Option<PathBuf>,
    /// The file with the certificate and the private key of a service principal, as PEM.
    pub certificate_file: Option<PathBuf>,
    /// The variables that name the sources.
    pub environment: CredentialEnvironment,
}

/// Asks for tokens of Entra.
pub(super) struct EntraClient {
    pub(super) identity: EntraIdentity,
    pub(super) authority: Option<Url>,
    /// The resource that tokens are for.
    pub(super) audience: String,
    pub(super) client: Arc<CloudClient>,
}

/// The proof that an application shows.
enum ClientProof {
    Assertion(SecretString),
    Secret(SecretString),
}

impl EntraIdentity {
    pub(super) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref().or_else(|| self.environment.text("AZURE_TENANT_ID"))
    }

    pub(super) fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref().or_else(|| self.environment.text("AZURE_CLIENT_ID"))
    }

    /// The URL of Entra in the environment.
    pub(super) fn authority(&self) -> Option<Url> {
        Url::parse(self.environment.text("AZURE_AUTHORITY_HOST")?).ok()
    }
}

impl EntraClient {
    /// A token of the first identity that is there.
    ///
    /// # Errors
    ///
    /// If there is none, or it gives none.
    pub(super) async fn token(&self) -> Result<SecretString, CredentialError> {
        let EntraIdentity { secret_file, certificate_file, environment, .. } = &self.identity;
        let path = |name| environment.path(name);
        if let Some(path) = secret_file {
            let secret = read(path).await?;
            return self.principal("the service principal", ClientProof::Secret(secret)).await;
        }
        if let Some(secret) = environment.text("AZURE_CLIENT_SECRET") {
            let proof = ClientProof::Secret(SecretString::from(secret));
            return self.principal("the service principal", proof).await;
        }
        let of_environment = || path("AZURE_CLIENT_CERTIFICATE_PATH");
        if let Some(path) = certificate_file.clone().or_else(of_environment) {
            let proof = self.signed(&path).await?;
            return self.principal("the service principal", proof).await;
        }
        if let Some(path) = path("AZURE_FEDERATED_TOKEN_FILE") {
            let proof = ClientProof::Assertion(read(&path).await?);
            return self.principal("workload identity", proof).await;
        }
        let id = self.identity.client_id();
        let token = managed::token(&self.client, environment, id, &self.audience).await;
        token.map_err(|error| CredentialError::new(format!("managed identity: {error}")))
    }

    /// A token for an application that shows `proof` (Microsoft identity platform, "client
    /// credentials flow").
    async fn principal(
        &self,
        name: &str,
        proof: ClientProof,
    ) -> Result<SecretString, CredentialError> {
        let scope = format!("{}/.default", self.audience);
        let id = self.id()?;
        let mut fields =
            vec![("grant_type", "client_credentials"), ("client_id", id), ("scope", &scope)];
        match &proof {
            ClientProof::Secret(secret) => fields.push(("client_secret", secret.expose_secret())),
            ClientProof::Assertion(assertion) => fields.extend([
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", assertion.expose_secret()),
            ]),
        }
        let asked = oauth::post_form(&self.client, &self.token_url()?, &fields).await;
        let of = |error| CredentialError::new(format!("{name}: {error}"));
        asked.and_then(|answer| answer.secret("access_token")).map_err(of)
    }

    fn id(&self) -> Result<&str, CredentialError> {
        let missing = || CredentialError::new("`client_id` or `AZURE_CLIENT_ID` is not set");
        self.identity.client_id().ok_or_else(missing)
    }

    fn token_url(&self) -> Result<Url, CredentialError> {
        let missing = || CredentialError::new("`tenant` or `AZURE_TENANT_ID` is not set");
        let tenant = self.identity.tenant().ok_or_else(missing)?;
        let unusable = || CredentialError::new("the authority or the tenant makes no URL");
        let mut url = self.authority.clone().ok_or_else(unusable)?;
        let mut path = url.path_segments_mut().map_err(|()| unusable())?;
        path.pop_if_empty().extend([tenant, "oauth2", "v2.0", "token"]);
        drop(path);
        Ok(url)
    }

    /// The assertion that a certificate signs (Microsoft identity platform, "certificate
    /// credentials").
    async fn signed(&self, path: &Path) -> Result<ClientProof, CredentialError> {
        let of = |reason: String| CredentialError::new(format!("{}: {reason}", path.display()));
        let pem = read(path).await?;
        let pem = pem.expose_secret().as_bytes();
        let key = SigningKey::of_pem(pem).map_err(|error| of(error.to_string()))?;
        let print = certificate_print(pem).map_err(|error| of(error.to_string()))?;
        let [since, at, end] = validity(self.client.clock.now(), ASSERTION_LIFE);
        let id = self.id()?;
        let url = self.token_url()?;
        let claims = json!({
            "aud": url.as_str(), "iss": id, "sub": id, "jti": unique_id()?,
            "nbf": since, "iat": at, "exp": end,
        });
        let signed = key.sign(SigningAlgorithm::Ps256, "x5t#S256", &print, &claims)?;
        Ok(ClientProof::Assertion(signed))
    }
}

async fn read(path: &Path) -> Result<SecretString, CredentialError> {
    let failed = |reason| CredentialError::new(format!("reading {}: {reason}", path.display()));
    let bytes = file::read(path, FILE_LEN_MAX).await.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    Ok(SecretString::from(text.trim()))
}
