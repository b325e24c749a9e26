//! The image credential providers of the kubelet: programs that speak
//! `credentialprovider.kubelet.k8s.io/v1` (KEP-2133). Every cloud ships one.
//!
//! A provider reads a request with the image on its standard input and writes credentials for
//! patterns of images, and says how widely and how long they may be used.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::command;
use super::error::CredentialError;
use super::issued::{IssuedCredential, IssuedSecret};
use super::source::{CredentialSource, PendingCredential};

const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// How long an answer is used that does not say so.
const DURATION_DEFAULT: Duration = Duration::from_secs(10 * 60);

/// `type = "kubelet"`: a provider as the kubelet would run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletOptions {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// A provider as the source of an upstream's credential.
pub(super) struct KubeletSource {
    options: KubeletOptions,
    /// The host of images, and its port if the URL has one.
    host: String,
    /// How widely the last answer may be used; each image is asked for until that is known.
    scope: Mutex<CacheKeyType>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProviderRequest<'a> {
    api_version: &'a str,
    kind: &'a str,
    image: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderResponse {
    api_version: String,
    kind: String,
    cache_key_type: CacheKeyType,
    #[serde(default)]
    cache_duration: Option<String>,
    #[serde(default)]
    auth: BTreeMap<String, ProviderCredential>,
}

#[derive(Deserialize)]
struct ProviderCredential {
    username: String,
    password: String,
}

/// The images that share an answer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum CacheKeyType {
    Image,
    Registry,
    Global,
}

impl KubeletSource {
    pub(super) fn new(options: KubeletOptions, host: String) -> Self {
        Self { options, host, scope: Mutex::new(CacheKeyType::Image) }
    }

    async fn ask(&self, image: &str) -> Result<IssuedCredential, CredentialError> {
        let kind = "CredentialProviderRequest";
        let request = ProviderRequest { api_version: API_VERSION, kind, image };
        let request = serde_json::to_vec(&request)
            .map_err(|error| CredentialError::new(format!("the request: {error}")))?;
        let KubeletOptions { program, arguments } = &self.options;
        let output = command::run(program.as_os_str(), arguments, &request).await?;
        let shown = program.display();
        if !output.is_success {
            return Err(CredentialError::new(format!("`{shown}` failed")));
        }
        let response: ProviderResponse = serde_json::from_slice(&output.stdout).map_err(|_| {
            CredentialError::new(format!("the output of `{shown}` is not a response of a provider"))
        })?;
        if response.kind != "CredentialProviderResponse" || response.api_version != API_VERSION {
            let reason = format!("`{shown}` speaks another protocol than {API_VERSION}");
            return Err(CredentialError::new(reason));
        }
        *self.scope.lock() = response.cache_key_type;
        let life = response.cache_duration.as_deref().map_or(Some(DURATION_DEFAULT), go_duration);
        let life = life.ok_or_else(|| {
            CredentialError::new(format!("the `cacheDuration` of `{shown}` is not a duration"))
        })?;
        Ok(IssuedCredential::new(credential_for(response.auth, image), life))
    }
}

impl CredentialSource for KubeletSource {
    fn kind(&self) -> &'static str {
        "kubelet"
    }

    fn key(&self, repository: Option<&str>) -> String {
        match *self.scope.lock() {
            CacheKeyType::Image => repository.unwrap_or_default().to_owned(),
            CacheKeyType::Registry | CacheKeyType::Global => String::new(),
        }
    }

    fn fetch(self: Arc<Self>, repository: Option<String>) -> PendingCredential {
        Box::pin(async move {
            let image = match &repository {
                Some(repository) => format!("{}/{repository}", self.host),
                None => self.host.clone(),
            };
            self.ask(&image).await
        })
    }
}

/// The credential whose pattern fits `image`; of several, the longest in the order of the kubelet.
fn credential_for(mut auth: BTreeMap<String, ProviderCredential>, image: &str) -> IssuedSecret {
    let pattern = auth.keys().rev().find(|pattern| fits(pattern, image)).cloned();
    match pattern.and_then(|pattern| auth.remove(&pattern)) {
        Some(ProviderCredential { username, password }) => {
            IssuedSecret::Password { username, password: SecretString::from(password) }
        }
        None => IssuedSecret::Nothing,
    }
}

/// Whether a pattern fits an image: as many labels in the host, each equal or a glob, the same
/// port, and a path that the image's begins with (Kubernetes, "Configuration of image matching").
fn fits(pattern: &str, image: &str) -> bool {
    let pattern = pattern.trim_start_matches("https://").trim_start_matches("http://");
    let (pattern_host, pattern_path) = pattern.split_once('/').unwrap_or((pattern, ""));
    let (host, path) = image.split_once('/').unwrap_or((image, ""));
    let port = |host: &str| host.rsplit_once(':').map(|(_, port)| port.to_owned());
    let labels = |host: &str| {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        name.split('.').map(str::to_owned).collect::<Vec<_>>()
    };
    let patterns = labels(pattern_host);
    let labels = labels(host);
    port(pattern_host) == port(host)
        && patterns.len() == labels.len()
        && patterns.iter().zip(&labels).all(|(pattern, label)| fits_label(pattern, label))
        && path.starts_with(pattern_path)
}

/// Whether a label fits a pattern in which `*` stands for any text.
fn fits_label(pattern: &str, label: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(label) = label.strip_prefix(before) else { return false };
    (0..=label.len())
        .filter(|start| label.is_char_boundary(*start))
        .any(|start| fits_label(rest, &label[start..]))
}

/// A duration as Go writes it: `12h0m0s`, `1h30m`, `500ms`.
fn go_duration(text: &str) -> Option<Duration> {
    match text {
        "0" => Some(Duration::ZERO),
        _ => humantime::parse_duration(text).ok(),
    }
}
