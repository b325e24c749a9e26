//! Behaviour of the whole client, over an in-memory network and with paused time.

mod body;
mod coding;
mod foreign;
mod group;
mod hidden;
mod issued;
mod limits;
mod login;
mod realm;
mod redirect;
mod retry;
mod secrets;
mod sites;
mod skew;
mod tls;

#[allow(dead_code, unreachable_pub, reason = "it is the integration tests', which use all of it")]
#[path = "../../../tests/it/support/network.rs"]
mod fake_network;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use self::sites::ScriptedSites;
use super::{
    Answer, ChangeCall, ChangePayload, ChangeTarget, ProxyCredential, Question, ReadMethod,
    Upstream, UpstreamError, UpstreamGroup, UpstreamIndex, UpstreamOptions,
};
use crate::http::{EgressRoute, InstanceId, Via};
use crate::oci::Resource;

const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A world in which `up.example.com` has a private address, as its operator wants it, and the
/// others have public ones.
fn world() -> ScriptedSites {
    let network = ScriptedSites::default();
    network.name("up.example.com", &["10.0.0.1"]);
    network.name("auth.example.com", &["1.0.0.2"]);
    network.name("cdn.test", &["1.0.0.3"]);
    network
}

const UP: &str = "10.0.0.1:80";
const AUTH: &str = "1.0.0.2:80";
const CDN: &str = "1.0.0.3:80";

fn options() -> UpstreamOptions {
    UpstreamOptions::for_test("http://up.example.com".parse().unwrap())
}

fn with_password(password: &str) -> UpstreamOptions {
    let credential =
        ProxyCredential::Basic { username: "me".to_owned(), password: password.to_owned().into() };
    UpstreamOptions { credential, ..options() }
}

fn upstream(network: &ScriptedSites, options: &UpstreamOptions) -> Arc<Upstream> {
    Arc::new(Upstream::new(options, &egress(network), &Arc::default()).unwrap())
}

fn egress(network: &ScriptedSites) -> EgressRoute {
    EgressRoute::direct(network.network(), InstanceId::random())
}

fn blob(method: ReadMethod, from: u64) -> Question {
    let resource = Resource::Blob(format!("sha256:{HEX}").parse().unwrap());
    Question { from, ..Question::new(method, "a/b".parse().unwrap(), resource) }
}

fn begin_upload() -> ChangeCall {
    ChangeCall {
        asker: None,
        method: Method::POST,
        repository: "a/b".parse().unwrap(),
        target: ChangeTarget::Resource(Resource::Upload(None)),
        query: String::new(),
        source: None,
        headers: HeaderMap::new(),
        payload: ChangePayload::Empty,
        client: None,
        via: Via::default(),
    }
}

fn manifest(repository: &str) -> Question {
    let resource = Resource::Manifest("latest".parse().unwrap());
    let question = Question::new(ReadMethod::Get, repository.parse().unwrap(), resource);
    Question { accept: Some("application/x".to_owned()), ..question }
}

/// Asks with the deadline that the product uses.
async fn ask(upstream: &Upstream, question: &Question) -> Result<Answer, UpstreamError> {
    upstream.ask(question, Instant::now() + Duration::from_secs(25)).await
}

/// Asks for a blob and reads it whole.
async fn pull(upstream: &Upstream) -> Result<String, UpstreamError> {
    let answer = ask(upstream, &blob(ReadMethod::Get, 0)).await?;
    let bytes = answer.body.collect(1 << 20).await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

fn denied(error: &UpstreamError) -> Option<StatusCode> {
    match error {
        UpstreamError::Denied { status, .. } => Some(*status),
        _ => None,
    }
}
