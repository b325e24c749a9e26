//! Requests whose framing two readers could read differently: one answer, then the end.
//!
//! The danger is a second request hidden in what the first reader took for a body.

use std::fmt::Write as _;

use crate::support::client::answers_in;
use crate::support::{Blob, Proxy, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";

/// A request that must never be seen as one: it hides in others' bodies.
const SMUGGLED: &str = "GET /v2/library/smuggled/manifests/x HTTP/1.1\r\nHost: a\r\n\r\n";

/// A proxy that holds a blob, and the path of it.
async fn warm() -> (ScriptedRegistry, Blob, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    hub.forget();
    (hub, blob, proxy)
}

/// Sends bytes, and gives the statuses that came back and whether the connection was closed.
async fn exchange(proxy: &Proxy, bytes: &str) -> (Vec<u16>, bool) {
    let mut client = proxy.client.raw();
    client.send(bytes.as_bytes()).await;
    let (answer, is_closed) = client.read_all().await;
    (answers_in(&answer), is_closed)
}

/// A body that is not wanted is still a body (CVE-2025-4366: a hit left it for the next reader).
#[tokio::test(start_paused = true)]
async fn a_request_in_the_body_of_another_is_a_body() {
    let (hub, blob, proxy) = warm().await;
    let len = SMUGGLED.len();
    let path = blob.path(REPOSITORY);
    let etag = format!("If-None-Match: \"{}\"\r\n", blob.digest);
    let table = [
        ("GET", path.as_str(), "", 200),
        ("HEAD", &path, "", 200),
        ("GET", &path, etag.as_str(), 304),
        ("GET", &path, "Range: bytes=99999-\r\n", 416),
        ("GET", "/v2/A/manifests/x", "", 400),
        ("GET", "/nothing", "", 404),
    ];
    for (method, path, headers, status) in table {
        for framing in [
            format!("Content-Length: {len}\r\n\r\n{SMUGGLED}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{len:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}{framing}");

            let (answers, _) = exchange(&proxy, &request).await;

            assert_eq!(answers, [status], "{method} {path} {headers:?}");
        }
    }
    hub.assert_not_asked();
}

/// Two statements of one length, or one that is none: a server that trusts either can be fooled.
#[tokio::test(start_paused = true)]
async fn a_length_that_is_stated_badly_ends_the_connection() {
    let (hub, blob, proxy) = warm().await;
    let start = format!("GET {} HTTP/1.1\r\nHost: a\r\n", blob.path(REPOSITORY));
    let bad = [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5,6\r\n",
        "Content-Length: \u{ff15}\r\n",
        "Content-Length: 1000000000000000000000000000000\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\u{b}\r\n",
        "Transfer-Encoding: identity\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "Content-Length: 5\r\n obs: fold\r\n",
        "X-Bare: a\rb\r\n",
        "X-Nul: a\0b\r\n",
        "Bad Name: x\r\n",
    ];
    for header in bad {
        let (answers, is_closed) =
            exchange(&proxy, &format!("{start}{header}\r\n{SMUGGLED}")).await;

        assert!(answers.len() <= 1, "{header:?}: {answers:?}");
        assert!(answers.iter().all(|status| *status == 400), "{header:?}: {answers:?}");
        assert!(is_closed, "{header:?}: the connection goes on");
    }
    hub.assert_not_asked();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
}

/// A length and chunks together is the classic; the reader that closes cannot be fooled.
#[tokio::test(start_paused = true)]
async fn a_length_beside_chunks_hides_nothing() {
    let (hub, blob, proxy) = warm().await;
    let start = format!("GET {} HTTP/1.1\r\nHost: a\r\n", blob.path(REPOSITORY));
    let both = [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 5 + SMUGGLED.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", 5 + SMUGGLED.len()),
    ];
    for headers in both {
        let request = format!("{start}{headers}\r\n0\r\n\r\n{SMUGGLED}");

        let (answers, is_closed) = exchange(&proxy, &request).await;

        assert!(answers.len() <= 1, "{headers:?}: {answers:?}");
        assert!(is_closed, "{headers:?}");
    }
    hub.assert_not_asked();
}

/// A chunk that is no chunk: its reader must stop, not look for the next request in it.
#[tokio::test(start_paused = true)]
async fn a_broken_chunk_ends_the_connection() {
    let (hub, blob, proxy) = warm().await;
    let start = format!(
        "GET {} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        blob.path(REPOSITORY)
    );
    for chunk in ["ffffffffffffffff1\r\n", "-1\r\n", "0x5\r\nhello\r\n", "5\r\nhelloXX", "g\r\n"] {
        let (answers, is_closed) = exchange(&proxy, &format!("{start}{chunk}{SMUGGLED}")).await;

        assert!(answers.len() <= 1, "{chunk:?}: {answers:?}");
        assert!(is_closed, "{chunk:?}: the connection goes on");
    }
    hub.assert_not_asked();
}

/// Bytes that are not HTTP/1 are answered once or not at all.
#[tokio::test(start_paused = true)]
async fn bytes_that_are_not_http_close_the_connection() {
    let (hub, blob, proxy) = warm().await;
    let path = blob.path(REPOSITORY);
    let table = [
        format!("GET {path}\r\n\r\n"),
        format!("GET {path} HTTP/3.0\r\nHost: a\r\n\r\n"),
        format!("GET\t{path} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET {path} HTTP/1.1 x\r\nHost: a\r\n\r\n"),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned() + &"\0".repeat(64),
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
    ];
    for bytes in table {
        let (answers, is_closed) = exchange(&proxy, &format!("{bytes}{SMUGGLED}")).await;

        assert!(answers.len() <= 1, "{bytes:?}: {answers:?}");
        assert!(answers.iter().all(|status| *status == 400 || *status == 505), "{answers:?}");
        assert!(is_closed, "{bytes:?}: the connection goes on");
    }
    hub.assert_not_asked();
}

/// HTTP/1.0 knows no chunks, and its connections end unless it asks otherwise.
#[tokio::test(start_paused = true)]
async fn http_1_0_is_answered_once() {
    let (hub, blob, proxy) = warm().await;
    let path = blob.path(REPOSITORY);

    let (plain, is_closed) =
        exchange(&proxy, &format!("GET {path} HTTP/1.0\r\n\r\n{SMUGGLED}")).await;
    assert_eq!((plain, is_closed), (vec![200], true));
    let chunked = format!("GET {path} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{SMUGGLED}");
    let (answers, is_closed) = exchange(&proxy, &chunked).await;
    assert!(answers.len() <= 1 && is_closed, "{answers:?}");
    hub.assert_not_asked();
}

/// Ways to ask for another place than us: none of them leads there.
#[tokio::test(start_paused = true)]
async fn an_absolute_request_target_is_never_forwarded() {
    let (hub, blob, proxy) = warm().await;
    let path = blob.path(REPOSITORY);
    let elsewhere = [
        format!("GET http://evil.example{path} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Forwarded-Host: e\r\n\r\n"),
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n".to_owned(),
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    for bytes in elsewhere {
        let (answers, _) = exchange(&proxy, &bytes).await;

        assert_eq!(answers.len(), 1, "{bytes:?}: {answers:?}");
        assert!(matches!(answers[0], 200 | 400 | 404 | 405), "{bytes:?}: {answers:?}");
    }
    hub.assert_not_asked();
    assert_eq!(proxy.network.lookups().len(), 1, "the one of the warm-up");
}

/// Headers are kept in memory before anyone is known: their number and size have limits.
#[tokio::test(start_paused = true)]
async fn too_many_or_too_long_headers_are_refused() {
    let (hub, blob, proxy) = warm().await;
    let start = format!("GET {} HTTP/1.1\r\nHost: a\r\n", blob.path(REPOSITORY));
    let mut many = start.clone();
    for i in 0..10_000 {
        write!(many, "X-{i}: y\r\n").unwrap();
    }
    let long = format!("{start}X-Long: {}\r\n", "y".repeat(1 << 20));

    for bytes in [many, long] {
        let (answers, is_closed) = exchange(&proxy, &format!("{bytes}\r\n")).await;

        assert!(answers.iter().all(|status| matches!(status, 400 | 431)), "{answers:?}");
        assert!(is_closed);
    }
    hub.assert_not_asked();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
}
