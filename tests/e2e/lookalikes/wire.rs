//! HTTP/1.1 for the look-alikes: one thread for each connection, until the process ends.
//!
//! Nothing here knows a registry.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A request, its body read and dropped.
#[derive(Debug)]
pub(crate) struct VendorRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

/// An answer; its length follows from the body.
#[derive(Debug, Default)]
pub(crate) struct VendorReply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl VendorRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The value of a query argument, as it was sent but for `%3A` and `%2F`.
    pub(crate) fn argument(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value)?;
        Some(value.replace("%3A", ":").replace("%2F", "/"))
    }
}

impl VendorReply {
    pub(crate) fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let reply = Self { status, headers: Vec::new(), body: body.into() };
        reply.with("Content-Type", media_type)
    }

    /// An error as the specification has it.
    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{code}\"}}]}}\n");
        Self::new(status, "application/json", body)
    }

    /// A redirect, with the page that browsers are given.
    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        let page = "<a href=\"elsewhere\">moved</a>\n";
        Self::new(status, "text/html; charset=utf-8", page).with("Location", location)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Answers on a free port of the loopback; the port.
pub(crate) fn serve(
    answer: impl Fn(&VendorRequest, u16) -> VendorReply + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            // A client that leaves in the middle ends its own connection alone.
            std::thread::spawn(move || converse(&client, &|request| answer(request, port)).ok());
        }
    });
    port
}

fn converse(client: &TcpStream, answer: &dyn Fn(&VendorRequest) -> VendorReply) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    while let Some(request) = read(&mut reader)? {
        let reply = answer(&request);
        let mut text = format!("HTTP/1.1 {} Scripted\r\n", reply.status).into_bytes();
        for (name, value) in &reply.headers {
            write!(text, "{name}: {value}\r\n")?;
        }
        write!(text, "Content-Length: {}\r\n\r\n", reply.body.len())?;
        if request.method != "HEAD" {
            text.extend_from_slice(&reply.body);
        }
        let mut writer = client;
        writer.write_all(&text)?;
    }
    Ok(())
}

/// The headers of a request, names in lower case.
pub(crate) fn read_headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(headers) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// The next request; `None` when the client is gone.
fn read(reader: &mut impl BufRead) -> io::Result<Option<VendorRequest>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let headers = read_headers(reader)?;
    let request = VendorRequest { method, path, query, headers };
    let len = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    io::copy(&mut reader.take(len), &mut io::sink())?;
    Ok(Some(request))
}
