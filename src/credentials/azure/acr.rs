//! `type = "acr"`: refresh tokens of Azure's registries, for a token of Entra.
//!
//! The registry exchanges a token of Entra for a refresh token of its own (`/oauth2/exchange`), for
//! which its token server (`/oauth2/token`) issues the tokens that requests show (Azure/acr,
//! "AAD-OAuth.md"). The latter is the way of every token server, so it is in `upstream`.

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use url::Url;

use super::super::cloud_client::{CloudClient, CredentialRoute, ServiceHosts};
use super::super::error::CredentialError;
use super::super::issued::{IssuedCredential, IssuedSecret};
use super::super::jwt::UnverifiedClaims;
use super::super::oauth;
use super::super::source::{CredentialSource, PendingCredential};
use super::entra::{EntraClient, EntraIdentity};
use super::managed;
use crate::http::{HostPort, TrustError};

/// How a refresh token of Azure's registries is obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcrOptions {
    /// Which identity of Entra is taken.
    pub identity: EntraIdentity,
    /// The URL of Entra, if it is another one than the registry's cloud has.
    pub authority: Option<Url>,
    /// The resource that tokens of Entra are for, if it is another one than the cloud's.
    pub audience: Option<String>,
}

/// A cloud of Azure: the end of its registries' names, Entra there, and the resource of tokens.
struct AzureCloud {
    suffix: &'static str,
    authority: &'static str,
    audience: &'static str,
}

/// The first is that of registries with other names, too. The others take tokens of the Resource
/// Manager.
const CLOUDS: [AzureCloud; 3] = [
    AzureCloud {
        suffix: ".azurecr.io",
        authority: "https://login.microsoftonline.com",
        audience: "https://containerregistry.azure.net",
    },
    AzureCloud {
        suffix: ".azurecr.cn",
        authority: "https://login.chinacloudapi.cn",
        audience: "https://management.chinacloudapi.cn",
    },
    AzureCloud {
        suffix: ".azurecr.us",
        authority: "https://login.microsoftonline.us",
        audience: "https://management.usgovcloudapi.net",
    },
];

/// The registry's exchange as the source of an upstream's credential.
pub(in super::super) struct AcrSource {
    entra: EntraClient,
    client: Arc<CloudClient>,
    /// The URL of the registry, without a path.
    registry: Url,
}

impl AcrSource {
    /// The source for the registry of `route`.
    ///
    /// # Errors
    ///
    /// If the certificates of `route` are unusable.
    pub(in super::super) fn new(
        options: AcrOptions,
        route: CredentialRoute<'_>,
    ) -> Result<Self, TrustError> {
        let host = route.registry.host_str().unwrap_or_default();
        let cloud = CLOUDS.iter().find(|cloud| host.ends_with(cloud.suffix)).unwrap_or(&CLOUDS[0]);
        let identity = options.identity;
        let configured = options.authority.or_else(|| identity.authority());
        let authority = configured.or_else(|| Url::parse(cloud.authority).ok());
        let audience = options.audience.unwrap_or_else(|| cloud.audience.to_owned());
        let local = managed::local_hosts(&identity.environment);
        let mut remote: Vec<_> = authority.as_ref().and_then(HostPort::of).into_iter().collect();
        remote.extend(route.exempt_registry());
        let client = Arc::new(CloudClient::new(route, ServiceHosts { local, remote })?);
        let mut registry = route.registry.clone();
        registry.set_path("");
        let entra = EntraClient { identity, authority, audience, client: Arc::clone(&client) };
        Ok(Self { entra, client, registry })
    }

    async fn exchange(&self) -> Result<IssuedCredential, CredentialError> {
        let token = self.entra.token().await?;
        let token = token.expose_secret();
        let claims = UnverifiedClaims::of(token);
        let tenant = self.entra.identity.tenant().or_else(|| claims.text("tid"));
        let host = self.registry.host_str().unwrap_or_default();
        let service = match self.registry.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let mut fields =
            vec![("grant_type", "access_token"), ("service", &service), ("access_token", token)];
        fields.extend(tenant.map(|tenant| ("tenant", tenant)));
        let mut url = self.registry.clone();
        url.set_path("/oauth2/exchange");
        let answer = oauth::post_form(&self.client, &url, &fields).await?;
        let refresh = answer.secret("refresh_token")?;
        let end = UnverifiedClaims::of(refresh.expose_secret()).end();
        let secret = IssuedSecret::IdentityToken(refresh);
        let issued = match end {
            Some(end) => IssuedCredential::until(secret, end, self.client.clock.now()),
            None => IssuedCredential::new(secret, answer.life()),
        };
        let application = claims.text("appid").or_else(|| claims.text("oid"));
        let application = application.or_else(|| self.entra.identity.client_id());
        Ok(issued.of(application.map(|id| format!("the application {id} of Entra"))))
    }
}

impl CredentialSource for AcrSource {
    fn kind(&self) -> &'static str {
        "acr"
    }

    fn fetch(self: Arc<Self>, _repository: Option<String>) -> PendingCredential {
        Box::pin(async move { self.exchange().await })
    }
}
