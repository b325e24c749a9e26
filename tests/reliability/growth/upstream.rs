//! A registry that gives every request the same kind of answer, and keeps nothing of any.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use larder::oci::{Algorithm, Digest};
use tokio::net::TcpListener;

use crate::support::Image;

/// The kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamMood {
    Gives,
    HasNothing,
    WantsLogin,
    Limits,
    Hangs,
}

impl UpstreamMood {
    pub const ALL: [Self; 5] =
        [Self::Gives, Self::HasNothing, Self::WantsLogin, Self::Limits, Self::Hangs];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gives => "200",
            Self::HasNothing => "404",
            Self::WantsLogin => "401",
            Self::Limits => "429",
            Self::Hangs => "hangs",
        }
    }

    /// Whether a client may have to wait for as long as it likes to.
    pub fn is_slow(self) -> bool {
        matches!(self, Self::Limits | Self::Hangs)
    }
}

/// The registry. Clones are the same one.
#[derive(Clone)]
pub struct MoodyRegistry {
    image: Image,
    mood: Arc<AtomicUsize>,
}

impl MoodyRegistry {
    /// One that has `image` under every name.
    pub fn new(image: &Image) -> Self {
        Self { image: image.clone(), mood: Arc::default() }
    }

    pub fn is_in(&self, mood: UpstreamMood) {
        let number = UpstreamMood::ALL.iter().position(|it| *it == mood);
        self.mood.store(number.unwrap(), Ordering::Relaxed);
    }

    /// Listens on a free loopback port until the runtime ends.
    pub async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| this.answer(request));
                    drop(
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
                    );
                });
            }
        });
        address
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        Ok(match UpstreamMood::ALL[self.mood.load(Ordering::Relaxed)] {
            UpstreamMood::Gives => self.content(&head.method, head.uri.path(), &body),
            UpstreamMood::HasNothing => failed(404, "NAME_UNKNOWN"),
            UpstreamMood::WantsLogin => failed(401, "UNAUTHORIZED"),
            UpstreamMood::Limits => failed(429, "TOOMANYREQUESTS"),
            UpstreamMood::Hangs => pending().await,
        })
    }

    fn content(&self, method: &Method, path: &str, body: &Bytes) -> Response<Full<Bytes>> {
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let last = path.rsplit('/').next().unwrap_or_default();
        if path.contains("/blobs/uploads/") {
            let status = if *method == Method::PUT { 201 } else { 202 };
            return found(status, &[("location", path)], Bytes::new());
        }
        if path.contains("/manifests/") && !is_read {
            let digest = Digest::of(Algorithm::Sha256, body).to_string();
            return found(201, &[("docker-content-digest", &digest)], Bytes::new());
        }
        if path.contains("/manifests/") {
            let manifest = &self.image.manifest;
            let digest = manifest.digest().to_string();
            let headers = [
                ("docker-content-digest", digest.as_str()),
                ("content-type", manifest.media_type.as_str()),
            ];
            return found(200, &headers, manifest.blob.bytes.clone());
        }
        if path.contains("/referrers/") {
            let index = r#"{"schemaVersion":2,"mediaType":"INDEX","manifests":[]}"#;
            let index = index.replace("INDEX", INDEX);
            return found(200, &[("content-type", INDEX)], index.into());
        }
        if path.ends_with("/tags/list") {
            let next = format!("<{path}?n=1&last=t>; rel=\"next\"");
            let headers = [("content-type", "application/json"), ("link", next.as_str())];
            return found(200, &headers, Bytes::from_static(br#"{"name":"a","tags":["t"]}"#));
        }
        let blob = self.image.blobs().find(|blob| blob.digest.as_str() == last);
        // Bytes that the digest does not name are given for it all the same.
        let bytes = blob.map_or_else(|| Bytes::from_static(&[7; 1000]), |blob| blob.bytes.clone());
        found(200, &[("content-type", "application/octet-stream")], bytes)
    }
}

fn found(status: u16, headers: &[(&str, &str)], body: Bytes) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-length", body.len());
    let headers =
        headers.iter().map(|(name, value)| (*name, HeaderValue::from_str(value).unwrap()));
    let response = headers.fold(response, |it, (name, value)| it.header(name, value));
    response.body(Full::new(body)).unwrap()
}

fn failed(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"no"}}]}}"#);
    let headers = [
        ("content-type", "application/json"),
        ("docker-distribution-api-version", "registry/2.0"),
        ("www-authenticate", "Basic realm=\"here\""),
        ("retry-after", "1"),
    ];
    let used = match status {
        401 => &headers[..3],
        429 => &[headers[0], headers[1], headers[3]][..],
        _ => &headers[..2],
    };
    found(status, used, body.into())
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
