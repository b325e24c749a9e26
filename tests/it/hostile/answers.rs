//! Answers of a hostile or broken upstream: rows 217 to 256.
//!
//! Whatever comes, no client has complete wrong bytes, nothing wrong is stored, the message says
//! who is to blame, and the next good answer is taken.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;

use crate::support::{
    Blob, Fault, Image, Manifest, Proxy, Reply, ScriptedRegistry, Setup, Version,
};
use crate::support::{TAG_TTL, When, settle};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const HOST: &str = "registry-1.docker.io";

/// The outcome that a client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// 502 or 504 with an error that names the upstream.
    Fault,
    /// A fault, or an answer that is cut so that the client notices.
    FaultOrCut,
    /// The right bytes: what is odd about the answer is of no consequence.
    Right,
}

use Expect::{FaultOrCut, Right};

/// A head with the fields that a good answer has, and these.
fn good(blob: &Blob, fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}{fields}", blob.len())
}

fn raw(head: &str, body: &[u8]) -> Fault {
    Fault::raw(head, body)
}

/// Rows 235 to 244: what a body can be.
fn bodies(blob: &Blob) -> Vec<(u16, Fault, Expect)> {
    let bytes = &blob.bytes[..];
    let length = |text: &str| raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {text}"), bytes);
    let chunks = |body: &[u8]| raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", body);
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nTransfer-Encoding: chunked";
    let part = |range| raw(&format!("HTTP/1.1 206 P\r\nContent-Length: 1000\r\n{range}"), bytes);
    let mut whole = format!("{:x}\r\n", bytes.len()).into_bytes();
    whole.extend_from_slice(bytes);
    vec![
        (235, raw(&good(blob, ""), &bytes[..500]), FaultOrCut),
        (235, raw(&good(blob, ""), b""), FaultOrCut),
        (236, length("1001"), FaultOrCut),
        (236, raw(&good(blob, ""), &[bytes, b"more"].concat()), Right),
        (237, length("-1000"), Expect::Fault),
        (237, length("+1000"), Expect::Fault),
        (237, length("0x3e8"), Expect::Fault),
        (237, length("1000\r\nContent-Length: 999"), Expect::Fault),
        (237, length("99999999999999999999999"), Expect::Fault),
        (238, raw("HTTP/1.1 200 OK", bytes), Right),
        (238, raw("HTTP/1.1 200 OK", &bytes[..999]), FaultOrCut),
        (238, raw("HTTP/1.1 200 OK", b""), FaultOrCut),
        (239, raw(both, &[&whole[..], b"\r\n0\r\n\r\n"].concat()), Expect::Fault),
        (240, chunks(b"ffffffffffffffff1\r\nabc"), FaultOrCut),
        (240, chunks(b"-1\r\nabc"), FaultOrCut),
        (240, chunks(&whole), FaultOrCut),
        (241, raw("HTTP/1.1 200 OK\r\nContent-Length: 0", b""), Expect::Fault),
        (241, chunks(b"0\r\n\r\n"), FaultOrCut),
        (
            241,
            raw("HTTP/1.1 416 None\r\nContent-Length: 0\r\nContent-Range: bytes */0", b""),
            Expect::Fault,
        ),
        (242, part("Content-Range: bytes 0-999/1000"), Expect::Fault),
        (242, part("Content-Range: bytes 0-999/2000"), Expect::Fault),
        (242, part("X: no range at all"), Expect::Fault),
        (244, Fault::GzipEncoding, FaultOrCut),
        (244, raw(&good(blob, "\r\nContent-Encoding: br"), bytes), Right),
    ]
}

