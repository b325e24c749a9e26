//! A refusal comes early, in the words of the side that refuses, and reaches the client.

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{begin, location, open, patch, put_manifest, with_digest};
use crate::support::image::OCI_IMAGE;
use crate::support::{
    Blob, Fault, Gate, Image, Manifest, Process, Proxy, ScriptedRegistry, Version, When, settle,
};

type Headers = &'static [(&'static str, &'static str)];

/// More than any buffer on the way holds.
const LARGE: usize = 8 << 20;

/// The upstream's answer is relayed while the client is still sending, over either version.
#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_middle_of_a_body_reaches_the_client_at_once() {
    let blob = Blob::random(1, LARGE);
    for (version, status) in [
        (Version::Http11, 413),
        (Version::H2, 413),
        (Version::Http11, 401),
        (Version::H2, 403),
        (Version::Http11, 507),
    ] {
        let hub = ScriptedRegistry::new();
        let proxy = open(&hub).await;
        let begun = begin(&proxy, "o/a").await;
        hub.breaks(When::asked("").by("PUT"), Fault::AnswerInBody(100_000, status));

        let path = with_digest(&begun, &blob);
        let sent = proxy.client.try_send((version, Method::PUT), &path, &[], blob.bytes.clone());
        let reply = sent.await.unwrap_or_else(|error| panic!("{version:?} {status}: {error}"));

        assert_eq!(reply.error(status).0, "SCRIPTED", "{version:?}");
        assert!(!reply.headers.contains_key("www-authenticate"));
        assert!(hub.changes("PUT", "")[0].body.len() < LARGE);
    }
}

/// A body that is refused here is refused before it is read, and still the refusal arrives.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_ours_reaches_a_client_that_is_sending() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    let body = Bytes::from(vec![7; LARGE]);
    for version in [Version::Http11, Version::H2] {
        for (method, path) in [
            (Method::POST, "/v2/o/a/blobs/uploads/"),
            (Method::PATCH, "/v2/o/a/blobs/uploads/x"),
            (Method::PUT, "/v2/o/a/manifests/v1"),
            (Method::PUT, "/v2/nothing"),
        ] {
            let sent = proxy.client.try_send((version, method.clone()), path, &[], body.clone());
            let reply = sent.await.unwrap_or_else(|e| panic!("{version:?} {method} {path}: {e}"));
            assert!(matches!(reply.status.as_u16(), 404 | 405), "{version:?} {method} {path}");
        }
    }
    hub.assert_not_asked();
}

/// Over TCP, a connection that is closed with bytes unread is reset, and the reset can overtake the
/// refusal.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_reads_only_when_it_has_sent_all() {
    let larder = Process::before(ScriptedRegistry::new().listen().await, "").await;
    for path in ["/v2/o/a/blobs/uploads/", "/v2/nothing"] {
        let mut tcp = TcpStream::connect(larder.address).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        tcp.write_all(&vec![7; LARGE]).await.expect("all of the body is taken");
        let mut status = [0; 13];
        tcp.read_exact(&mut status).await.expect("the refusal arrives");
        let status = String::from_utf8_lossy(&status);
        assert!(["HTTP/1.1 404 ", "HTTP/1.1 405 "].contains(&&*status), "{path}: {status}");
    }
}

/// Quotas, rights, limits: the client reads what the registry says, and no more of its headers.
#[tokio::test(start_paused = true)]
async fn a_push_that_the_upstream_refuses_gets_the_upstreams_error() {
    let said = r#"{"errors":[{"code":"DENIED","message":"quota of project o exceeded: 10 GiB"}]}"#;
    for status in [400, 401, 403, 404, 409, 413, 500, 503, 507] {
        let hub = ScriptedRegistry::new();
        let proxy = open(&hub).await;
        let headers = vec![
            ("Set-Cookie", "session=s3cr3t".to_owned()),
            ("WWW-Authenticate", "Basic realm=\"up\"".to_owned()),
            ("Warning", "299 - \"be quick\"".to_owned()),
        ];
        hub.breaks(When::asked("/uploads/").by("POST"), Fault::Status(status, headers, said));

        let reply = super::post(&proxy, "/v2/o/a/blobs/uploads/").await;

        let (code, message) = reply.error(status);
        assert_eq!((code.as_str(), message.contains("quota")), ("DENIED", true), "{status}");
        assert_eq!(reply.header("warning"), Some("299 - \"be quick\""));
        for name in ["set-cookie", "www-authenticate"] {
            assert!(!reply.headers.contains_key(name), "{status} {name}");
        }
    }
}

/// A registry that limits us is left alone until it says, and so is its client.
#[tokio::test(start_paused = true)]
async fn a_limit_is_told_and_kept() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    hub.put_image("o/a", "v1", &image);
    let proxy = open(&hub).await;
    let limited = Fault::Status(429, vec![("Retry-After", "30".to_owned())], "{}");
    hub.breaks(When::asked("/uploads/").by("POST"), limited);

    for _ in 0..3 {
        let reply = super::post(&proxy, "/v2/o/a/blobs/uploads/").await;
        assert_eq!(reply.error(429).0, "TOOMANYREQUESTS");
        assert_eq!(reply.header("retry-after"), Some("30"));
    }
    assert_eq!(hub.changes("POST", "").len(), 1);
    proxy.pull("o/a", "v1", &image).await;
}

