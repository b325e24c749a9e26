//! Registries that refuse a body before they have it, over real sockets: they answer and close, and
//! the kernel resets a connection on which bytes are left unread.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::with_digest;
use crate::support::instance::{client_of, free_address};
use crate::support::{Blob, Instance};

/// More than the buffers of two connections hold.
const LARGE: usize = 8 << 20;

/// The behaviour of a registry that has answered a request whose body it does not want.
#[derive(Clone, Copy, Debug)]
enum After {
    /// Closes at once: bytes that are left unread reset the connection.
    Close,
    /// Closes its sending side and reads on, as nginx does.
    ReadOn,
    /// Resets the connection.
    Reset,
    /// Keeps the connection and reads nothing.
    Stay,
}

/// A registry that begins uploads, and refuses all that has a body after this many bytes of it.
async fn refusing(status: u16, read: usize, after: After) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(refuse(stream, status, read, after));
        }
    });
    address
}

async fn refuse(mut stream: TcpStream, status: u16, read: usize, after: After) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        if head.starts_with(b"POST ") {
            let begun = b"HTTP/1.1 202 x\r\nLocation: /up\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(begun).await.ok()?;
            continue;
        }
        stream.read_exact(&mut vec![0; read]).await.ok()?;
        let body = r#"{"errors":[{"code":"DENIED","message":"quota exceeded"}]}"#;
        let len = body.len();
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {len}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.ok()?;
        match after {
            After::Close => {}
            After::ReadOn => {
                stream.shutdown().await.ok()?;
                while stream.read(&mut [0; 4096]).await.ok()? > 0 {}
            }
            After::Reset => stream.set_zero_linger().ok()?,
            After::Stay => tokio::time::sleep(Duration::from_secs(60)).await,
        }
        return None;
    }
}

/// nginx, Harbor and cloud registries refuse by length, quota and right, in the middle of a body.
#[tokio::test]
async fn a_refusal_before_the_body_is_sent_reaches_the_client_however_the_registry_closes() {
    let blob = Blob::random(1, LARGE);
    for after in [After::Close, After::Reset, After::ReadOn, After::Stay] {
        for (status, read) in [(413, 0), (403, 100_000), (400, 0)] {
            let (upstream, address) = (refusing(status, read, after).await, free_address());
            let config = format!(
                "listen = '{address}'\n[access]\nanonymous = 'push'\n[registry.'docker.io']\n\
                 upstream = 'http://{upstream}'\npush = true\n"
            );
            let _larder = Instance::start(&[], &config).await;
            let client = client_of(address);
            for turn in 0..8 {
                let uploads = "/v2/o/a/blobs/uploads/";
                let begun = client.send(Method::POST, uploads, &[], Bytes::new()).await;
                let location = begun.header("location").unwrap();
                let (method, path) = match turn % 2 {
                    0 => (Method::PUT, with_digest(location, &blob)),
                    _ => (Method::PATCH, location.to_owned()),
                };

                let reply = client.send(method.clone(), &path, &[], blob.bytes.clone()).await;

                let (code, message) = reply.error(status);
                let case = format!("{after:?} {status} {read} {method} {turn}");
                assert_eq!((code.as_str(), message.contains("quota")), ("DENIED", true), "{case}");
            }
        }
    }
}
