//! Behaviour of the whole client, over an in-memory network and with paused time.

mod body;
mod group;
mod limits;
mod login;
mod network;
mod realm;
mod redirect;
mod retry;
mod secrets;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use self::network::{FakeNetwork, Internet};
use super::{Answer, Credential, Error, Method, Options, Place, Question, Upstream, Upstreams};
use crate::http::{Egress, InstanceId};
use crate::oci::Resource;

const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A world in which `up.example.com` has a private address, as its operator wants it, and the
/// others have public ones.
fn world() -> (Internet, Arc<FakeNetwork>) {
    let internet = Internet::default();
    let network = Arc::clone(&internet.0);
    network.name("up.example.com", &["10.0.0.1"]);
    network.name("auth.example.com", &["1.0.0.2"]);
    network.name("cdn.test", &["1.0.0.3"]);
    (internet, network)
}

const UP: &str = "10.0.0.1:80";
const AUTH: &str = "1.0.0.2:80";
const CDN: &str = "1.0.0.3:80";

fn options() -> Options {
    Options {
        url: "http://up.example.com".parse().unwrap(),
        credential: Credential::Anonymous,
        ca_pem: None,
        client_identity: None,
        token_hosts: Vec::new(),
        redirect_hosts: Vec::new(),
        max_connections: 64,
    }
}

fn with_password(password: &str) -> Options {
    let credential =
        Credential::Basic { username: "me".to_owned(), password: password.to_owned().into() };
    Options { credential, ..options() }
}

fn upstream(internet: &Internet, options: &Options) -> Arc<Upstream> {
    Arc::new(Upstream::new(options, &egress(internet), &Arc::default()).unwrap())
}

fn egress(internet: &Internet) -> Egress {
    Egress::direct(Arc::new(internet.clone()), InstanceId::random())
}

fn blob(method: Method, from: u64) -> Question {
    let resource = Resource::Blob(format!("sha256:{HEX}").parse().unwrap());
    Question { from, ..Question::new(method, "a/b".parse().unwrap(), resource) }
}

fn manifest(repository: &str) -> Question {
    let resource = Resource::Manifest("latest".parse().unwrap());
    let question = Question::new(Method::Get, repository.parse().unwrap(), resource);
    Question { accept: Some("application/x".to_owned()), ..question }
}

/// Asks with the deadline that the product uses.
async fn ask(upstream: &Upstream, question: &Question) -> Result<Answer, Error> {
    upstream.ask(question, Instant::now() + Duration::from_secs(25)).await
}

/// Asks for a blob and reads it whole.
async fn pull(upstream: &Upstream) -> Result<String, Error> {
    let answer = ask(upstream, &blob(Method::Get, 0)).await?;
    let bytes = answer.body.collect(1 << 20).await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

fn denied(error: &Error) -> Option<StatusCode> {
    match error {
        Error::Denied { status, .. } => Some(*status),
        _ => None,
    }
}
