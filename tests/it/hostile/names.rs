//! Names, tags and digests that are none, and odd ones that are: rows 1 to 67.

use crate::support::client::request;
use crate::support::{Blob, Image, Proxy, ScriptedRegistry};

const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Those that are written out.
const NOTHING: &[(u16, &str)] = &[
    (1, "/v2/../../etc/passwd/manifests/latest"),
    (1, "/v2/a/../b/manifests/l"),
    (3, "/v2/%252e%252e/x/manifests/l"),
    (4, "//v2//R//manifests/latest"),
    (5, "/%2F%2F%2F..%2F..%2Fetc%2Fpasswd"),
    (6, "/v2/a%2Fb/manifests/l"),
    (7, "/v2/a%5c..%5cb/manifests/l"),
    (8, "/v2/a%00b/manifests/l"),
    (9, "/v2/a%0d%0aX-Evil:1/manifests/l"),
    (10, "/v2/A/manifests/l"),
    (11, "/v2/a___b/manifests/l"),
    (12, "/v2/-a/manifests/l"),
    (13, "/v2/a-/manifests/l"),
    (14, "/v2/a..b/manifests/l"),
    (15, "/v2/.a/manifests/l"),
    (16, "/v2/a/./b/manifests/l"),
    (20, "/v2/\u{fc}n\u{ef}code/manifests/l"),
    (20, "/v2/a/manifests/\u{fc}"),
    (21, "/v2/%c3%28/manifests/l"),
    (22, "/v2/%ef%bc%8e%ef%bc%8e/manifests/l"),
    (23, "/v2/<svg%20onload=alert(1)>/manifests/l"),
    (24, "/v2/{{7*7}}/manifests/l"),
    (25, "/v2/$(id)/manifests/l"),
    (26, "/v2/a;b/manifests/l"),
    (30, "/v2/_catalog/manifests/x"),
    (31, "//evil.example/v2/"),
    (32, "/V2/R/manifests/l"),
    (33, "/v2/a/manifests/"),
    (33, "/v2/a/manifests/?x=y"),
    (34, "/v2//manifests/latest"),
    (34, "/v2/manifests/latest"),
    (38, "/v2/a/manifests/?latest"),
    (38, "/v2/a/manifests/#latest"),
    (43, "/v2/a/manifests/.x"),
    (44, "/v2/a/manifests/-x"),
    (45, "/v2/a/manifests/a/b"),
    (46, "/v2/a/manifests/.."),
    (47, "/v2/a/manifests/latest%00"),
    (48, "/v2/a/manifests/latest%20"),
    (49, "/v2/a/manifests/a:b"),
    (50, "/v2/a/blobs/sha256:"),
    (55, "/v2/a/blobs/sha256:../../../x"),
    (57, "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e"),
    (58, "/v2/a/blobs/sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    (61, "/v2/a/blobs/sha256+b64u:abc"),
    (67, "/v2/a/manifests/a@b"),
    // And what the list has not.
    (0, "/v2/a/manifests/latest/"),
    (0, "/v2x/a/manifests/latest"),
    (0, "/v2/a/unknown/latest"),
    (0, "/v2/a/blobs/latest"),
    (0, "/etc/passwd"),
    (0, "//"),
];

/// Paths that name nothing, with their rows. The upstream must not hear of them, nor the file
/// system.
fn nothing() -> Vec<(u16, String)> {
    let fixed = NOTHING.iter().map(|(row, path)| (*row, (*path).to_owned()));
    let many = "a/".repeat(10_000);
    let digests = [
        (51, format!("sha256:{}", &HEX[1..])),
        (52, format!("sha256:{HEX}a")),
        (53, format!("sha256:{}", HEX.to_uppercase())),
        (54, format!("SHA256:{HEX}")),
        (56, format!("sha256:{}", "/".repeat(64))),
        (60, format!("sha512:{HEX}")),
        (62, format!("sha256:{}%d9%a3", &HEX[1..])),
        (63, format!("sha256:{HEX}%0a")),
        (64, format!("sha256:{HEX}/")),
    ];
    let digests = digests.into_iter().flat_map(|(row, digest)| {
        ["blobs", "manifests", "referrers"].map(|kind| (row, format!("/v2/a/{kind}/{digest}")))
    });
    let others = [
        (2, format!("/v2/%2e%2e/%2e%2e/etc/passwd/blobs/sha256:{HEX}")),
        (17, format!("/v2/a/{}/manifests/l", "n".repeat(254))),
        (17, format!("/v2/{}/manifests/l", "n".repeat(256))),
        (19, format!("/v2/{many}a/manifests/l")),
        (42, format!("/v2/a/manifests/{}", "t".repeat(129))),
        (67, format!("/v2/a@sha256:{HEX}/manifests/l")),
        (67, format!("/v2/a/manifests/latest@sha256:{HEX}")),
    ];
    fixed.chain(digests).chain(others).collect()
}

/// Every path that a client can send ends as a request upstream or as a file name, or here.
#[tokio::test(start_paused = true)]
async fn an_invalid_path_is_refused_and_not_sent_upstream() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    for (row, path) in nothing() {
        let case = format!("row {row}, {path:.80}");

        let mut client = proxy.client.raw();
        client.send(&request("GET", "1.1", &path, &[("Connection", "close")])).await;
        let reply = client.download().await.unwrap_or_else(|e| panic!("{case}: {e}"));
        let reply = reply.finish().await;

        let status = reply.status.as_u16();
        assert!(matches!(status, 400 | 404 | 414), "{case}: {status}");
        if status != 414 && !reply.body.is_empty() {
            let (code, message) = reply.error(status);
            assert!(!code.is_empty() && !message.is_empty(), "{case}");
            assert!(!reply.text().contains("<svg"), "{case}: echoed: {}", reply.text());
        }
        assert!(!reply.headers.contains_key("x-evil") && !reply.headers.contains_key("location"));
        assert!(hub.asked().is_empty(), "{case}: the upstream heard of it");
    }
    assert_eq!(proxy.network.lookups(), [""; 0]);
    assert_eq!((proxy.stored(), proxy.fills()), (Vec::new(), Vec::new()));
}