/// A malformed request does not get as far as the registry.
#[tokio::test(start_paused = true)]
async fn malformed_push_requests_are_refused_without_the_upstream() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 10);
    let begun = begin(&proxy, "o/a").await;
    hub.forget();
    let digest = with_digest(&begun, &blob);
    let two = format!("{digest}&digest=sha256:{}", "0".repeat(64));
    let table: [(Method, &str, Headers, u16); 16] = [
        (Method::PATCH, &begun, &[("content-range", "5-3")], 416),
        (Method::PATCH, &begun, &[("content-range", "0-18446744073709551615")], 416),
        (Method::PATCH, &begun, &[("content-range", "0-18446744073709551614")], 400),
        (Method::PATCH, &begun, &[("content-range", "0-99999999999999999999")], 416),
        (Method::PATCH, &begun, &[("content-range", "bytes 0-9/10")], 400),
        (Method::PATCH, &begun, &[("content-range", "0-9/10")], 400),
        (Method::PATCH, &begun, &[("content-range", "-9")], 400),
        (Method::PATCH, &begun, &[("content-range", "0-")], 400),
        (Method::PATCH, &begun, &[("content-range", "+0-9")], 400),
        (Method::PATCH, &begun, &[("content-range", "0-10")], 400),
        (Method::PATCH, &begun, &[("content-range", "0-9"), ("content-range", "0-9")], 400),
        (Method::PUT, &begun, &[], 400),
        (Method::PUT, &two, &[], 400),
        (Method::PUT, &digest, &[("content-range", "9-0")], 416),
        (Method::POST, &begun, &[], 405),
        (Method::PATCH, "/v2/o/a/blobs/uploads/", &[], 405),
    ];
    for (method, path, headers, status) in table {
        let body = blob.bytes.clone();
        let reply = proxy.client.send(method.clone(), path, headers, body).await;
        assert_eq!(reply.status.as_u16(), status, "{method} {path:.60} {headers:?}");
        reply.error(status);
    }
    for algorithm in ["md5", "SHA256", ""] {
        let path = format!("/v2/o/a/blobs/uploads/?digest-algorithm={algorithm}");
        assert_eq!(super::post(&proxy, &path).await.error(400).0, "DIGEST_INVALID");
    }
    hub.assert_not_asked();
    // containerd adds to a query what is there already.
    let same = format!("{digest}&digest={}", blob.digest);
    let reply = proxy.client.send(Method::PUT, &same, &[], blob.bytes.clone()).await;
    reply.assert_status(201);
}

/// An image that was meant for another registry must not land in the default one.
#[tokio::test(start_paused = true)]
async fn a_push_to_a_registry_that_is_not_configured_reaches_none() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    for (method, path) in [
        (Method::POST, "/v2/nosuch.io/o/a/blobs/uploads/"),
        (Method::PATCH, "/v2/nosuch.io/o/a/blobs/uploads/x"),
        (Method::PUT, "/v2/nosuch.io/o/a/manifests/v1"),
        (Method::DELETE, "/v2/nosuch.io/o/a/manifests/v1"),
        (Method::PUT, "/v2/nosuch.io:5000/o/a/manifests/v1"),
        (Method::PUT, "/v2/o/a/manifests/v1?ns=nosuch.io"),
        (Method::PUT, "/nosuch.io/v2/o/a/manifests/v1"),
    ] {
        let reply = proxy.client.send(method, path, &[], Bytes::from("{}")).await;

        let (code, message) = reply.error(404);
        assert_eq!(code, "NAME_UNKNOWN", "{path}");
        assert!(message.ends_with("is not configured here"), "{path}: {message}");
    }
    hub.assert_not_asked();
}

/// A length that nothing holds is refused before a byte of it is sent.
#[tokio::test(start_paused = true)]
async fn a_terabyte_is_refused_at_once() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    hub.forget();
    for (method, path) in [("PATCH", &*begun), ("PUT", "/v2/o/a/manifests/v1")] {
        let mut client = proxy.client.raw();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: larder.test\r\nContent-Length: 1099511627776\r\n\r\n"
        );
        client.send(head.as_bytes()).await;
        let reply = client.download().await.unwrap().finish().await;
        assert_eq!(reply.error(413).0, "SIZE_INVALID");
    }
    hub.assert_not_asked();
}

