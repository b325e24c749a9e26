//! A client that writes and reads bytes itself: it can be slow, die at a byte, speak HTTP/1.0, or
//! send what no library would.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use larder::http::NetworkConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::reply::Reply;

/// One connection. Dropping it is the client's death.
pub struct RawClient {
    io: NetworkConnection,
    /// Read but not asked for yet.
    buffer: Vec<u8>,
}

/// An answer whose head came, and whose body is read as the test likes.
pub struct Download {
    pub status: StatusCode,
    pub headers: HeaderMap,
    client: RawClient,
    body: Vec<u8>,
    length: Option<usize>,
}

impl RawClient {
    pub fn new(io: NetworkConnection) -> Self {
        Self { io, buffer: Vec::new() }
    }

    /// Sends these bytes; a peer that has hung up is no error, as its answer can still be read.
    pub async fn send(&mut self, bytes: &[u8]) {
        drop(self.io.write_all(bytes).await);
        drop(self.io.flush().await);
    }

    /// Everything until the peer closes or says nothing for a second of the paused clock; and
    /// whether it closed.
    pub async fn read_all(mut self) -> (Vec<u8>, bool) {
        let is_closed = self.read_on().await;
        (self.buffer, is_closed)
    }

    /// The same on a connection that stays: everything that came so far.
    pub async fn heard(&mut self) -> &[u8] {
        self.read_on().await;
        &self.buffer
    }

    async fn read_on(&mut self) -> bool {
        loop {
            let read = self.io.read_buf(&mut self.buffer);
            match tokio::time::timeout(Duration::from_secs(1), read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Sends a GET and reads the head of its answer, and no byte more than necessary.
    pub async fn get(
        mut self,
        version: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Download, String> {
        self.send(&request("GET", version, path, headers)).await;
        self.download().await
    }

    /// Reads the head of an answer.
    pub async fn download(mut self) -> Result<Download, String> {
        let head_len = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let count = self.io.read_buf(&mut self.buffer).await.map_err(|e| e.to_string())?;
            if count == 0 {
                return Err(format!("closed after {} bytes of a head", self.buffer.len()));
            }
        };
        let head: Vec<u8> = self.buffer.drain(..head_len).collect();
        let (status, headers) = parse_head(&head)?;
        let length = headers.get("content-length").map(|value| value.to_str().unwrap());
        let length = length.map(|text| text.parse().expect("Content-Length is a number"));
        Ok(Download { status, headers, client: self, body: Vec::new(), length })
    }
}

impl Download {
    /// How many bytes of the body were read so far.
    pub fn received(&self) -> usize {
        self.body.len()
    }

    /// The bytes read so far.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The connection, for the answer after this one, which was read to its end.
    pub fn into_client(self) -> RawClient {
        self.client
    }

    /// Reads on until `len` bytes of the body are here, in steps no larger than `step`.
    pub async fn read_until(&mut self, len: usize, step: usize) -> Result<(), String> {
        let mut piece = vec![0; step];
        while self.body.len() < len {
            let want = step.min(len - self.body.len());
            let count = if self.client.buffer.is_empty() {
                self.client.io.read(&mut piece[..want]).await.map_err(|e| e.to_string())?
            } else {
                let count = want.min(self.client.buffer.len());
                piece[..count].copy_from_slice(&self.client.buffer[..count]);
                self.client.buffer.drain(..count);
                count
            };
            if count == 0 {
                return Err(format!("closed after {} bytes", self.body.len()));
            }
            self.body.extend_from_slice(&piece[..count]);
        }
        Ok(())
    }

    /// Reads all the rest. Without a length the body ends with the connection, as in HTTP/1.0.
    pub async fn finish(mut self) -> Reply {
        assert!(!self.headers.contains_key("transfer-encoding"), "chunks are not read here");
        let outcome = self.read_until(self.length.unwrap_or(usize::MAX), 64 << 10).await;
        let broken = outcome.err().filter(|_| self.length.is_some());
        let body = Bytes::from(self.body);
        Reply { status: self.status, headers: self.headers, body, broken }
    }
}

/// A request without a body.
pub fn request(method: &str, version: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let first = format!("{method} {path} HTTP/{version}\r\nHost: larder.test\r\n");
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    [first].into_iter().chain(lines).chain(["\r\n".to_owned()]).collect::<String>().into_bytes()
}

/// The status and headers of `head`, which ends with an empty line.
fn parse_head(head: &[u8]) -> Result<(StatusCode, HeaderMap), String> {
    let text = std::str::from_utf8(head).map_err(|_| "a head that is no text")?;
    let mut lines = text.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = status.and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("no status line: {first:?}"))?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("no header: {line:?}"))?;
        let name: HeaderName = name.parse().map_err(|_| format!("no header: {line:?}"))?;
        let value = HeaderValue::from_str(value.trim()).map_err(|e| e.to_string())?;
        headers.append(name, value);
    }
    Ok((status, headers))
}

/// The statuses of the answers in what a peer sent. They are looked for everywhere: what comes
/// before a status line may be a body that ends without a line break.
pub fn answers_in(bytes: &[u8]) -> Vec<u16> {
    let starts = bytes.windows(12).filter(|window| window.starts_with(b"HTTP/1."));
    let statuses = starts.filter_map(|start| std::str::from_utf8(start.get(9..)?).ok());
    statuses.filter_map(|status| status.parse().ok()).collect()
}
