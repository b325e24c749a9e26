//! A scripted HTTP proxy, such as companies put between their machines and the world.
//!
//! It has a network of its own behind it, so what Larder cannot resolve or reach itself is reached
//! through here or not at all. Everything that it can read is recorded.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use larder::http::{Network, NetworkConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, copy, split};

use super::network::{Server, TestNetwork, listen};

/// The proxy. Clones are the same one.
#[derive(Clone, Default)]
pub struct EgressProxy {
    /// The network behind it.
    pub behind: TestNetwork,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    heads: Vec<String>,
    tunnelled: Vec<u8>,
    /// It answers this to everything.
    refusal: Option<&'static str>,
}

impl EgressProxy {
    /// The heads of the requests to the proxy itself, in order.
    pub fn heads(&self) -> Vec<String> {
        self.shared.lock().unwrap().heads.clone()
    }

    /// The first line of each of them.
    pub fn asked(&self) -> Vec<String> {
        self.heads().iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
    }

    /// Every byte that was sent through tunnels, both ways.
    pub fn tunnelled(&self) -> Vec<u8> {
        self.shared.lock().unwrap().tunnelled.clone()
    }

    /// Answers everything with this status line from now on.
    pub fn refuses(&self, status: &'static str) {
        self.shared.lock().unwrap().refusal = Some(status);
    }

    /// Listens on a free loopback port until the runtime ends.
    pub async fn listen(&self) -> SocketAddr {
        listen(self.clone()).await
    }

    async fn converse(&self, io: NetworkConnection) -> Option<()> {
        let (mut near_in, mut near_out) = split(io);
        let head = read_head(&mut near_in).await?;
        let refusal = {
            let mut shared = self.shared.lock().unwrap();
            shared.heads.push(head.clone());
            shared.refusal
        };
        if let Some(status) = refusal {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            return near_out.write_all(answer.as_bytes()).await.ok();
        }
        let target = head.split(' ').nth(1)?.to_owned();
        let is_tunnel = head.starts_with("CONNECT ");
        let authority = target.trim_start_matches("http://").split('/').next()?.to_owned();
        let (far_in, mut far_out) = split(self.dial(&authority).await?);
        if is_tunnel {
            near_out.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
            tokio::join!(self.tunnel(near_in, far_out), self.tunnel(far_in, near_out));
            return Some(());
        }
        let mut far_in = far_in;
        let forth = async {
            let mut head = Some(head);
            while let Some(this) = head {
                far_out.write_all(forwarded(&this).as_bytes()).await.ok()?;
                head = read_head(&mut near_in).await;
                self.shared.lock().unwrap().heads.extend(head.clone());
            }
            far_out.shutdown().await.ok()
        };
        drop(tokio::join!(forth, copy(&mut far_in, &mut near_out)));
        Some(())
    }

    async fn dial(&self, authority: &str) -> Option<NetworkConnection> {
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
        let addresses = self.behind.resolve(host, port.parse().ok()?).await.ok()?;
        self.behind.connect(*addresses.first()?).await.ok()
    }

    async fn tunnel(
        &self,
        mut from: ReadHalf<NetworkConnection>,
        mut to: WriteHalf<NetworkConnection>,
    ) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.shared.lock().unwrap().tunnelled.extend(&buffer[..count]);
            if to.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        drop(to.shutdown().await);
    }
}

impl Server for EgressProxy {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.converse(io).await;
        })
    }
}

async fn read_head(io: &mut ReadHalf<NetworkConnection>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// A request as a proxy passes it on: without the scheme and host in its first line, and without
/// what was for the proxy (RFC 9110, 11.7.1).
fn forwarded(head: &str) -> String {
    let (first, rest) = head.split_once("\r\n").unwrap();
    let mut first = first.split(' ');
    let (method, target) = (first.next().unwrap(), first.next().unwrap());
    let path = target.trim_start_matches("http://").split_once('/').map_or("", |(_, path)| path);
    let kept = rest.split_inclusive("\r\n");
    let kept = kept.filter(|line| !line.to_ascii_lowercase().starts_with("proxy-authorization"));
    format!("{method} /{path} HTTP/1.1\r\n{}", kept.collect::<String>())
}