/// Row 38: what follows a `#` never leaves a client that knows HTTP; from others it says nothing.
#[tokio::test(start_paused = true)]
async fn a_fragment_is_not_part_of_a_name() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[]);
    hub.put_image("a/b", "latest", &image);
    let proxy = Proxy::before(&hub).await;

    let mut client = proxy.client.raw();
    client.send(&request("GET", "1.1", "/v2/a/b/manifests/latest#/../x", &[])).await;
    client.download().await.unwrap().finish().await.assert_is(&image.manifest.blob);

    assert!(hub.asked().iter().all(|asked| !asked.target.contains('#')));
}

/// The errors that clients act on must be the specification's.
#[tokio::test(start_paused = true)]
async fn a_refused_path_is_answered_with_the_error_code_of_the_specification() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    let table = [
        ("/v2/A/manifests/latest".to_owned(), "NAME_INVALID"),
        ("/v2/a..b/manifests/latest".to_owned(), "NAME_INVALID"),
        (format!("/v2/a/blobs/sha256:{}", HEX.to_uppercase()), "DIGEST_INVALID"),
        ("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(), "DIGEST_INVALID"),
        ("/v2/a/manifests/md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(), "DIGEST_INVALID"),
        ("/v2/a/manifests/sha256:abc".to_owned(), "DIGEST_INVALID"),
    ];
    for (path, code) in table {
        assert_eq!(proxy.get(&path).await.error(400).0, code, "{path}");
    }
    hub.assert_not_asked();
}

/// A line of a megabyte, in bytes that do not all arrive: the answer may be a close.
#[tokio::test(start_paused = true)]
async fn a_request_line_without_end_is_cut_off() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    let long = format!("/v2/{}/manifests/l", "a".repeat(1 << 20));

    let mut client = proxy.client.raw();
    client.send(&request("GET", "1.1", &long, &[])).await;
    let (bytes, is_closed) = client.read_all().await;

    let answers = crate::support::client::answers_in(&bytes);
    assert!(is_closed, "the connection is of no more use");
    assert!(answers.iter().all(|status| matches!(status, 400 | 414 | 431)), "{answers:?}");
    hub.assert_not_asked();
    proxy.get("/v2/").await.assert_status(200);
}

