//! Query parameters: rows 96 to 118 and 127 to 128. The others are of pushes.
//!
//! The meaning of the arguments is tested with the lists and the doors; here they cause no error of
//! their own at any route, and nothing of them gets further than it may.

use crate::support::client::request;
use crate::support::{Image, Proxy, ScriptedRegistry};

const REPOSITORY: &str = "owner/app";

/// The outcomes that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// As if it were not there.
    Ignored,
    /// Refused with one of these, and the upstream is not asked.
    Refused(&'static [u16]),
}

use Expect::{Ignored, Refused};

/// Queries of a manifest, for which only `ns` means anything.
fn of_a_manifest() -> Vec<(u16, String, Expect)> {
    const UNKNOWN: Expect = Refused(&[404]);
    let many: Vec<_> = (0..10_000).map(|n| format!("k{n}=v")).collect();
    let rows = [
        (96, "n=0", Ignored),
        (97, "n=-1", Ignored),
        (98, "n=9223372036854775807", Ignored),
        (102, "n=5&n=6", Ignored),
        (104, "last=../../", Ignored),
        (105, "last=%00%0d%0aLink:%20x", Ignored),
        (107, "ns=evil.example", UNKNOWN),
        (108, "ns=169.254.169.254", UNKNOWN),
        (109, "ns=http://127.0.0.1:1/", UNKNOWN),
        (110, "ns=docker.io@evil", UNKNOWN),
        (111, "ns=docker.io%2f..%2fevil", UNKNOWN),
        (112, "ns=docker.io:443", Ignored),
        (112, "ns=DOCKER.IO", Ignored),
        (112, "ns=docker.io.", Ignored),
        (113, "ns=xn--docker-.io", UNKNOWN),
        (114, "ns=[::1]", UNKNOWN),
        (114, "ns=[::ffff:169.254.169.254]", UNKNOWN),
        (114, "ns=[64:ff9b::a9fe:a9fe]", UNKNOWN),
        (115, "ns=2130706433", UNKNOWN),
        (115, "ns=0x7f.1", UNKNOWN),
        (115, "ns=0177.0.0.1", UNKNOWN),
        (116, "ns=localhost", UNKNOWN),
        (116, "ns=unix:/x", UNKNOWN),
        (116, "ns=docker.io%00", UNKNOWN),
        (117, "ns=docker.io&ns=ghcr.io", Refused(&[400])),
        (118, "ns=", Ignored),
        (127, "artifactType=%3Cscript%3E", Ignored),
        (127, "artifactType=<script>", Refused(&[400])),
        (0, "=", Ignored),
        (0, "&&&", Ignored),
        (0, "%", Ignored),
        (0, "%zz=%ff&\u{fc}", Ignored),
        (0, "?", Ignored),
    ];
    let rows = rows.map(|(row, query, expect)| (row, query.to_owned(), expect));
    let long = [
        (106, format!("last={}", "a".repeat(1 << 20)), Refused(&[400, 414, 431])),
        (128, many[..1000].join("&"), Ignored),
        (128, many.join("&"), Refused(&[400, 414, 431])),
    ];
    rows.into_iter().chain(long).collect()
}

/// Clients and middle boxes add arguments; a registry that answers 400 to one is useless to them.
#[tokio::test(start_paused = true)]
async fn no_argument_of_a_query_changes_more_than_it_may() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    let layer = &image.layers[0];
    let lookups = proxy.network.lookups();
    for (row, query, expect) in of_a_manifest() {
        let wanted = [
            (format!("/v2/{REPOSITORY}/manifests/latest"), &image.manifest.blob),
            (image.manifest.path(REPOSITORY), &image.manifest.blob),
            (layer.path(REPOSITORY), layer),
        ];
        for (path, blob) in wanted {
            let case = format!("row {row}, {path:.40}?{query:.80}");
            hub.forget();

            let target = format!("{path}?{query}");
            let mut client = proxy.client.raw();
            client.send(&request("GET", "1.1", &target, &[("Connection", "close")])).await;
            let reply = client.download().await.unwrap_or_else(|e| panic!("{case}: {e}"));
            let reply = reply.finish().await;

            match expect {
                Ignored => assert!(reply.status == 200 && reply.body == blob.bytes, "{case}"),
                Refused(statuses) => {
                    let status = reply.status.as_u16();
                    assert!(statuses.contains(&status), "{case}: {status} {}", reply.text());
                }
            }
            assert!(!reply.headers.contains_key("link"), "{case}");
            let is_warm = hub.asked().is_empty();
            assert!(is_warm, "{case}: {:?}", hub.asked());
        }
    }
    assert_eq!(proxy.network.lookups(), lookups);
}

/// The same when the upstream has to be asked: it gets none of it.
#[tokio::test(start_paused = true)]
async fn no_argument_of_a_query_goes_upstream_with_a_manifest() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[]);
    let proxy = Proxy::before(&hub).await;
    for (number, (row, query, expect)) in of_a_manifest().into_iter().enumerate() {
        if expect != Ignored {
            continue;
        }
        hub.put_image(REPOSITORY, &format!("v{number}"), &image);
        let target = format!("/v2/{REPOSITORY}/manifests/v{number}?{query}");
        let mut client = proxy.client.raw();
        client.send(&request("GET", "1.1", &target, &[])).await;
        client.download().await.unwrap().finish().await.assert_is(&image.manifest.blob);
        for asked in hub.asked() {
            assert_eq!(asked.target, asked.path(), "row {row}, {query:.80}");
        }
        hub.forget();
    }
}
