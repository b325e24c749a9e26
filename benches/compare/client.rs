//! How long does one download take? A client that reads and discards, at little cost of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio::time::Instant;

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Stream,
    buffer: Buffer,
}

/// Bytes both ways.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(room),
            Self::Tls(stream) => stream.read(room),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes),
        }
    }
}

/// A response whose body is being read.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) length: u64,
    /// Not read yet.
    pub(crate) left: u64,
    /// The bytes of the body that came with the head.
    pub(crate) begin: Vec<u8>,
}

/// The receive buffer of a client that has stopped reading; the kernel doubles it.
const STOPPED_RECEIVE_BYTES: usize = 128 << 10;

/// How a download went, counted from before the connection was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) first_byte: Duration,
    pub(crate) last_byte: Duration,
    pub(crate) bytes: u64,
}

/// Memory that begins at a page. Copying a page to 16 bytes behind a page's begin, where an
/// allocator puts large blocks, takes twice as long on some CPUs: the client would be what is
/// measured.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    begin: usize,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        Ok(Self { stream: Stream::Plain(dial(port)?), buffer: Buffer::new() })
    }

    /// The same over TLS, or not.
    pub(crate) fn connect_by(port: u16, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let Some(config) = tls else { return Self::connect(port) };
        let session =
            ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
        let stream = StreamOwned::new(session, dial(port)?);
        Ok(Self { stream: Stream::Tls(Box::new(stream)), buffer: Buffer::new() })
    }

    /// Sends a request, reads at least `bytes` of the answer, and stops. The connection is kept
    /// without the buffer, of which a thousand would be a gigabyte. So would what the kernel keeps
    /// for each: it lets a receiver's share grow to 32 MiB, and has 2 GiB for all connections.
    pub(crate) fn stop_after(mut self, request: &str, bytes: u64) -> Result<Stream> {
        let socket = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        };
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, STOPPED_RECEIVE_BYTES)?;
        self.stream.write_all(request.as_bytes())?;
        let mut read = 0;
        while read < bytes {
            let len = self.stream.read(self.buffer.room())?;
            ensure!(len > 0, "the connection was closed after {read} bytes");
            read += len as u64;
        }
        Ok(self.stream)
    }

    /// Sends a request and reads the head of a 200.
    pub(crate) fn get(&mut self, path: &str) -> Result<Body> {
        self.stream.write_all(request(path).as_bytes())?;
        let mut head = Vec::new();
        let end = loop {
            if let Some(end) = head_end(&head) {
                break end;
            }
            let len = self.stream.read(self.buffer.room())?;
            ensure!(len > 0, "the connection was closed before a response");
            head.extend_from_slice(&self.buffer.room()[..len]);
        };
        let begin = head.split_off(end);
        let length = length_of_ok(&head)?;
        Ok(Body { length, left: length - begin.len() as u64, begin })
    }

    /// Asks whether there is something, and reads the 200.
    pub(crate) fn head(&mut self, path: &str) -> Result<()> {
        let request = request(path).replacen("GET", "HEAD", 1);
        self.stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        while head_end(&head).is_none() {
            let len = self.stream.read(self.buffer.room())?;
            ensure!(len > 0, "the connection was closed before a response");
            head.extend_from_slice(&self.buffer.room()[..len]);
        }
        length_of_ok(&head).map(drop)
    }

    /// Reads once.
    pub(crate) fn read(&mut self, body: &mut Body) -> Result<usize> {
        let room = self.buffer.room();
        let max = usize::try_from(body.left).unwrap_or(room.len()).min(room.len());
        let len = self.stream.read(&mut room[..max])?;
        ensure!(len > 0, "the connection was closed with {} bytes missing", body.left);
        body.left -= len as u64;
        Ok(len)
    }

    /// Reads what is left, but `rest` bytes or somewhat less.
    pub(crate) fn discard(&mut self, body: &mut Body, rest: u64) -> Result<()> {
        while body.left > rest {
            self.read(body)?;
        }
        Ok(())
    }

    /// A whole body.
    pub(crate) fn bytes(&mut self, path: &str) -> Result<Vec<u8>> {
        let mut body = self.get(path)?;
        let mut bytes = std::mem::take(&mut body.begin);
        while body.left > 0 {
            let len = self.read(&mut body)?;
            bytes.extend_from_slice(&self.buffer.room()[..len]);
        }
        Ok(bytes)
    }
}

fn dial(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_MAX))?;
    Ok(stream)
}

/// Downloads `path` over a new connection.
pub(crate) fn download(port: u16, path: &str) -> Result<Transfer> {
    let since = Instant::now();
    let mut client = Client::connect(port)?;
    let mut body = client.get(path)?;
    if body.begin.is_empty() {
        client.read(&mut body)?;
    }
    let first_byte = since.elapsed();
    client.discard(&mut body, 0)?;
    Ok(Transfer { first_byte, last_byte: since.elapsed(), bytes: body.length })
}

/// The `Accept` of container clients. distribution hides images whose type is not named.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, */*";

pub(crate) fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {ACCEPT}\r\n\r\n")
}

/// The offset of the body, if the head is whole.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The `Content-Length` of a 200; anything else is not what is to be measured.
pub(crate) fn length_of_ok(head: &[u8]) -> Result<u64> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        bail!("the answer was {status:?}");
    }
    let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
    let values = lines.filter_map(|line| line.split_once(':'));
    let length =
        values.into_iter().find(|(name, _)| is_length(name)).map(|(_, value)| value.trim());
    Ok(length.context("the answer has no length")?.parse()?)
}

impl Buffer {
    pub(crate) fn new() -> Self {
        let memory = vec![0; BUFFER_BYTES + PAGE_BYTES];
        let begin = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        Self { memory, begin }
    }

    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + BUFFER_BYTES]
    }
}

const BUFFER_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

/// No server pauses that long: it hangs.
const READ_MAX: Duration = Duration::from_secs(60);