/// Names that look wrong and are right: repositories called like the API's own words.
#[tokio::test(start_paused = true)]
async fn unusual_but_valid_names_are_served() {
    let image = Image::random(1, &[10]);
    let long = format!("a/{}", "b".repeat(253));
    let longest_tag = "t".repeat(128);
    let fallback = format!("sha256-{HEX}");
    let table = [
        (11, "a__b/c", "v1"),
        (11, "a/b.c-d--e", "V1.0_x"),
        (17, &long, "latest"),
        (27, "manifests/manifests", "latest"),
        (28, "blobs/uploads", "latest"),
        (29, "a/tags/list", "x"),
        (41, "a/b", &longest_tag),
        (65, "a/b", HEX),
        (66, "a/b", &fallback),
        (0, "v2/v2", "v2"),
    ];
    for (row, repository, tag) in table {
        let hub = ScriptedRegistry::new();
        hub.put_image(repository, tag, &image);
        let proxy = Proxy::before(&hub).await;

        proxy.pull(repository, tag, &image).await;

        let path = format!("/v2/{repository}/manifests/");
        let is_asked = hub.asked().iter().any(|asked| asked.path().starts_with(&path));
        assert!(is_asked, "row {row}, {path}");
    }
}

/// Repositories may lie within repositories; neither may be mistaken for a part of the other.
#[tokio::test(start_paused = true)]
async fn a_repository_within_a_repository_is_its_own() {
    let hub = ScriptedRegistry::new();
    let (outer, inner) = (Image::random(1, &[10]), Image::random(2, &[20]));
    hub.put_image("a/b", "latest", &outer);
    hub.put_image("a/b/c", "latest", &inner);
    hub.put_image("a/b/tags", "latest", &inner);
    let proxy = Proxy::before(&hub).await;

    for _ in ["cold", "after a restart"] {
        proxy.pull("a/b", "latest", &outer).await;
        proxy.pull("a/b/c", "latest", &inner).await;
        proxy.pull("a/b/tags", "latest", &inner).await;
        proxy.restart().await;
    }
    proxy.get(&inner.layers[0].path("a/b")).await.error(404);
}

/// An encoded colon is a colon; containerd's and others' URLs have it.
#[tokio::test(start_paused = true)]
async fn a_digest_may_come_percent_encoded() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 100);
    hub.put_blob("a/b", &blob);
    let proxy = Proxy::before(&hub).await;

    for colon in ["%3A", "%3a"] {
        let path = blob.path("a/b").replace(':', colon);
        proxy.get(&path).await.assert_is(&blob);
    }
    assert_eq!(hub.gets(blob.digest.hex()).len(), 1);
}

/// A method that is not implemented is refused, and never forwarded: writes above all.
#[tokio::test(start_paused = true)]
async fn a_method_that_is_not_served_is_refused() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    hub.put_image("a/b", "latest", &image);
    let proxy = Proxy::before(&hub).await;
    let blob = image.layers[0].path("a/b");
    let table = [
        ("PUT", "/v2/a/b/manifests/latest"),
        ("DELETE", "/v2/a/b/manifests/latest"),
        ("DELETE", blob.as_str()),
        ("POST", "/v2/a/b/blobs/uploads/"),
        ("PATCH", "/v2/a/b/blobs/uploads/x"),
        ("OPTIONS", "/v2/"),
        ("TRACE", "/v2/"),
    ];
    for (method, path) in table {
        let reply = proxy.call(method.parse().unwrap(), path).await;

        let status = reply.status.as_u16();
        assert!(matches!(status, 404 | 405), "{method} {path}: {status}");
        reply.error(status);
    }
    hub.assert_not_asked();
    let trick = [("x-http-method-override", "DELETE")];
    proxy.get_with("/v2/a/b/manifests/latest", &trick).await.assert_is(&image.manifest.blob);
}
