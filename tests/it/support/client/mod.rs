//! Clients of the proxy: HTTP/1.1 and HTTP/2 as a library speaks them, and raw bytes.

mod raw;
mod reply;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::http::NetworkConnection;
use tokio::task::JoinHandle;

pub use raw::{RawClient, answers_in, request};
pub use reply::{Decision, Reply};

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    H2,
    Http10,
    Http11,
}

impl Version {
    pub const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::H2];
}

/// No answer of a proxy takes this long, unless it never ends. On the paused clock a test that
/// hangs gets here at once.
const PATIENCE: Duration = Duration::from_secs(600);

/// Opens connections to the proxy.
pub type Dial = Arc<dyn Fn() -> NetworkConnection + Send + Sync>;

/// Sends each request over a connection of its own. Clones are cheap.
#[derive(Clone)]
pub struct Client {
    dial: Dial,
}

impl Client {
    pub fn new(dial: Dial) -> Self {
        Self { dial }
    }

    /// A connection, nothing on it yet.
    pub fn dial(&self) -> NetworkConnection {
        (self.dial)()
    }

    /// A connection to write to by hand.
    pub fn raw(&self) -> RawClient {
        RawClient::new((self.dial)())
    }

    /// GET over HTTP/1.1; panics when no head came.
    #[track_caller]
    pub fn get(&self, path: &str) -> impl Future<Output = Reply> + Send + use<> {
        self.get_with(path, &[])
    }

    /// GET with headers.
    #[track_caller]
    pub fn get_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> impl Future<Output = Reply> + Send + use<> {
        self.call(Method::GET, path, headers)
    }

    /// HEAD over HTTP/1.1.
    #[track_caller]
    pub fn head(&self, path: &str) -> impl Future<Output = Reply> + Send + use<> {
        self.call(Method::HEAD, path, &[])
    }

    /// Any request without a body over HTTP/1.1; panics when no head came.
    #[track_caller]
    pub fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> impl Future<Output = Reply> + Send + use<> {
        let what = format!("{method} {path}");
        let reply = self.try_call(Version::Http11, method, path, headers);
        async move { reply.await.unwrap_or_else(|e| panic!("no answer to {what}: {e}")) }
    }

    /// GET in any version; `Err` when the connection ended before a head came.
    pub fn try_get(
        &self,
        version: Version,
        path: &str,
    ) -> impl Future<Output = Result<Reply, String>> + Send + use<> {
        self.try_call(version, Method::GET, path, &[])
    }

    /// Any request with a body over HTTP/1.1; panics when no head came.
    #[track_caller]
    pub fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> impl Future<Output = Reply> + Send + use<> {
        let what = format!("{method} {path}");
        let reply = self.try_send((Version::Http11, method), path, headers, body);
        async move { reply.await.unwrap_or_else(|e| panic!("no answer to {what}: {e}")) }
    }

    /// Any request without a body in any version.
    pub fn try_call(
        &self,
        version: Version,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> impl Future<Output = Result<Reply, String>> + Send + use<> {
        self.try_send((version, method), path, headers, Bytes::new())
    }

    /// Any request in any version.
    pub fn try_send(
        &self,
        (version, method): (Version, Method),
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> impl Future<Output = Result<Reply, String>> + Send + use<> {
        let io = (self.dial)();
        let bytes = request(method.as_str(), "1.0", path, headers);
        let typed = typed(method.clone(), version, path, headers, body);
        let exchange = async move {
            match version {
                Version::H2 => over_h2(io, typed).await,
                Version::Http10 => {
                    assert!(method == Method::GET, "HTTP/1.0 clients here only GET");
                    let mut client = RawClient::new(io);
                    client.send(&bytes).await;
                    Ok(client.download().await?.finish().await)
                }
                Version::Http11 => over_h1(io, typed).await,
            }
        };
        let what = format!("{version:?} {path}");
        async move {
            let ended = tokio::time::timeout(PATIENCE, exchange).await;
            ended.unwrap_or_else(|_| panic!("{what} did not end within {PATIENCE:?}"))
        }
    }
}

/// A header `host` takes the place of the usual one.
fn typed(
    method: Method,
    version: Version,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Request<Full<Bytes>> {
    let host = headers.iter().find(|(name, _)| *name == "host").map_or(HOST, |(_, host)| host);
    let request = match version {
        Version::H2 => Request::builder().uri(format!("http://{host}{path}")),
        Version::Http10 | Version::Http11 => Request::builder().uri(path).header("host", host),
    };
    let others = headers.iter().filter(|(name, _)| *name != "host");
    let request = others.fold(request, |request, (name, value)| request.header(*name, *value));
    request.method(method).body(Full::new(body)).unwrap()
}

/// The name by which clients call the proxy.
const HOST: &str = "larder.test";

async fn over_h1(io: NetworkConnection, request: Request<Full<Bytes>>) -> Result<Reply, String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|e| e.to_string())?;
    let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let reply = collect(response).await;
    drop(driver);
    Ok(reply)
}

async fn over_h2(io: NetworkConnection, request: Request<Full<Bytes>>) -> Result<Reply, String> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .map_err(|e| e.to_string())?;
    let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
    let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let reply = collect(response).await;
    drop(driver);
    Ok(reply)
}

/// Reads a body to its end, whichever that is.
async fn collect(response: Response<Incoming>) -> Reply {
    let (parts, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    let mut broken = None;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend(frame.into_data().ok()),
            Err(e) => {
                broken = Some(format!("{e:?}"));
                break;
            }
        }
    }
    Reply { status: parts.status, headers: parts.headers, body: bytes.freeze(), broken }
}

/// A connection's task, which ends with its request.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
