//! The life of the tokens that Azure and Google issue: renewed before their end by one call under
//! load, and replaced by one call when they are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use larder::clock::{SystemClock, WallClock as _, unix_seconds};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::advance;

use super::patterns::entry;
use super::server::{Function, fields, header, reply};
use super::token::issued;
use crate::support::registry::basic;
use crate::support::tls::TestCa;
use crate::support::{Image, Proxy, Setup};

const HOUR: Duration = Duration::from_secs(3600);

/// The service that issues, and the registry, which takes one of what was issued.
#[derive(Clone, Default)]
struct Cloud {
    issued: Arc<AtomicUsize>,
    /// The number of the one that the registry takes.
    taken: Arc<AtomicUsize>,
    /// How many times it was shown another one.
    refused: Arc<AtomicUsize>,
}

impl Cloud {
    fn new() -> Self {
        let this = Self::default();
        this.take(1);
        this
    }

    fn take(&self, number: usize) {
        self.taken.store(number, Ordering::SeqCst);
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    fn issued(&self) -> usize {
        self.issued.load(Ordering::SeqCst)
    }

    /// The number of a new one.
    fn issue(&self) -> usize {
        self.issued.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The registry's answer to one who has to show `wanted`.
    fn answer(
        &self,
        request: &Request<Bytes>,
        image: &Image,
        (wanted, challenge): (&str, &str),
    ) -> Response<Bytes> {
        let shown = header(request, "authorization");
        if shown != wanted {
            self.refused.fetch_add(usize::from(!shown.is_empty()), Ordering::SeqCst);
            let mut refusal = reply(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#);
            refusal.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
            return refusal;
        }
        if !request.uri().path().contains("/manifests/") {
            return reply(200, "{}");
        }
        Response::builder()
            .header("content-type", &image.manifest.media_type)
            .header("docker-content-digest", image.manifest.blob.digest.to_string())
            .body(image.manifest.blob.bytes.clone())
            .unwrap()
    }
}

/// Pulls from a registry at `host`, whose entry has this `auth`, and what it takes for a life of
/// `life`.
async fn is_renewed_and_replaced(
    (host, auth): (&str, &str),
    life: Duration,
    cloud: Cloud,
    serve: impl Fn(&mut Setup, &TestCa, Image),
) {
    let (mut setup, ca, image) = (Setup::new(), TestCa::new(), Image::random(1, &[]));
    serve(&mut setup, &ca, image.clone());
    let text = format!("[registry.'{host}']\nca = 'ca'\ntag_ttl = '0s'\nauth = {{ {auth} }}\n");
    setup.settings.registries = entry(&ca, &text);
    let proxy = setup.start().await;
    let path = |number: usize| format!("/v2/{host}/team/app{number}/manifests/latest");
    let pull = async |proxy: &Proxy| proxy.get(&path(0)).await.assert_is(&image.manifest.blob);

    pull(&proxy).await;
    advance(life * 7 / 10).await;
    pull(&proxy).await;
    assert_eq!(cloud.issued(), 1, "{host}: more than a fifth of its life is left");
    advance(life / 8).await;
    cloud.take(2);
    let mut pulls = JoinSet::new();
    for number in 0..50 {
        let (client, path) = (proxy.client.clone(), path(number));
        let wanted = image.manifest.blob.clone();
        pulls.spawn(async move { client.get(&path).await.assert_is(&wanted) });
    }
    pulls.join_all().await;
    assert_eq!(cloud.issued(), 2, "{host}: one call for all");
    assert_eq!(cloud.refused.load(Ordering::SeqCst), 0, "{host}: the old one is shown no more");

    advance(life / 10).await;
    cloud.take(3);
    pull(&proxy).await;
    pull(&proxy).await;
    assert_eq!(cloud.issued(), 3, "{host}: it was refused, and replaced once");
}

#[tokio::test(start_paused = true)]
async fn an_access_token_of_google_is_renewed_by_one_call_and_replaced_when_refused() {
    let (host, cloud) = ("europe-west1-docker.pkg.dev", Cloud::new());
    let of_setup = cloud.clone();
    let serve = move |setup: &mut Setup, ca: &TestCa, image: Image| {
        let (metadata, registry) = (of_setup.clone(), of_setup.clone());
        let service = Function::new(move |_| {
            let token = format!("canary-{}", metadata.issue());
            let answer = json!({ "access_token": token, "expires_in": 3600 });
            let mut answer = reply(200, answer.to_string());
            answer.headers_mut().insert("metadata-flavor", "Google".parse().unwrap());
            answer
        });
        setup.network.put("169.254.169.254", 80, service);
        setup.network.name("metadata.google.internal", &["169.254.169.254"]);
        let registry = Function::new(move |request| {
            let wanted = basic("oauth2accesstoken", &format!("canary-{}", registry.taken()));
            registry.answer(request, &image, (&wanted, r#"Basic realm="x""#))
        });
        setup.network.put(host, 443, ca.protect(host, registry));
    };
    is_renewed_and_replaced((host, "type = 'google'"), HOUR, cloud, serve).await;
}

/// The refresh token of the exchange is what lives for hours. A registry that takes it no longer
/// refuses its token server's access tokens as well.
#[tokio::test(start_paused = true)]
async fn a_refresh_token_of_azure_is_renewed_by_one_exchange_and_replaced_when_refused() {
    let (host, cloud) = ("corp.azurecr.io", Cloud::new());
    let of_setup = cloud.clone();
    let serve = move |setup: &mut Setup, ca: &TestCa, image: Image| {
        let token = issued(r#"{"tid":"11111111-2222-3333-4444-555555555555"}"#, "canary-entra");
        let answer = json!({ "access_token": token, "expires_in": "86399" }).to_string();
        let identity = Function::new(move |_| reply(200, answer.clone()));
        setup.network.put("169.254.169.254", 80, identity);
        let cloud = of_setup.clone();
        let registry = Function::new(move |request| match request.uri().path() {
            "/oauth2/exchange" => {
                let ends = unix_seconds(SystemClock.now()) + 3 * HOUR.as_secs();
                let mark = format!("canary-{}", cloud.issue());
                let token = issued(&format!(r#"{{"exp":{ends}}}"#), &mark);
                reply(200, json!({ "refresh_token": token }).to_string())
            }
            "/oauth2/token" => {
                let mark = format!(".canary-{}", cloud.taken());
                let is_right = |(name, value): &(String, String)| {
                    name == "refresh_token" && value.ends_with(&mark)
                };
                if fields(request.body()).iter().any(is_right) {
                    let token = format!("access-{}", cloud.taken());
                    reply(200, json!({ "access_token": token }).to_string())
                } else {
                    cloud.refused.fetch_add(1, Ordering::SeqCst);
                    reply(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
                }
            }
            _ => {
                let wanted = format!("Bearer access-{}", cloud.taken());
                let challenge =
                    format!(r#"Bearer realm="https://{host}/oauth2/token",service="{host}""#);
                cloud.answer(request, &image, (&wanted, &challenge))
            }
        });
        setup.network.put(host, 443, ca.protect(host, registry));
    };
    is_renewed_and_replaced((host, "type = 'acr'"), 3 * HOUR, cloud, serve).await;
}
