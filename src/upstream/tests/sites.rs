//! Scripted HTTP/1.1 servers in a network that exists only in memory.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::fake_network::{Reach, Server, TestNetwork};
use crate::http::{Network, NetworkConnection};

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

/// Scripted servers in a network, which remember what they saw. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct ScriptedSites {
    network: TestNetwork,
    seen: SeenRequests,
}

#[derive(Clone, Debug, Default)]
struct SeenRequests(Arc<Mutex<Vec<Seen>>>);

impl ScriptedSites {
    /// The network, for the code that is tested.
    pub(super) fn network(&self) -> Arc<dyn Network> {
        Arc::new(self.network.clone())
    }

    pub(super) fn name(&self, name: &str, addresses: &[&str]) {
        self.network.name(name, addresses);
    }

    pub(super) fn serve(
        &self,
        address: &str,
        handler: impl Fn(&Seen) -> Script + Send + Sync + 'static,
    ) {
        self.put(address, None, Arc::new(handler));
    }

    pub(super) fn serve_tls(
        &self,
        address: &str,
        tls: TlsAcceptor,
        handler: impl Fn(&Seen) -> Script + Send + Sync + 'static,
    ) {
        self.put(address, Some(tls), Arc::new(handler));
    }

    fn put(&self, address: &str, tls: Option<TlsAcceptor>, handler: Handler) {
        let server = ScriptedServer { handler, tls, seen: self.seen.clone() };
        self.network.put_at(address.parse().unwrap(), server);
    }

    /// Connections to `address` are never accepted.
    pub(super) fn black_hole(&self, address: &str) {
        self.network.set_at(address.parse().unwrap(), Reach::Dark);
    }

    /// Connections to `address` are accepted again.
    pub(super) fn light(&self, address: &str) {
        self.network.set_at(address.parse().unwrap(), Reach::Up);
    }

    /// Look-ups of `name` are never answered.
    pub(super) fn silent_name(&self, name: &str) {
        self.network.silence(name);
    }

    /// Every address that was called, whether it answered or not.
    pub(super) fn dialled(&self) -> Vec<String> {
        self.network.connections().iter().map(ToString::to_string).collect()
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.0.lock().unwrap().clone()
    }

    /// How many requests a host got.
    pub(super) fn count(&self, host: &str) -> usize {
        self.seen().iter().filter(|seen| seen.host == host).count()
    }
}

struct ScriptedServer {
    handler: Handler,
    tls: Option<TlsAcceptor>,
    seen: SeenRequests,
}

impl Server for ScriptedServer {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let io = match &self.tls {
                None => io,
                Some(tls) => match tls.accept(io).await {
                    Ok(io) => Box::new(io),
                    Err(_) => return,
                },
            };
            // A client that has left is no fault of the server's.
            drop(converse(io, self).await);
        })
    }
}

async fn converse(mut stream: NetworkConnection, server: &ScriptedServer) -> io::Result<()> {
    while let Some(seen) = read_request(&mut stream).await? {
        server.seen.0.lock().unwrap().push(seen.clone());
        for step in (server.handler)(&seen) {
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

async fn read_request(stream: &mut NetworkConnection) -> io::Result<Option<Seen>> {
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
