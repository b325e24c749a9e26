//! Lengths that two readers could read differently: rows 155 to 171.
//!
//! `framing.rs` has the classic cases one by one; here are the generated ones. A second request
//! hides behind each. It must never be answered, unless its reader could not doubt that it is one.

use crate::support::client::answers_in;
use crate::support::{Blob, Proxy, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";

/// Asks for content that does not exist: a 404 of the upstream's is its trace.
const SMUGGLED: &str = "GET /v2/library/smuggled/manifests/x HTTP/1.1\r\nHost: a\r\n\r\n";

async fn warm() -> (ScriptedRegistry, String, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    hub.forget();
    (hub, blob.path(REPOSITORY), proxy)
}

async fn exchange(proxy: &Proxy, bytes: &[u8]) -> (Vec<u16>, bool) {
    let mut client = proxy.client.raw();
    client.send(bytes).await;
    let (answer, is_closed) = client.read_all().await;
    (answers_in(&answer), is_closed)
}

/// Row 161: `Transfer-Encoding: chunked` with a byte where none belongs.
fn spellings() -> Vec<(String, Vec<u8>)> {
    const BYTES: [u8; 13] =
        [0x01, 0x04, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x1f, 0x20, 0x7f, 0xa0, 0xff];
    let (name, value) = (b"Transfer-Encoding", b"chunked");
    let mut spellings = Vec::new();
    for byte in BYTES {
        let one = [byte];
        let (n, v, b): (&[u8], &[u8], &[u8]) = (name, value, &one);
        let forms: [(&str, Vec<&[u8]>); 10] = [
            ("midspace", vec![n, b":", b, v]),
            ("postspace", vec![n, b, b":", v]),
            ("prespace", vec![b, n, b": ", v]),
            ("endspace", vec![n, b": ", v, b]),
            ("xprespace", vec![b"X: X", b, n, b": ", v]),
            ("endspacex", vec![n, b": ", v, b, b"X: X"]),
            ("rxprespace", vec![b"X: X\r", b, n, b": ", v]),
            ("xnprespace", vec![b"X: X", b, b"\n", n, b": ", v]),
            ("endspacerx", vec![n, b": ", v, b"\r", b, b"X: X"]),
            ("endspacexn", vec![n, b": ", v, b, b"X: X\n"]),
        ];
        for (form, parts) in forms {
            spellings.push((format!("{form} {byte:#04x}"), parts.concat()));
        }
    }
    spellings
}

/// However a coding is spelt: a reader that takes it for one, and a reader that does not, must not
/// find different requests. Only a reader that takes exactly one of the two lengths, and closes
/// where it cannot be sure, is safe.
#[tokio::test(start_paused = true)]
async fn no_spelling_of_transfer_encoding_smuggles_a_request() {
    let (hub, path, proxy) = warm().await;
    let spellings = spellings();
    assert_eq!(spellings.len(), 130);
    for (case, field) in spellings {
        // By the length the body is all of the rest; by chunks it ends before the hidden request.
        let body = format!("0\r\n\r\n{SMUGGLED}");
        let start = format!("GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n", body.len());
        let request = [start.as_bytes(), &field, b"\r\n\r\n", body.as_bytes()].concat();

        let (answers, is_closed) = exchange(&proxy, &request).await;

        // The bytes beyond the length are no request, and are answered so.
        assert!(answers.len() <= 1 || answers[1..] == [400], "{case}: {answers:?}");
        assert!(answers.iter().all(|status| matches!(status, 200 | 400)), "{case}: {answers:?}");
        if answers != [200] {
            assert!(is_closed, "{case}: the connection goes on after {answers:?}");
        }
    }
    hub.assert_not_asked();
}

/// Rows 155 to 165 and 168 to 170, as they are written.
fn requests(path: &str) -> Vec<(u16, String)> {
    let with = |row, fields: &str, body: &str| {
        (row, format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}{SMUGGLED}"))
    };
    let chunked = |row, chunks: &str| with(row, "Transfer-Encoding: chunked", chunks);
    let len = SMUGGLED.len();
    let ext = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(64 << 10));
    vec![
        with(155, &format!("Content-Length: {len}\r\nTransfer-Encoding: chunked"), "0\r\n\r\n"),
        with(156, "Transfer-Encoding: chunked\r\nContent-Length: 0", "0\r\n\r\n"),
        with(158, "Content-Length: 0\r\nContent-Length: 5", ""),
        with(159, "Content-Length: 0, 5", ""),
        with(159, "Content-Length: ", ""),
        with(160, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        with(160, "Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
        with(160, "Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
        with(160, "Transfer-Encoding: xchunked", "0\r\n\r\n"),
        with(160, "Transfer-Encoding: \"chunked\"", "0\r\n\r\n"),
        chunked(162, "ffffffffffffffff1\r\n"),
        chunked(162, "10000000000000000\r\n"),
        chunked(162, "-1\r\n"),
        chunked(162, "+1\r\na\r\n"),
        chunked(162, "0x5\r\nhello\r\n"),
        chunked(162, "\r\n"),
        chunked(162, ";ext\r\n"),
        chunked(162, &ext),
        chunked(163, "5\r\nhello5\r\n"),
        chunked(163, "5\r\nhelloXX"),
        chunked(163, "5\r\nhello\n"),
        chunked(164, "5\nhello\r\n"),
        (
            168,
            format!("GET {path} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        ),
        (170, format!("GET {path}\r\n\r\n{SMUGGLED}")),
        (170, format!("GET {path} HTTP/0.9\r\nHost: a\r\n\r\n{SMUGGLED}")),
        (170, format!("GET {path} HTTP/1.2\r\nHost: a\r\n\r\n{SMUGGLED}")),
        (170, format!("GET {path} HTTP/3.0\r\nHost: a\r\n\r\n{SMUGGLED}")),
        (170, format!("GET\t{path} HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}")),
    ]
}

#[tokio::test(start_paused = true)]
async fn ambiguous_framing_closes_the_connection() {
    let (hub, path, proxy) = warm().await;
    for (row, request) in requests(&path) {
        let case = format!("row {row}, {:.120?}", &request[request.find("HTTP/").unwrap_or(0)..]);

        let (answers, is_closed) = exchange(&proxy, request.as_bytes()).await;

        assert!(answers.len() <= 1, "{case}: {answers:?}");
        let is_known = |status: &u16| matches!(status, 200 | 400 | 431 | 505);
        assert!(answers.iter().all(is_known), "{case}: {answers:?}");
        assert!(is_closed, "{case}: the connection goes on after {answers:?}");
    }
    hub.assert_not_asked();
    proxy.get(&path).await.assert_status(200);
}

/// Rows 157 and 169: two readings that agree. The next request is one, and is answered or not.
#[tokio::test(start_paused = true)]
async fn equal_content_lengths_count_as_one() {
    let (_hub, path, proxy) = warm().await;
    for fields in ["Content-Length: 0\r\nContent-Length: 0", "Content-Length: 0, 0"] {
        let first = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let second = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");

        let (answers, is_closed) = exchange(&proxy, format!("{first}{second}").as_bytes()).await;

        assert!(answers == [200, 200] || is_closed, "{fields:?}: {answers:?}");
        assert!(answers.iter().all(|status| matches!(status, 200 | 400)), "{answers:?}");
    }
    let kept = format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (answers, _) = exchange(&proxy, format!("{kept}{kept}").as_bytes()).await;
    assert_eq!(answers, [200, 200]);
}
