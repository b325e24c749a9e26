//! Hosts that exist only in memory: names, addresses, and scripted HTTP/1.1 servers behind them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::http::{DuplexStream, Network, NetworkConnection, NetworkFuture};

/// The steps of a server for one request. After the last step it waits for the next request on the
/// connection.
pub(super) type Script = Vec<Step>;

/// Makes a script.
pub(super) type Make = fn() -> Script;

pub(super) enum Step {
    Close,
    Hang,
    Send(Vec<u8>),
    Wait(Duration),
}

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) host: String,
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    headers: HashMap<String, String>,
    /// The body of a form. Others are left to the handler.
    pub(super) body: String,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

type Handler = Arc<dyn Fn(&Seen) -> Script + Send + Sync>;

/// An internet.
#[derive(Default)]
pub(super) struct FakeNetwork {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    names: HashMap<String, Vec<IpAddr>>,
    servers: HashMap<SocketAddr, (Handler, Option<TlsAcceptor>)>,
    silent: Vec<SocketAddr>,
    silent_names: Vec<String>,
    dialled: Vec<SocketAddr>,
    seen: Vec<Seen>,
}

impl FakeNetwork {
    pub(super) fn name(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.inner.lock().unwrap().names.insert(name.to_owned(), addresses);
    }

    pub(super) fn serve(
        &self,
        address: &str,
        handler: impl Fn(&Seen) -> Script + Send + Sync + 'static,
    ) {
        let server: (Handler, _) = (Arc::new(handler), None);
        self.inner.lock().unwrap().servers.insert(address.parse().unwrap(), server);
    }

    pub(super) fn serve_tls(
        &self,
        address: &str,
        tls: TlsAcceptor,
        handler: impl Fn(&Seen) -> Script + Send + Sync + 'static,
    ) {
        let server: (Handler, _) = (Arc::new(handler), Some(tls));
        self.inner.lock().unwrap().servers.insert(address.parse().unwrap(), server);
    }

    /// Connections to `address` are never accepted.
    pub(super) fn black_hole(&self, address: &str) {
        self.inner.lock().unwrap().silent.push(address.parse().unwrap());
    }

    /// Connections to `address` are accepted again.
    pub(super) fn light(&self, address: &str) {
        let address: SocketAddr = address.parse().unwrap();
        self.inner.lock().unwrap().silent.retain(|silent| *silent != address);
    }

    /// Look-ups of `name` are never answered.
    pub(super) fn silent_name(&self, name: &str) {
        self.inner.lock().unwrap().silent_names.push(name.to_owned());
    }

    /// Every address that was called, whether it answered or not.
    pub(super) fn dialled(&self) -> Vec<String> {
        self.inner.lock().unwrap().dialled.iter().map(ToString::to_string).collect()
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.inner.lock().unwrap().seen.clone()
    }

    /// How many requests a host got.
    pub(super) fn count(&self, host: &str) -> usize {
        self.seen().iter().filter(|seen| seen.host == host).count()
    }
}

impl std::fmt::Debug for FakeNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeNetwork")
    }
}

/// A local handle, so that the network can hand itself to its servers.
#[derive(Clone, Debug, Default)]
pub(super) struct Internet(pub(super) Arc<FakeNetwork>);

impl Network for Internet {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>> {
        let inner = self.0.inner.lock().unwrap();
        let found = inner.names.get(host).cloned();
        let is_silent = inner.silent_names.iter().any(|name| name == host);
        drop(inner);
        Box::pin(async move {
            if is_silent {
                std::future::pending::<()>().await;
            }
            let found = found.ok_or_else(|| io::Error::other("no such name"))?;
            Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        })
    }

    fn connect(&self, address: SocketAddr) -> NetworkFuture<'_, NetworkConnection> {
        Box::pin(async move {
            let server = {
                let mut inner = self.0.inner.lock().unwrap();
                inner.dialled.push(address);
                (inner.servers.get(&address).cloned(), inner.silent.contains(&address))
            };
            let (handler, tls) = match server {
                (_, true) => std::future::pending().await,
                (None, false) => return Err(io::ErrorKind::ConnectionRefused.into()),
                (Some(server), false) => server,
            };
            let (near, far) = duplex(64 * 1024);
            let network = Arc::clone(&self.0);
            tokio::spawn(async move {
                match tls {
                    None => converse(Box::new(far), &network, handler).await,
                    Some(tls) => match tls.accept(far).await {
                        Ok(far) => converse(Box::new(far), &network, handler).await,
                        Err(error) => Err(error),
                    },
                }
            });
            Ok(Box::new(near) as NetworkConnection)
        })
    }
}

async fn converse(
    mut stream: Box<dyn DuplexStream>,
    network: &FakeNetwork,
    handler: Handler,
) -> io::Result<()> {
    while let Some(seen) = read_request(&mut stream).await? {
        network.inner.lock().unwrap().seen.push(seen.clone());
        for step in handler(&seen) {
            match step {
                Step::Close => return Ok(()),
                Step::Hang => std::future::pending().await,
                Step::Send(bytes) => {
                    stream.write_all(&bytes).await?;
                    stream.flush().await?;
                }
                Step::Wait(time) => sleep(time).await,
            }
        }
    }
    Ok(())
}

async fn read_request(stream: &mut Box<dyn DuplexStream>) -> io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return Ok(None) };
        head.push(byte);
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.split("\r\n");
    let mut request = lines.next().unwrap().split(' ');
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let is_form = headers.get("content-type").is_some_and(|it| it.ends_with("form-urlencoded"));
    let length = headers.get("content-length").filter(|_| is_form);
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    Ok(Some(Seen {
        host: headers["host"].clone(),
        method: request.next().unwrap().to_owned(),
        target: request.next().unwrap().to_owned(),
        headers,
        body: String::from_utf8(body).unwrap(),
    }))
}

/// A whole response.
pub(super) fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Script {
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        headers.push(("Content-Length", &length));
    }
    let mut text = head(status, &headers);
    text.extend_from_slice(body.as_bytes());
    vec![Step::Send(text)]
}

/// The head of a response.
pub(super) fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let lines: String =
        headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
    format!("HTTP/1.1 {status} X\r\n{lines}\r\n").into_bytes()
}
