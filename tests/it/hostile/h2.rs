//! HTTP/2 by hand: rows 173 to 182.
//!
//! A client that opens, resets, pings and continues without end costs a bounded amount, and then
//! its connection. Others do not notice.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use crate::support::frames::*;
use crate::support::{Blob, Proxy, ScriptedRegistry, Version, settle};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 1 << 20;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One connection. A task of its own reads the frames that come, so that neither side waits.
struct H2 {
    write: tokio::io::WriteHalf<larder::http::NetworkConnection>,
    reading: tokio::task::JoinHandle<Vec<Frame>>,
}

#[derive(Clone, Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// How a connection ended: every frame that came, and how many of ours were taken.
struct End {
    frames: Vec<Frame>,
    taken: usize,
}

/// A GET of a path, whole.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let block = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "larder.test"),
        (":path", path),
    ]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

impl H2 {
    /// A connection with these settings, after both prefaces.
    async fn open(proxy: &Proxy, settings: &[u8]) -> Self {
        let (mut read, write) = tokio::io::split(proxy.client.dial());
        let reading = tokio::spawn(async move {
            let mut frames = Vec::new();
            let mut head = [0; 9];
            while read.read_exact(&mut head).await.is_ok() {
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; usize::try_from(len).unwrap()];
                if read.read_exact(&mut payload).await.is_err() {
                    break;
                }
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                frames.push(Frame { kind: head[3], stream, payload });
            }
            frames
        });
        let mut this = Self { write, reading };
        this.send(PREFACE).await.unwrap();
        this.send(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
        this.send(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        this
    }

    /// Fails when the peer has gone, or takes nothing for a second.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = timeout(Duration::from_secs(1), async {
            self.write.write_all(bytes).await?;
            self.write.flush().await
        });
        match sent.await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("nothing is taken".to_owned()),
        }
    }

    /// Sends what `make` makes of each number, until the peer has enough of it.
    async fn flood(mut self, count: u32, make: impl Fn(u32) -> Vec<u8>) -> End {
        let mut taken = 0;
        for number in 0..count {
            if self.send(&make(number)).await.is_err() {
                break;
            }
            taken += 1;
        }
        let frames = self.close().await;
        End { frames, taken }
    }

    /// Everything that came until the peer closed, or had nothing more to say.
    async fn close(mut self) -> Vec<Frame> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(self.write.shutdown().await);
        drop(self.write);
        let came = timeout(Duration::from_secs(60), self.reading).await;
        came.expect("the peer closes too").unwrap()
    }
}

impl End {
    /// The error code of the GOAWAY that was not a mere farewell (RFC 9113, 7).
    fn goaway(&self) -> Option<u32> {
        let mut codes = self.frames.iter().filter(|frame| frame.kind == GOAWAY).map(|frame| {
            let code: [u8; 4] = frame.payload[4..8].try_into().unwrap();
            u32::from_be_bytes(code)
        });
        codes.rfind(|code| *code != 0)
    }

    fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.kind == kind).count()
    }
}

/// Whether a header block begins with `:status: 200` (RFC 7541, appendix A).
fn is_200(frame: &Frame) -> bool {
    frame.kind == HEADERS && frame.payload.first() == Some(&0x88)
}

async fn warm() -> (ScriptedRegistry, Blob, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    hub.forget();
    (hub, blob, proxy)
}

/// Others are served as if nothing were.
async fn assert_unharmed(proxy: &Proxy, blob: &Blob) {
    let reply = proxy.client.try_get(Version::H2, &blob.path(REPOSITORY)).await.unwrap();
    reply.assert_is(blob);
}

const ENHANCE_YOUR_CALM: u32 = 0xb;

/// The scaffold itself: an honest request is answered.
#[tokio::test(start_paused = true)]
async fn a_request_by_hand_is_answered() {
    let (_hub, _blob, proxy) = warm().await;
    let end = H2::open(&proxy, &[]).await.flood(3, |n| get(2 * n + 1, "/v2/")).await;
    assert_eq!(end.frames.iter().filter(|frame| is_200(frame)).count(), 3, "{:?}", end.frames);
    assert_eq!(end.goaway(), None);
}