/// The longest manifest that is taken is taken, and one byte more is not, whatever it claims to be.
#[tokio::test(start_paused = true)]
async fn a_manifest_may_have_four_mebibytes() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let of_len = |len: usize| {
        let body = format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "x".repeat(len - 26));
        assert_eq!(body.len(), len);
        Manifest::raw(OCI_IMAGE, body)
    };
    let longest = of_len(4 << 20);
    put_manifest(&proxy, "o/a", "v1", &longest).await.assert_status(201);
    proxy.get("/v2/o/a/manifests/v1").await.assert_is(&longest.blob);
    hub.forget();

    let reply = put_manifest(&proxy, "o/a", "v1", &of_len((4 << 20) + 1)).await;
    assert_eq!(reply.error(413).0, "SIZE_INVALID");
    hub.assert_not_asked();
}

/// Manifests are the registry's to judge. One that it takes is passed on as it is; one that cannot
/// be served safely is not kept, and nothing in it is ever followed.
#[tokio::test(start_paused = true)]
async fn hostile_manifests_are_opaque_bytes() {
    let deep = "[".repeat(100_000);
    let many = format!(
        "{{\"layers\":[{}]}}",
        vec![r#"{"digest":"sha256:../../x","size":-1}"#; 10_000].join(",")
    );
    let bodies: Vec<(&str, u16)> = vec![
        ("{}", 201),
        ("[]", 201),
        ("null", 201),
        ("1", 201),
        ("\"\"", 201),
        ("", 400),
        (&deep, 400),
        (&many, 400),
        (r#"{"layers":[{"size":1e400}]}"#, 400),
        (r#"{"layers":[],"manifests":[]}"#, 201),
        (r#"{"mediaType":"text/html","config":{}}"#, 201),
        (r#"{"mediaType":"a/b\r\nX-Evil: 1"}"#, 201),
        (r#"{"layers":[{"urls":["http://169.254.169.254/","file:///etc/passwd"]}]}"#, 201),
        (r#"{"annotations":{"a":"<script>\u0000\u202e"}}"#, 201),
        (r#"{"annotations":{"a":"\ud800"}}"#, 400),
        ("\u{feff}{}", 400),
        ("{} {}", 400),
        ("{}\r\n", 201),
    ];
    for (number, (body, status)) in bodies.into_iter().enumerate() {
        let hub = ScriptedRegistry::new();
        let proxy = open(&hub).await;
        let manifest = Manifest::raw(OCI_IMAGE, body.to_owned());
        let case = format!("{number}: {body:.60}");

        let reply = put_manifest(&proxy, "o/a", "v1", &manifest).await;

        assert_eq!(reply.status.as_u16(), status, "{case}");
        assert!(!reply.headers.contains_key("x-evil"), "{case}");
        let pushed = &hub.changes("PUT", "/manifests/v1")[0];
        assert!(pushed.body == manifest.blob.bytes, "{case}");
        let pulled = proxy.get("/v2/o/a/manifests/v1").await;
        if pulled.status == 200 {
            pulled.assert_is(&manifest.blob);
        }
        // Nothing that it lists is known of the repository because of it.
        assert_eq!(
            proxy.network.lookups().iter().filter(|it| !it.contains("docker.io")).count(),
            0
        );
    }
}

/// A client that waits for 100 gets it when there is an upstream to send to, and not before.
#[tokio::test(start_paused = true)]
async fn a_client_that_expects_100_is_told_when_the_upstream_is_there() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    let request = |path: &str| {
        format!(
            "PATCH {path} HTTP/1.1\r\nHost: larder.test\r\nContent-Length: 5\r\n\
             Expect: 100-continue\r\n\r\n"
        )
    };

    // Refused: no leave, and so no body.
    let mut client = proxy.client.raw();
    client.send(request("/v2/o/a/blobs/uploads/x").as_bytes()).await;
    let reply = client.download().await.unwrap();
    assert_eq!(reply.status.as_u16(), 404);

    // Not before there is a connection: the upstream is dark.
    proxy.network.set("registry-1.docker.io", crate::support::Reach::Down);
    let mut client = proxy.client.raw();
    client.send(request(&begun).as_bytes()).await;
    let reply = client.download().await.unwrap();
    assert_eq!(reply.status.as_u16(), 502, "and no 100 before it");
    proxy.network.set("registry-1.docker.io", crate::support::Reach::Up);

    // There is one.
    let gate = Gate::new();
    hub.breaks(When::asked("").by("PATCH"), Fault::HoldInBody(0, gate.clone()));
    let mut client = proxy.client.raw();
    client.send(request(&begun).as_bytes()).await;
    gate.reached().await;
    settle().await;
    client.send(b"hello").await;
    gate.open();
    let (bytes, _) = client.read_all().await;
    let answers = crate::support::client::answers_in(&bytes);
    assert_eq!(answers, [100, 202]);
}

/// The empty PATCH of a client that has nothing to say is passed on like any other.
#[tokio::test(start_paused = true)]
async fn an_empty_part_is_a_part() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    let appended = patch(&proxy, &begun, &[]).await;
    appended.assert_status(202);
    assert_eq!(hub.changes("PATCH", "")[0].header("content-length"), Some("0"));
    let blob = Blob::new(Bytes::new());
    super::put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);
}
