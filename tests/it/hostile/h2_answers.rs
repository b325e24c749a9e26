//! Answers over HTTP/2 that no upstream may give: row 255.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder::http::NetworkConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, fields, frame,
};
use crate::support::network::Server;
use crate::support::tls::TestCa;
use crate::support::{Image, ScriptedRegistry, Setup, settle};

const REPOSITORY: &str = "library/alpine";
const REAL: &str = "registry-1.docker.io";

/// Makes the frames of an answer to the request on a stream.
type Make = Arc<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

/// A server that answers each request so, and then says nothing more.
struct Hostile {
    acceptor: TlsAcceptor,
    make: Make,
    requests: Arc<AtomicUsize>,
}

impl Server for Hostile {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            drop(self.answer(io).await);
        })
    }
}

impl Hostile {
    async fn answer(&self, io: NetworkConnection) -> std::io::Result<()> {
        let mut io = self.acceptor.accept(io).await?;
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await?;
        let hello = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
        io.write_all(&hello).await?;
        io.flush().await?;
        loop {
            let mut head = [0; 9];
            io.read_exact(&mut head).await?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(len).unwrap()];
            io.read_exact(&mut payload).await?;
            if head[3] == HEADERS {
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                self.requests.fetch_add(1, Ordering::Relaxed);
                io.write_all(&(self.make)(stream)).await?;
                io.flush().await?;
            }
        }
    }
}

/// A good head, and these fields.
fn head(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = fields(&[(":status", "200")]);
    block.extend(fields(more));
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// Faulty answers in place of a manifest of these bytes.
fn table(body: &[u8]) -> Vec<(&'static str, Make)> {
    let mut table = messages(body);
    table.extend(connections(body));
    table
}

fn of_body(body: &[u8], make: fn(u32, &[u8]) -> Vec<u8>) -> Make {
    let body = body.to_vec();
    Arc::new(move |stream| make(stream, &body))
}

/// Messages that are none, on a connection that goes on.
fn messages(body: &[u8]) -> Vec<(&'static str, Make)> {
    let of_body = |make| of_body(body, make);
    vec![
        ("RST at once", Arc::new(|stream| frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes()))),
        (
            "RST behind the head",
            Arc::new(|stream| {
                [head(stream, &[]), frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())].concat()
            }),
        ),
        (
            "an end behind half of it",
            of_body(|stream, body| {
                let half = &body[..body.len() / 2];
                [head(stream, &[]), frame(DATA, END_STREAM, stream, half)].concat()
            }),
        ),
        (
            "fewer bytes than announced",
            of_body(|stream, body| {
                let head = head(stream, &[("content-length", &(body.len() + 5).to_string())]);
                [head, frame(DATA, END_STREAM, stream, body)].concat()
            }),
        ),
        (
            "more bytes than announced",
            of_body(|stream, body| {
                let head = head(stream, &[("content-length", &(body.len() - 5).to_string())]);
                [head, frame(DATA, END_STREAM, stream, body)].concat()
            }),
        ),
    ]
}

/// Faults that no connection survives, or needs to.
fn connections(body: &[u8]) -> Vec<(&'static str, Make)> {
    let of_body = |make| of_body(body, make);
    let goaway =
        |code: u32| frame(GOAWAY, 0, 0, &[0_u32.to_be_bytes(), code.to_be_bytes()].concat());
    vec![
        ("GOAWAY at once", Arc::new(move |_| goaway(0))),
        ("GOAWAY with an error", Arc::new(move |_| goaway(2))),
        (
            "empty DATA, many times",
            Arc::new(|stream| {
                [head(stream, &[]), frame(DATA, 0, stream, &[]).repeat(100_000)].concat()
            }),
        ),
        (
            "continuations, many times",
            Arc::new(|stream| {
                let start = frame(HEADERS, 0, stream, &fields(&[(":status", "200")]));
                let more = frame(CONTINUATION, 0, stream, &fields(&[("x", "y")]));
                [start, more.repeat(100_000)].concat()
            }),
        ),
        ("DATA before the head", of_body(|stream, body| frame(DATA, END_STREAM, stream, body))),
        ("DATA on no stream", of_body(|_, body| frame(DATA, 0, 0, body))),
        (
            "a stream that nobody opened",
            of_body(|stream, body| {
                [head(stream + 100, &[]), frame(DATA, END_STREAM, stream + 100, body)].concat()
            }),
        ),
        (
            "no status",
            of_body(|stream, body| {
                let block = fields(&[("content-type", "x")]);
                let head = frame(HEADERS, END_HEADERS, stream, &block);
                [head, frame(DATA, END_STREAM, stream, body)].concat()
            }),
        ),
        (
            "a field of another protocol",
            of_body(|stream, body| {
                let head = head(stream, &[("transfer-encoding", "chunked")]);
                [head, frame(DATA, END_STREAM, stream, body)].concat()
            }),
        ),
        ("a step of nothing", Arc::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0; 4]))),
        ("pings, many times", Arc::new(|_| frame(PING, 0, 0, &[7; 8]).repeat(100_000))),
        ("a frame of 16 MiB", Arc::new(|stream| frame(DATA, 0, stream, &vec![0; (1 << 24) - 1]))),
        ("no frame", Arc::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())),
        ("nothing", Arc::new(|_| Vec::new())),
    ]
}

/// Whatever comes, a client hears in time who is to blame, and nothing is kept.
#[tokio::test(start_paused = true)]
async fn broken_http2_answers_are_faults_of_the_upstream() {
    let image = Image::random(1, &[]);
    for (case, make) in table(&image.manifest.blob.bytes) {
        let (hub, ca) = (ScriptedRegistry::new(), TestCa::new());
        let mut setup = Setup::new();
        setup.tls_registry("docker.io", &hub, &ca);
        let mut config = ca.server_config(REAL);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let requests = Arc::new(AtomicUsize::new(0));
        setup.network.put(REAL, 443, Hostile { acceptor, make, requests: Arc::clone(&requests) });
        let proxy = setup.start().await;

        let reply = proxy.get(&image.manifest.path(REPOSITORY)).await;

        let status = reply.status.as_u16();
        assert!(matches!(status, 502 | 504), "{case}: {status} {}", reply.text());
        let (_, message) = reply.error(status);
        assert!(message.contains(REAL), "{case}: {message}");
        assert!((1..=12).contains(&requests.load(Ordering::Relaxed)), "{case}: {requests:?}");
        settle().await;
        assert_eq!(proxy.stored(), [""; 0], "{case}");
    }
}
