//! hyper over real sockets, as it is and as it must never be: the bytes of files arrive, or the
//! answer is cut, but what stands in their place never leaves.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::{
    BodyData, BodyError, BodySource, ConnectionLoad, NextBytes, OwnConnection, ReplyBody,
    serve_connection,
};

/// Without a zero, so that one that arrives is a placeholder's.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251 + 1).unwrap()).collect()
}

fn file_of(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

async fn pair() -> (TcpStream, ClientSocket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), ClientSocket::new(far.unwrap().0))
}

/// A body of these slices of a file, in this order.
struct Slices {
    outlet: SendfileQueue,
    file: Arc<File>,
    left: Vec<(u64, usize)>,
}

impl Slices {
    fn body(outlet: SendfileQueue, file: &Arc<File>, slices: &[(u64, usize)]) -> ReplyBody {
        let len = slices.iter().map(|(_, len)| *len as u64).sum();
        let left = slices.iter().rev().copied().collect();
        ReplyBody::of(Box::new(Self { outlet, file: Arc::clone(file), left }), Some(len))
    }
}

impl BodySource for Slices {
    fn next_now(&mut self) -> Option<NextBytes> {
        let next = self.left.pop();
        Some(Ok(next.map(|(at, len)| BodyData::File(self.outlet.send(&self.file, at, len, None)))))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn outlet_of(request: &Request<hyper::body::Incoming>) -> Option<SendfileQueue> {
    request.extensions().get::<Arc<OwnConnection>>()?.outlet.clone()
}

/// Serves slices of `file` on `socket` as the product does, until the connection ends.
fn serve(socket: ClientSocket, file: Arc<File>, slices: &'static [(u64, usize)]) {
    let outlet = Some(socket.outlet());
    let answer = move |request: Request<hyper::body::Incoming>| {
        let outlet = outlet_of(&request).unwrap();
        let body = Slices::body(outlet, &file, slices);
        async move { Response::new(body) }
    };
    tokio::spawn(serve_connection(Box::new(socket), outlet, answer, load()));
}

/// Nothing here takes this long, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(20);

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LAST_GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// The bytes until the end of the connection, without the heads.
async fn bodies(mut client: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end, too.
    let ended = timeout(PATIENCE, client.read_to_end(&mut all)).await;
    drop(ended.expect("the connection ends"));
    let mut bodies = Vec::new();
    let mut rest = &all[..];
    while rest.starts_with(b"HTTP/1.") {
        let head_len = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let is_next = |at: &usize| rest[*at..].starts_with(b"HTTP/1.");
        let next = (head_len..rest.len()).find(is_next).unwrap_or(rest.len());
        bodies.extend_from_slice(&rest[head_len..next]);
        rest = &rest[next..];
    }
    bodies
}

#[tokio::test]
async fn answers_on_one_connection_bring_the_bytes_of_their_files() {
    const SLICES: &[(u64, usize)] = &[(0, 1), (7, 100_000), (100_000, 1 << 20), (3, 5)];
    let bytes = content(2 << 20);
    let (mut client, socket) = pair().await;
    serve(socket, file_of(&bytes), SLICES);

    client.write_all(&[GET, GET, LAST_GET].concat()).await.unwrap();

    let one = SLICES.iter().flat_map(|(at, len)| {
        let at = usize::try_from(*at).unwrap();
        bytes[at..at + len].to_vec()
    });
    let one: Vec<u8> = one.collect();
    assert!(bodies(client).await == [&one[..], &one, &one].concat());
}

/// The socket takes part of a slice at a time.
#[tokio::test]
async fn a_slow_reader_gets_every_byte() {
    const SLICES: &[(u64, usize)] = &[(0, 1 << 20), (1 << 20, 1 << 20), (2 << 20, 1 << 20)];
    let bytes = content(3 << 20);
    let (mut client, socket) = pair().await;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket.stream, 8 << 10).unwrap();
    serve(socket, file_of(&bytes), SLICES);
    client.write_all(LAST_GET).await.unwrap();

    let mut got = Vec::new();
    let mut piece = [0; 10_007];
    while let len @ 1.. = client.read(&mut piece).await.unwrap() {
        got.extend_from_slice(&piece[..len]);
        tokio::task::yield_now().await;
    }
    assert!(got.ends_with(&bytes), "{} bytes", got.len());
}

#[tokio::test]
async fn a_file_that_is_shorter_than_was_said_cuts_the_answer() {
    const SLICES: &[(u64, usize)] = &[(0, 100_000), (100_000, 100_000)];
    let bytes = content(150_000);
    let (mut client, socket) = pair().await;
    serve(socket, file_of(&bytes), SLICES);

    client.write_all(LAST_GET).await.unwrap();

    assert!(bodies(client).await == bytes, "all there is, and then the end");
}

/// Files under `/proc` can be read and not sent.
#[tokio::test]
async fn a_file_that_cannot_be_sent_is_read() {
    let (mut client, socket) = pair().await;
    let path = "/proc/self/limits";
    let bytes = std::fs::read(path).unwrap();
    let file = Arc::new(File::open(path).unwrap());
    let sent = rustix::fs::sendfile(&socket.stream, &*file, Some(&mut 0), 1);
    assert_eq!(sent, Err(Errno::INVAL), "or this tests nothing");
    let answer = {
        let (outlet, len) = (socket.outlet(), bytes.len());
        move |_| {
            let body = Slices::body(outlet.clone(), &file, &[(0, len)]);
            async move { Response::new(body) }
        }
    };
    tokio::spawn(serve_connection(Box::new(socket), None, answer, load()));

    client.write_all(LAST_GET).await.unwrap();

    assert!(bodies(client).await == bytes);
}

/// A connection that cannot write several buffers at once makes hyper copy them into one.
struct OneBuffer(ClientSocket);

impl AsyncRead for OneBuffer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for OneBuffer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A copy of a placeholder cannot be known by its address. It never leaves all the same.
#[tokio::test]
async fn nothing_is_sent_when_hyper_copies_what_it_writes() {
    const SLICES: &[(u64, usize)] = &[(0, 10), (10, 50_000), (0, 90_000)];
    for pipeline_flush in [true, false] {
        let bytes = content(100_000);
        let (mut client, socket) = pair().await;
        let (outlet, file) = (socket.outlet(), file_of(&bytes));
        let service = service_fn(move |_| {
            let body = Slices::body(outlet.clone(), &file, SLICES);
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let mut builder = http1::Builder::new();
        builder.pipeline_flush(pipeline_flush);
        tokio::spawn(async move {
            if pipeline_flush {
                drop(builder.serve_connection(TokioIo::new(socket), service).await);
            } else {
                drop(builder.serve_connection(TokioIo::new(OneBuffer(socket)), service).await);
            }
        });

        client.write_all(LAST_GET).await.unwrap();

        let got = bodies(client).await;
        assert!(got.is_empty(), "{got:?} was sent; pipeline_flush {pipeline_flush}");
    }
}

/// HTTP/2 puts the bytes of several bodies between each other, and copies short ones.
#[tokio::test]
async fn nothing_is_sent_when_the_bodies_of_streams_are_mixed() {
    const SLICES: &[&[(u64, usize)]] = &[&[(0, 100)], &[(0, 100_000)]];
    let (client, socket) = pair().await;
    let (outlet, file) = (socket.outlet(), file_of(&content(100_000)));
    let turn = Mutex::new(0);
    let service = service_fn(move |_| {
        let mut turn = turn.lock().unwrap();
        let body = Slices::body(outlet.clone(), &file, SLICES[*turn % 2]);
        *turn += 1;
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let server = http2::Builder::new(TokioExecutor::new());
    tokio::spawn(async move { drop(server.serve_connection(TokioIo::new(socket), service).await) });
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client));
    let (sender, connection) = shaken.await.unwrap();
    tokio::spawn(async move { drop(connection.await) });

    let get = |mut sender: hyper::client::conn::http2::SendRequest<Empty<Bytes>>| async move {
        let request = Request::get("http://a/").body(Empty::new()).unwrap();
        let Ok(answer) = sender.send_request(request).await else { return true };
        let collected = answer.into_body().collect().await;
        collected.is_err()
    };
    let (one, other) = tokio::join!(get(sender.clone()), get(sender));
    assert!(one && other, "an answer was whole");
}

/// Only HTTP/1 is told of the outlet.
#[tokio::test]
async fn requests_over_http2_bear_no_outlet() {
    let (client, socket) = pair().await;
    let outlet = Some(socket.outlet());
    let answer = |request: Request<hyper::body::Incoming>| async move {
        let has_outlet = outlet_of(&request).is_some();
        let body = Bytes::from(has_outlet.to_string());
        Response::new(http_body_util::Full::new(BodyData::from(body)).map_err(BodyError::from))
    };
    tokio::spawn(serve_connection(Box::new(socket), outlet, answer, load()));
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client));
    let (mut sender, connection) = shaken.await.unwrap();
    tokio::spawn(async move { drop(connection.await) });

    let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "false");
}

