//! A TLS front before a scripted registry: speaks the protocols that the test says, and counts.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use larder::http::NetworkConnection;
use tokio::sync::watch;
use tokio_rustls::LazyConfigAcceptor;

use super::network::Server;
use super::registry::ScriptedRegistry;
use super::tls::TestCa;

/// The front. Clones are the same one.
#[derive(Clone)]
pub struct Front {
    inner: Arc<Inner>,
}

struct Inner {
    registry: ScriptedRegistry,
    certificate: Arc<rustls::ServerConfig>,
    speaks: Speaks,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<Vec<Version>>,
    /// Raised when those that are open fall silent.
    silenced: watch::Sender<u64>,
}

/// The protocols that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Both, and prefers HTTP/2, as most do.
    Both,
    /// HTTP/2; to others it says that it has nothing for them.
    Http2,
    /// HTTP/2, also to those who did not ask for it.
    Http2Regardless,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub version: Version,
    pub path: String,
    /// The number of the connection.
    pub connection: usize,
}

impl Front {
    /// Before `registry`, at `host`.
    pub fn new(registry: &ScriptedRegistry, host: &str, ca: &TestCa, speaks: Speaks) -> Self {
        let inner = Inner {
            registry: registry.clone(),
            certificate: Arc::new(ca.server_config(host)),
            speaks,
            seen: Mutex::default(),
            connections: Mutex::default(),
            silenced: watch::Sender::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The versions in which requests came whose path has this in it.
    pub fn versions(&self, needle: &str) -> Vec<Version> {
        let seen = self.inner.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.path.contains(needle)).map(|seen| seen.version).collect()
    }

    /// How many connections there were in this version.
    pub fn connections(&self, version: Version) -> usize {
        self.inner.connections.lock().unwrap().iter().filter(|it| **it == version).count()
    }

    /// Nothing more comes on any connection that is open now.
    pub fn silence(&self) {
        self.inner.silenced.send_modify(|count| *count += 1);
    }

    async fn accept(&self, io: NetworkConnection) -> Option<()> {
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io).await.ok()?;
        let offers_h2 = hello.client_hello().alpn()?.any(|name| name == b"h2");
        let mut config = rustls::ServerConfig::clone(&self.inner.certificate);
        config.alpn_protocols = match self.inner.speaks {
            Speaks::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Speaks::Http2 => vec![b"h2".to_vec()],
            Speaks::Http2Regardless if offers_h2 => vec![b"h2".to_vec()],
            Speaks::Http2Regardless => Vec::new(),
        };
        let stream = hello.into_stream(Arc::new(config)).await.ok()?;
        let is_h1 = stream.get_ref().1.alpn_protocol() == Some(b"http/1.1");
        let number = {
            let mut connections = self.inner.connections.lock().unwrap();
            connections.push(if is_h1 { Version::HTTP_11 } else { Version::HTTP_2 });
            connections.len()
        };
        let this = self.clone();
        let service = service_fn(move |request| {
            let this = this.clone();
            async move { this.pass_on(number, request).await }
        });
        let io = TokioIo::new(stream);
        if is_h1 {
            let serving = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            return serving.await.ok();
        }
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).serve_connection(io, service).await.ok()
    }

    /// To the registry, and back.
    async fn pass_on(
        &self,
        connection: usize,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let (version, path) = (request.version(), request.uri().path().to_owned());
        self.inner.seen.lock().unwrap().push(Seen { version, path, connection });
        let (near, far) = tokio::io::duplex(64 << 10);
        let registry = self.inner.registry.clone();
        tokio::spawn(async move { registry.serve(Box::new(far)).await });
        let (mut sender, serving) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(serving);
        let (mut head, body) = request.into_parts();
        head.version = Version::HTTP_11;
        let host = head.uri.authority().map(|host| host.as_str().parse().unwrap());
        head.headers.extend(host.map(|host| (http::header::HOST, host)));
        head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
        sender.send_request(Request::from_parts(head, body)).await
    }
}

impl Server for Front {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let mut silenced = self.inner.silenced.subscribe();
            let mut serving = Box::pin(self.accept(io));
            let silence = async {
                drop(silenced.changed().await);
            };
            tokio::select! {
                _ = &mut serving => {}
                // Kept, so that it is silent and not closed.
                () = silence => std::future::pending::<()>().await,
            }
        })
    }
}