/// Row 174: what no request may have (RFC 9113, 8.1 to 8.3) is refused, stream by stream.
#[tokio::test(start_paused = true)]
async fn a_malformed_request_is_reset_and_the_next_is_not() {
    const METHOD: (&str, &str) = (":method", "GET");
    const SCHEME: (&str, &str) = (":scheme", "http");
    const HOST: (&str, &str) = (":authority", "larder.test");
    const PATH: (&str, &str) = (":path", "/v2/");
    let (hub, blob, proxy) = warm().await;
    let table: [(&str, &[(&str, &str)]); 11] = [
        ("upper case", &[METHOD, SCHEME, HOST, PATH, ("X-Upper", "y")]),
        ("connection", &[METHOD, SCHEME, HOST, PATH, ("connection", "close")]),
        ("transfer-encoding", &[METHOD, SCHEME, HOST, PATH, ("transfer-encoding", "chunked")]),
        ("no slash", &[METHOD, SCHEME, HOST, (":path", "v2/")]),
        ("CR in the path", &[METHOD, SCHEME, HOST, (":path", "/v2/\rx")]),
        ("LF in a value", &[METHOD, SCHEME, HOST, PATH, ("x", "a\nb: c")]),
        ("two authorities", &[METHOD, SCHEME, HOST, (":authority", "b"), PATH]),
        ("two paths", &[METHOD, SCHEME, HOST, PATH, PATH]),
        ("no path", &[METHOD, SCHEME, HOST]),
        ("pseudo-header behind others", &[METHOD, SCHEME, HOST, ("x", "y"), PATH]),
        ("unknown pseudo-header", &[METHOD, SCHEME, HOST, PATH, (":x", "y")]),
    ];
    for (case, block) in table {
        let malformed = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(block));
        let mut h2 = H2::open(&proxy, &[]).await;
        drop(h2.send(&malformed).await);
        drop(h2.send(&get(3, "/v2/")).await);
        let frames = h2.close().await;

        let served = |stream| frames.iter().any(|frame| frame.stream == stream && is_200(frame));
        assert!(!served(1), "{case}: {frames:?}");
        let is_over = frames.iter().any(|frame| frame.kind == GOAWAY);
        assert!(served(3) || is_over, "{case}: {frames:?}");
    }
    // DATA of another length than announced (RFC 9113, 8.1.1). No body is looked at here, so the
    // answer may have left before; it is one answer, and the next request is unharmed.
    let mut block = fields(&[METHOD, SCHEME, HOST, PATH, ("content-length", "5")]);
    let mut h2 = H2::open(&proxy, &[]).await;
    h2.send(&frame(HEADERS, END_HEADERS, 1, &block)).await.unwrap();
    drop(h2.send(&frame(DATA, END_STREAM, 1, b"more than five")).await);
    drop(h2.send(&get(3, "/v2/")).await);
    let frames = h2.close().await;
    assert!(frames.iter().filter(|it| it.stream == 1 && is_200(it)).count() <= 1, "{frames:?}");
    // `:scheme` has no meaning here; it leads nowhere.
    block = fields(&[METHOD, (":scheme", "file"), HOST, (":path", "/etc/passwd")]);
    let mut h2 = H2::open(&proxy, &[]).await;
    h2.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await.unwrap();
    assert!(!h2.close().await.iter().any(is_200));
    hub.assert_not_asked();
    assert_unharmed(&proxy, &blob).await;
}

/// Row 175, CVE-2023-44487: opening and resetting costs the client nothing, so it must not cost us
/// more.
#[tokio::test(start_paused = true)]
async fn rapid_resets_end_the_connection() {
    let (hub, blob, proxy) = warm().await;
    let path = blob.path(REPOSITORY);
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let burst = |n: u32| {
        let streams = (0..100).map(|i| 2 * (100 * n + i) + 1);
        streams.flat_map(|stream| [get(stream, "/v2/"), reset(stream)].concat()).collect()
    };
    let end = H2::open(&proxy, &[]).await.flood(1000, burst).await;
    assert_eq!(end.goaway(), Some(ENHANCE_YOUR_CALM), "{} bursts taken", end.taken);
    assert!(end.taken < 100, "{} bursts of a hundred were taken", end.taken);
    hub.assert_not_asked();
    drop(path);
    assert_unharmed(&proxy, &blob).await;
}

/// Row 176, CVE-2025-8671: the same, with us made to send the reset.
#[tokio::test(start_paused = true)]
async fn resets_that_we_are_made_to_send_end_the_connection() {
    let (_hub, blob, proxy) = warm().await;
    let path = blob.path(REPOSITORY);
    // No step at all, one too large, a stream that depends on itself: the first is an error of the
    // connection already, the others are the stream's.
    let illegal: [fn(u32) -> Vec<u8>; 3] = [
        |stream| frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()),
        |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()),
        |stream| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat()),
    ];
    for (case, make) in illegal.into_iter().enumerate() {
        let mut h2 = H2::open(&proxy, &[]).await;
        let mut taken = 0_u32;
        while taken < 10_000 {
            let stream = 2 * taken + 1;
            if h2.send(&get(stream, &path)).await.is_err() {
                break;
            }
            // Until it is being answered: what is reset before counts as a rapid reset.
            settle().await;
            if h2.send(&make(stream)).await.is_err() {
                break;
            }
            taken += 1;
        }
        let end = End { frames: h2.close().await, taken: taken as usize };
        assert!(end.goaway().is_some(), "{case}");
        assert!(end.taken < 200, "{case}: {} were taken", end.taken);
        assert_unharmed(&proxy, &blob).await;
    }
}