/// A client far away, of a link as fast as can be, needs all the buffer that it can get.
#[test]
fn only_who_cannot_be_far_is_near() {
    const BUFFER: u64 = 4 << 20;
    let begin = Instant::now();
    // The bytes that the first buffer takes say nothing about the client.
    assert!(!SocketPace::default().is_near(BUFFER, || begin));
    for (round_trip_ms, is_near) in [(1, true), (10, true), (12, false), (100, false)] {
        let mut pace = SocketPace::default();
        let mut signs = (0..20).map(|turn| {
            pace.is_near(BUFFER, || begin + Duration::from_millis(turn * round_trip_ms))
        });
        assert_eq!(signs.any(|sign| sign), is_near, "{round_trip_ms} ms");
    }
}

#[tokio::test]
async fn a_near_client_gets_a_small_buffer_and_every_byte() {
    let (mut client, mut socket) = pair().await;
    let taking = tokio::spawn(async move {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all.len()
    });
    // As if all of that had gone in no time.
    socket.took(usize::try_from(PACE_BYTES).unwrap());
    assert!(socket.pace.is_none());
    let buffer = rustix::net::sockopt::socket_send_buffer_size(&socket.stream).unwrap();
    assert!((1..=2 * NEAR_BYTES).contains(&buffer), "{buffer}");

    socket.write_all(&content(3 << 20)).await.unwrap();
    drop(socket);
    assert_eq!(taking.await.unwrap(), 3 << 20);
}

/// The row `stalled-tls` of the benchmark measures its effect on a thousand clients that have
/// stopped.
#[tokio::test]
async fn the_kernel_is_told_how_little_may_wait() {
    let (_client, socket) = pair().await;
    let unsent = |socket: &ClientSocket| SockRef::from(&socket.stream).tcp_notsent_lowat().unwrap();
    let before = unsent(&socket);

    socket.queue_little();

    assert_ne!(before, UNSENT_BYTES);
    assert_eq!(unsent(&socket), UNSENT_BYTES);
}

fn load() -> Arc<ConnectionLoad> {
    Arc::new(ConnectionLoad::unlimited(CancellationToken::new()))
}
