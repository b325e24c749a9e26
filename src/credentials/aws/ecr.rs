//! `type = "ecr"`: passwords of Amazon's registries, private and public, from their service.
//!
//! `GetAuthorizationToken` (AWS JSON 1.1, signed with Signature Version 4) gives a password for the
//! user `AWS` that is good for 12 hours, and for all registries of a region that the caller may
//! use.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::SignRequest as _;
use reqsign_core::hash::hex_sha256;
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use super::super::cloud_client::{CloudClient, CredentialRoute, ServiceHosts};
use super::super::error::CredentialError;
use super::super::issued::{IssuedCredential, IssuedSecret};
use super::super::source::{CredentialSource, PendingCredential};
use super::chain::{self, AwsIdentity};
use super::context::{AwsContext, refusal};
use super::ecr_host::{EcrService, is_region};
use crate::http::{HostPort, TrustError};

/// How a password of Amazon's registries is obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcrOptions {
    /// The region, for a registry whose host does not name one.
    pub region: Option<String>,
    /// Which credential of AWS is taken.
    pub identity: AwsIdentity,
    /// The URL of the registry's service, if it has another one.
    pub endpoint: Option<Url>,
    /// The URL of the Security Token Service, if it has another one.
    pub sts_endpoint: Option<Url>,
}

impl EcrOptions {
    /// Whether `text` can be a region's name.
    pub fn is_region(text: &str) -> bool {
        is_region(text)
    }

    /// Whether the region of the registry at `host` is known.
    pub fn has_region_of(&self, host: &str) -> bool {
        self.service(host).is_some()
    }

    /// The service for the registry at `host`, which may have a port.
    fn service(&self, host: &str) -> Option<EcrService> {
        let name = host.split(':').next().unwrap_or_default();
        let in_region = || Some(EcrService::in_region(self.region.as_ref()?));
        let service = EcrService::of_registry(name).or_else(in_region)?;
        let own = if service.name == "ecr" { "ECR" } else { "ECR_PUBLIC" };
        Some(match self.endpoint.clone().or_else(|| self.endpoint_of(own)) {
            Some(url) => service.at(&url),
            None => service,
        })
    }

    /// The URL of a service in the environment (AWS SDKs, "Service-specific endpoints").
    fn endpoint_of(&self, service: &str) -> Option<Url> {
        let of_service = self.identity.environment.text(&format!("AWS_ENDPOINT_URL_{service}"));
        let url = of_service.or_else(|| self.identity.environment.text("AWS_ENDPOINT_URL"))?;
        Url::parse(url).ok()
    }

    fn sts(&self) -> Option<Url> {
        self.sts_endpoint.clone().or_else(|| self.endpoint_of("STS"))
    }
}

/// The service as the source of an upstream's credential.
pub(in super::super) struct EcrSource {
    options: EcrOptions,
    /// `None` for a registry of which the region is not known.
    service: Option<EcrService>,
    client: Arc<CloudClient>,
}

impl EcrSource {
    /// The source for the registry at `host`.
    ///
    /// # Errors
    ///
    /// If the certificates of `route` are unusable.
    pub(in super::super) fn new(
        options: EcrOptions,
        host: &str,
        route: CredentialRoute<'_>,
    ) -> Result<Self, TrustError> {
        let service = options.service(host);
        let of_url = |url: &Url| HostPort::of(url);
        let mut remote = Vec::new();
        if let Some(service) = &service {
            remote.extend(Url::parse(&service.url).ok().as_ref().and_then(of_url));
            // In a private network, AWS gives its services private addresses under public names.
            remote.extend(service.sts_host().parse::<HostPort>().ok());
        }
        remote.extend(options.sts().as_ref().and_then(of_url));
        let sso = options.identity.environment.text("AWS_SSO_ENDPOINT");
        remote.extend(sso.and_then(|sso| HostPort::of(&Url::parse(sso).ok()?)));
        let local = chain::local_hosts(&options.identity.environment);
        let client = Arc::new(CloudClient::new(route, ServiceHosts { local, remote })?);
        Ok(Self { options, service, client })
    }

    async fn ask(&self) -> Result<IssuedCredential, CredentialError> {
        let unknown = || CredentialError::new("the host of the registry does not name a region");
        let service = self.service.as_ref().ok_or_else(unknown)?;
        let (environment, sts) = (self.options.identity.environment.clone(), self.options.sts());
        let context = AwsContext::new(Arc::clone(&self.client), environment, sts);
        let credential = chain::obtain(&context, &self.options.identity, &service.region).await?;
        let request = signed(service, &context, &credential).await?;
        let host = request.uri().host().unwrap_or_default().to_owned();
        let response = self.client.send(request).await?;
        if !response.status().is_success() {
            return Err(CredentialError::new(refusal(&host, &response)));
        }
        let issued = read(response.body()).ok_or_else(|| {
            CredentialError::new(format!("the answer of {host} has no `authorizationToken`"))
        })?;
        let owner = format!("the key {} of AWS", credential.access_key_id);
        let issued = IssuedCredential::until(issued.secret, issued.end, self.client.clock.now());
        Ok(issued.of(Some(owner)))
    }
}

impl CredentialSource for EcrSource {
    fn kind(&self) -> &'static str {
        "ecr"
    }

    fn fetch(self: Arc<Self>, _repository: Option<String>) -> PendingCredential {
        Box::pin(async move { self.ask().await })
    }
}

/// The call, signed.
async fn signed(
    service: &EcrService,
    context: &AwsContext,
    credential: &Credential,
) -> Result<Request<Bytes>, CredentialError> {
    let body = Bytes::from_static(b"{}");
    let request = Request::post(&service.url)
        .header(CONTENT_TYPE, "application/x-amz-json-1.1")
        .header("x-amz-target", service.target)
        // Without it the body would not be signed.
        .header("x-amz-content-sha256", hex_sha256(&body))
        .body(body);
    let unusable = || CredentialError::new("the credential of AWS cannot sign, or has expired");
    let (mut head, body) = request.map_err(|_| unusable())?.into_parts();
    let signer = RequestSigner::new(service.name, &service.region);
    let library = context.library();
    let signing = signer.sign_request(&library, &mut head, Some(credential), None);
    signing.await.map_err(|_| unusable())?;
    Ok(Request::from_parts(head, body))
}

struct EcrPassword {
    secret: IssuedSecret,
    end: SystemTime,
}

/// The password in an answer: of a list in the one service, alone in the other.
fn read(body: &[u8]) -> Option<EcrPassword> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let data = answer.get("authorizationData")?;
    let data = data.get(0).unwrap_or(data);
    let token = STANDARD.decode(data.get("authorizationToken")?.as_str()?).ok()?;
    let token = String::from_utf8(token).ok()?;
    let (username, password) = token.split_once(':')?;
    let end = data.get("expiresAt").and_then(Value::as_f64).unwrap_or_default();
    let end = Duration::try_from_secs_f64(end).unwrap_or_default();
    Some(EcrPassword {
        secret: IssuedSecret::Password {
            username: username.to_owned(),
            password: SecretString::from(password),
        },
        end: SystemTime::UNIX_EPOCH.checked_add(end)?,
    })
}