/// Rows 245 to 253: what a head can be.
fn heads(blob: &Blob) -> Vec<(u16, Fault, Expect)> {
    let bytes = &blob.bytes[..];
    let with = |fields: &str| raw(&good(blob, &format!("\r\n{fields}")), bytes);
    let status = |line: &str| raw(&format!("{line}\r\nContent-Length: 1000"), bytes);
    let early = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
    let mut late = "HTTP/1.1 100 Continue\r\n\r\n".repeat(50);
    write!(late, "{}\r\n\r\n", good(blob, "")).unwrap();
    let more = |text: String, pause| Fault::Endless {
        start: Bytes::from("HTTP/1.1 200 OK\r\n"),
        piece: text.into(),
        pause,
    };
    let second = Duration::from_secs(1);
    let endless_hints = Fault::Endless {
        start: Bytes::new(),
        piece: Bytes::from_static(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        pause: Duration::from_millis(100),
    };
    vec![
        (245, with("Docker-Content-Digest: sha256:zz"), Right),
        (245, with("Docker-Content-Digest: a\r\nDocker-Content-Digest: b"), Right),
        (246, with("Content-Type: text/html"), Right),
        (246, with("Content-Type: application/json; charset=utf-8"), Right),
        (247, Fault::Raw(early.into()), Expect::Fault),
        (247, endless_hints, Expect::Fault),
        (247, Fault::Raw([late.as_bytes(), bytes].concat().into()), Right),
        (247, status("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x"), Expect::Fault),
        (247, status("HTTP/1.1 204 No Content"), Expect::Fault),
        (247, status("HTTP/1.1 205 Reset Content"), Expect::Fault),
        (247, status("HTTP/1.1 300 Multiple Choices"), Expect::Fault),
        (247, status("HTTP/1.1 304 Not Modified"), Expect::Fault),
        (247, status("HTTP/1.1 418 I'm a teapot"), Expect::Fault),
        (247, status("HTTP/1.1 599 Odd"), Expect::Fault),
        (247, status("HTTP/1.1 99 Low"), Expect::Fault),
        (247, status("HTTP/1.1 1000 High"), Expect::Fault),
        (247, status("HTTP/1.1 abc"), Expect::Fault),
        (247, status("ICY 200 OK"), Expect::Fault),
        (247, Fault::Raw(Bytes::from_static(b"SSH-2.0-OpenSSH_9.9\r\n")), Expect::Fault),
        (247, Fault::Raw(Bytes::from_static(b"\0\0\0\0\0\0\0\0")), Expect::Fault),
        (247, Fault::Raw(Bytes::new()), Expect::Fault),
        (248, more("X-More: more\r\n".to_owned(), Duration::from_micros(1)), Expect::Fault),
        (248, more("X-More: more\r\n".to_owned(), second), Expect::Fault),
        (248, more("x".to_owned(), second), Expect::Fault),
        (248, with(&format!("X-Long: {}", "x".repeat(10 << 20))), Expect::Fault),
        (248, with(&"X-Many: y\r\n".repeat(100_000)), Expect::Fault),
        (248, Fault::CutHeaders, Expect::Fault),
        (250, with("Set-Cookie: session=abc; Path=/"), Right),
        (251, with(&format!("Warning: 299 - \"{}\"", "w".repeat(1 << 20))), Expect::Fault),
        (251, with(&format!("Warning: 299 - \"{}\"", "w".repeat(5000))), Right),
        (252, with(&format!("Date: {}", "(".repeat(20_000))), Right),
    ]
}

#[track_caller]
fn assert_expected(reply: Result<Reply, String>, expect: Expect, blob: &Blob, case: &str) {
    let reply = match (reply, expect) {
        (Err(_), FaultOrCut) => return,
        (Err(error), _) => panic!("{case}: no answer: {error}"),
        (Ok(reply), _) => reply,
    };
    assert!(!reply.headers.contains_key("set-cookie"), "{case}: {:?}", reply.headers);
    let status = reply.status.as_u16();
    match expect {
        Right => reply.assert_is(blob),
        FaultOrCut if reply.status.is_success() => {
            assert!(!reply.is_complete(), "{case}: {} bytes, complete", reply.body.len());
        }
        Expect::Fault | FaultOrCut => {
            // A 418 is a rejection, which clients get as it is.
            assert!(matches!(status, 418 | 502 | 504), "{case}: {status} {}", reply.text());
            let (_, message) = reply.error(status);
            assert!(message.contains(HOST), "{case}: {message}");
        }
    }
}

/// One answer to every GET of a blob, in each version of the client's; then a good one.
async fn each_is_survived(table: fn(&Blob) -> Vec<(u16, Fault, Expect)>) {
    let rows = table(&Blob::random(0, 1000)).len();
    for row in 0..rows {
        for (seed, version) in (1..).zip([Version::Http11, Version::H2]) {
            let hub = ScriptedRegistry::new();
            let proxy = Proxy::before(&hub).await;
            let blob = Blob::random(seed, 1000);
            hub.put_blob(REPOSITORY, &blob);
            let (number, fault, expect) = table(&blob).swap_remove(row);
            let case = format!("row {number}, {fault:.200?}, {version:?}");
            hub.breaks(When::asked(&blob.digest), fault);

            let reply = proxy.client.try_get(version, &blob.path(REPOSITORY)).await;

            assert_expected(reply, expect, &blob, &case);
            assert!(hub.asked().len() <= 12, "{case}: {} requests", hub.asked().len());
            assert!(hub.asked().iter().all(|asked| asked.header("cookie").is_none()), "{case}");
            settle().await;
            assert_eq!(proxy.has_stored(&blob.digest), expect == Right, "{case}");
            hub.heal();
            // A breaker that has opened closes again.
            tokio::time::advance(Duration::from_secs(60)).await;
            proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_client_gets_a_complete_wrong_body_however_odd_the_answer() {
    each_is_survived(bodies).await;
}

#[tokio::test(start_paused = true)]
async fn odd_response_headers_are_a_fault_or_are_ignored() {
    each_is_survived(heads).await;
}

/// The same answers to a tag's revalidation: what is held is served, stale.
#[tokio::test(start_paused = true)]
async fn a_cached_tag_is_served_whatever_the_upstream_answers() {
    let rows = heads(&Blob::random(0, 1000)).len();
    for row in 0..rows {
        let (number, fault, expect) = heads(&Blob::random(0, 1000)).swap_remove(row);
        if expect != Expect::Fault {
            continue;
        }
        let case = format!("row {number}, {fault:.200?}");
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[]);
        hub.put_image(REPOSITORY, "latest", &image);
        let proxy = Proxy::before(&hub).await;
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        tokio::time::advance(TAG_TTL * 2).await;
        hub.breaks(When::asked("/v2/"), fault);

        let reply = proxy.get(LATEST).await;

        reply.assert_is(&image.manifest.blob);
        assert!(reply.decision().is_stale(), "{case}: {:?}", reply.decision());
    }
}

/// Rows 245 and 246 for manifests: the body settles what it is, and two opinions settle nothing.
#[tokio::test(start_paused = true)]
async fn a_manifest_is_what_its_bytes_say() {
    let image = Image::random(1, &[]);
    let manifest = &image.manifest;
    let oci = manifest.media_type.as_str();
    let table = [
        (245, "Docker-Content-Digest: sha256:zz".to_owned(), oci, Right),
        (245, "Docker-Content-Digest: a\r\nDocker-Content-Digest: b".to_owned(), oci, Right),
        (245, format!("Docker-Content-Digest: {}", Blob::random(9, 9).digest), oci, Right),
        (246, "X: no type".to_owned(), "", Right),
        (246, "X: charset".to_owned(), "application/json; charset=utf-8", Right),
        (246, "X: octets".to_owned(), "application/octet-stream", Right),
        (246, "X: parameters".to_owned(), "application/vnd.oci.image.manifest.v1+json; a=b", Right),
        (246, "X: html".to_owned(), "text/html", Right),
        (246, "X: an index".to_owned(), "application/vnd.oci.image.index.v1+json", Expect::Fault),
    ];
    for (number, field, media_type, expect) in table {
        let case = format!("row {number}, {field:?} {media_type:?}");
        let hub = ScriptedRegistry::new();
        hub.put_image(REPOSITORY, "latest", &image);
        let proxy = Proxy::before(&hub).await;
        let media_type = match media_type {
            "" => String::new(),
            media_type => format!("\r\nContent-Type: {media_type}"),
        };
        let head = good(&manifest.blob, &format!("{media_type}\r\n{field}"));
        hub.breaks(When::asked("/manifests/").get(), raw(&head, &manifest.blob.bytes));

        for path in [LATEST.to_owned(), manifest.path(REPOSITORY)] {
            let reply = proxy.get(&path).await;

            if expect == Right {
                assert_eq!(reply.header("content-type"), Some(oci), "{case} {path}");
                let digest = manifest.digest().as_str();
                assert_eq!(reply.header("docker-content-digest"), Some(digest), "{case} {path}");
            }
            assert_expected(Ok(reply), expect, &manifest.blob, &case);
        }
        assert_eq!(proxy.has_stored(manifest.digest()), expect == Right, "{case}");
    }
}

/// Fault F5: a captive portal is no registry, and must not become the content of a tag.
#[tokio::test(start_paused = true)]
async fn a_page_is_no_manifest_and_the_message_says_so() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    hub.breaks(When::asked("/"), Fault::Html200);
    let unheld = Manifest::raw(crate::support::image::OCI_IMAGE, "{}");
    for path in [LATEST.to_owned(), unheld.path(REPOSITORY)] {
        let (_, message) = proxy.get(&path).await.error(502);
        assert!(message.contains(HOST), "{message}");
        assert!(message.contains("manifest") || message.contains("bytes"), "{message}");
    }
    assert_eq!(proxy.stored(), [""; 0]);
}

/// Row 249: whatever a limit says of its length, clients are told something that they can use.
#[tokio::test(start_paused = true)]
async fn a_limit_is_passed_on_within_bounds() {
    for wait in [
        "-1",
        "0",
        "1000000000",
        "99999999999999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "soon",
        "",
    ] {
        let hub = ScriptedRegistry::new();
        let proxy = Proxy::before(&hub).await;
        // Row 252: the other date in such an answer is parsed too.
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", &"(".repeat(20_000)] {
            let head = format!(
                "HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nRetry-After: {wait}\r\nDate: {date}"
            );
            hub.breaks(When::asked("/v2/"), raw(&head, b""));

            let reply = proxy.get(LATEST).await;

            assert_eq!(reply.error(429).0, "TOOMANYREQUESTS", "{wait}");
            let told = reply.header("retry-after").map(|text| text.parse::<u64>().unwrap());
            assert!(told.is_some_and(|told| told <= 900), "{wait}: {told:?}");
            hub.heal();
            tokio::time::advance(Duration::from_secs(900)).await;
        }
    }
}

/// Rows 218 and 222: challenges that are no use, or too much.
#[tokio::test(start_paused = true)]
async fn a_challenge_is_read_in_bounds_and_leads_nowhere_else() {
    let evil_host = "evil.example";
    let line = |value: &str| format!("\r\nWWW-Authenticate: {value}");
    let table = [
        (217, line(r#"Bearer realm="http://evil.example/""#)),
        (218, line(r#"Bearer realm="http://evil.example/"#)),
        (218, line(r#"Bearer realm="\http://evil.example\"/token""#)),
        (218, line(&format!(r#"Bearer realm="http://evil.example/{}""#, "a".repeat(1 << 20)))),
        (218, line(&format!(r#"Bearer realm="http://evil.example/{}""#, "a".repeat(10_000)))),
        (222, line("Negotiate")),
        (222, line("Negotiate YWJj") + &line("bEaReR rEaLm=\"http://evil.example/\"")),
        (222, line(&r#"Bearer realm="http://evil.example/", "#.repeat(1000))),
        (222, line(r#"Bearer realm="http://evil.example/""#).repeat(90)),
        (222, line(r#"Basic realm="x""#) + &line(r#"Bearer realm="http://evil.example/""#)),
        (222, String::new()),
    ];
    for (number, challenge) in table {
        let case = format!("row {number}, {challenge:.80}");
        let (hub, evil) = (ScriptedRegistry::new(), ScriptedRegistry::new());
        let mut setup = Setup::new();
        setup.network.put(evil_host, 80, evil.clone());
        setup.registry("docker.io", &hub);
        let proxy = setup.start().await;
        let head = format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0{challenge}");
        hub.breaks(When::asked("/v2/"), raw(&head, b""));

        let reply = proxy.get(LATEST).await;

        assert!(matches!(reply.status.as_u16(), 404 | 502), "{case}: {}", reply.text());
        evil.assert_not_asked();
        assert!(hub.asked().len() <= 8, "{case}: {} requests", hub.asked().len());
    }
}

/// Row 214: a manifest may say that a layer is empty, and a length in a manifest proves nothing.
#[tokio::test(start_paused = true)]
async fn a_layer_that_its_manifest_calls_empty_is_whole_or_refused() {
    let blob = Blob::random(1, 1000);
    for framing in [Fault::Chunked, Fault::CloseDelimited] {
        for (size, is_served) in [(0, true), (1000, true), (999, false), (1001, false)] {
            let hub = ScriptedRegistry::new();
            let body = format!(
                r#"{{"schemaVersion":2,"config":{{"digest":"{0}","size":{size}}},"layers":[]}}"#,
                blob.digest
            );
            let manifest = Manifest::raw(crate::support::image::OCI_IMAGE, body);
            hub.put_tagged(REPOSITORY, "latest", &manifest);
            hub.put_blob(REPOSITORY, &blob);
            hub.breaks(When::asked("/blobs/").get(), framing.clone());
            let proxy = Proxy::before(&hub).await;
            proxy.get(LATEST).await.assert_is(&manifest.blob);

            for version in Version::ALL {
                let reply = proxy.client.try_get(version, &blob.path(REPOSITORY)).await;

                let case = format!("{framing:?} {size} {version:?}");
                let is_whole = reply.as_ref().is_ok_and(|reply| reply.body == blob.bytes);
                let expect = if is_served || is_whole { Right } else { FaultOrCut };
                assert_expected(reply, expect, &blob, &case);
            }
        }
    }
}
