//! What takes pushes as fast as it is told to? A registry that keeps nothing and checks nothing.
//!
//! It is a thread of this command, so its CPU time counts for no server.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::Instant;

use crate::client::{Buffer, head_end};
use crate::stats::float;

/// A running one.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    is_over: Arc<AtomicBool>,
}

impl Sink {
    /// Takes so many bytes a second of each body; without a limit, as many as come.
    pub(crate) fn start(bytes_per_s: Option<u64>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                spawn(move || {
                    if let Err(error) = serve(stream, bytes_per_s) {
                        eprintln!("the upstream for pushes: {error:#}");
                    }
                });
            }
        });
        Ok(Self { port, is_over })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // So that it looks.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// One connection, until its client has had enough.
fn serve(mut stream: TcpStream, bytes_per_s: Option<u64>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Buffer::new();
    let mut head = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = head_end(&head) {
                break end;
            }
            let len = stream.read(buffer.room())?;
            if len == 0 {
                return Ok(());
            }
            head.extend_from_slice(&buffer.room()[..len]);
        };
        let rest = head.split_off(end);
        let (method, length) = request(&head)?;
        let come = rest.len() as u64;
        ensure!(come <= length, "two requests at once");
        take(&mut stream, &mut buffer, length - come, bytes_per_s)?;
        stream.write_all(answer(&method, length)?.as_bytes())?;
        head.clear();
    }
}

fn take(
    stream: &mut TcpStream,
    buffer: &mut Buffer,
    bytes: u64,
    bytes_per_s: Option<u64>,
) -> Result<()> {
    let since = Instant::now();
    let mut taken = 0;
    while taken < bytes {
        if let Some(rate) = bytes_per_s {
            let due = Duration::from_secs_f64(float(taken) / float(rate));
            sleep(due.saturating_sub(since.elapsed()));
        }
        let len = stream.read(buffer.room())?;
        ensure!(len > 0, "a body broke off after {taken} bytes");
        taken += len as u64;
    }
    Ok(())
}

fn request(head: &[u8]) -> Result<(String, u64)> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.lines();
    let method = lines.next().and_then(|line| line.split(' ').next()).context("no method")?;
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "transfer-encoding" => bail!("a body without a length"),
            _ => {}
        }
    }
    Ok((method.to_owned(), length))
}

fn answer(method: &str, length: u64) -> Result<String> {
    let (status, location) = match method {
        "POST" | "PATCH" => ("202 Accepted", "/v2/bench/pushed/blobs/uploads/1?state=1"),
        "PUT" => ("201 Created", "/v2/bench/pushed/blobs/it"),
        "GET" | "HEAD" => return Ok("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()),
        _ => bail!("{method} is no part of a push"),
    };
    let last = length.saturating_sub(1);
    Ok(format!(
        "HTTP/1.1 {status}\r\nLocation: {location}\r\nRange: 0-{last}\r\nContent-Length: 0\r\n\r\n"
    ))
}