/// Row 177: headers that go on for ever are not collected for ever.
#[tokio::test(start_paused = true)]
async fn continuations_without_end_end_the_connection() {
    let (_hub, blob, proxy) = warm().await;
    let blocks = [Vec::new(), field("x", "y"), field("x-long", &"y".repeat(100)).repeat(100)];
    for block in blocks {
        let make = |n: u32| match n {
            0 => frame(HEADERS, END_STREAM, 1, &field(":method", "GET")),
            _ => frame(CONTINUATION, 0, 1, &block),
        };
        let end = H2::open(&proxy, &[]).await.flood(100_000, make).await;
        assert!(end.goaway().is_some(), "{} bytes each", block.len());
        assert!(end.taken < 30_000, "{} of {} bytes each were taken", end.taken, block.len());
        assert_unharmed(&proxy, &blob).await;
    }
}

/// Row 178, RUSTSEC-2026-0258: frames of nothing are work all the same.
#[tokio::test(start_paused = true)]
async fn empty_data_without_end_ends_the_stream_or_the_connection() {
    let (_hub, blob, proxy) = warm().await;
    let block =
        fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/v2/")]);
    let make = |n: u32| match n {
        0 => frame(HEADERS, END_HEADERS, 1, &block),
        _ => frame(DATA, 0, 1, &[]).repeat(100),
    };
    let end = H2::open(&proxy, &[]).await.flood(10_000, make).await;
    let is_over = end.goaway().is_some() || end.count(RST_STREAM) > 0;
    assert!(is_over, "{} taken, {:?}", end.taken, end.frames);
    assert_unharmed(&proxy, &blob).await;
}

/// Row 179: every PING and SETTINGS wants an answer. A client that does not read them gets no more.
#[tokio::test(start_paused = true)]
async fn answers_to_pings_and_settings_do_not_pile_up() {
    let (_hub, blob, proxy) = warm().await;
    for make in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let (read, mut write) = tokio::io::split(proxy.client.dial());
        write.write_all(PREFACE).await.unwrap();
        write.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let mut taken = 0_usize;
        while taken < 16 << 20 {
            let bytes = make.repeat(1000);
            if !matches!(timeout(Duration::from_secs(1), write.write_all(&bytes)).await, Ok(Ok(())))
            {
                break;
            }
            taken += bytes.len();
        }
        assert!(taken < 4 << 20, "{taken} bytes were taken of who reads nothing");
        drop((read, write));
        assert_unharmed(&proxy, &blob).await;
    }
}

/// Row 180: a few bytes that stand for megabytes (CVE-2016-6581).
#[tokio::test(start_paused = true)]
async fn a_bomb_of_compressed_headers_is_not_unpacked() {
    let (_hub, blob, proxy) = warm().await;
    // One field into the table (RFC 7541, 6.2.1), then again and again by its index: 0x80 and 62.
    let long = "y".repeat(3900);
    let mut entry = vec![0x40, 1, b'x', 0x7f];
    let mut left = long.len() - 127;
    while left >= 128 {
        entry.push(0x80 | u8::try_from(left % 128).unwrap());
        left /= 128;
    }
    entry.push(u8::try_from(left).unwrap());
    entry.extend_from_slice(long.as_bytes());
    let request =
        fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/v2/")]);
    let block = [request, entry, vec![0xbe; 4000]].concat();

    let mut h2 = H2::open(&proxy, &[]).await;
    drop(h2.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await);
    let frames = h2.close().await;

    assert!(!frames.iter().any(is_200), "{frames:?}");
    assert_unharmed(&proxy, &blob).await;
}

/// Row 181: a hundred streams that may not be sent a byte hold a frame each, and delay no other
/// client. When their connection is silent it is cut as any other (`src/http/idle.rs`).
#[tokio::test(start_paused = true)]
async fn streams_with_a_window_of_zero_do_not_delay_other_clients() {
    let (_hub, blob, proxy) = warm().await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0 (RFC 9113, 6.5.2).
    let mut h2 = H2::open(&proxy, &[0, 4, 0, 0, 0, 0]).await;
    for n in 0..100 {
        h2.send(&get(2 * n + 1, &blob.path(REPOSITORY))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_unharmed(&proxy, &blob).await;
    let frames = h2.close().await;
    assert_eq!(frames.iter().filter(|frame| is_200(frame)).count(), 100);
    assert_eq!(frames.iter().filter(|frame| frame.kind == DATA).count(), 0);
}

/// Row 182: what a client that dies in the middle had is given back, however often.
#[tokio::test(start_paused = true)]
async fn clients_that_die_in_the_middle_leave_nothing_behind() {
    let (hub, blob, proxy) = warm().await;
    let path = blob.path(REPOSITORY);
    for n in 0..1000 {
        let (mut read, mut write) = tokio::io::split(proxy.client.dial());
        let last = match n % 3 {
            0 => frame(GOAWAY, 0, 0, &[0; 8]),
            1 => frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()),
            _ => Vec::new(),
        };
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(1, &path)].concat();
        write.write_all(&hello).await.unwrap();
        let mut some = [0; 1000];
        read.read_exact(&mut some).await.unwrap();
        drop(write.write_all(&last).await);
    }
    assert_unharmed(&proxy, &blob).await;
    hub.assert_not_asked();
}
