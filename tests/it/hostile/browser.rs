//! Content that a browser would run, had it been led here: nothing that a tenant pushes or an
//! upstream answers is a page.

use http::Method;

use crate::support::metrics;
use crate::support::{Blob, Fault, Manifest, Proxy, Reply, ScriptedRegistry, Setup, When};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const REPOSITORY: &str = "team/app";
const LATEST: &str = "/v2/team/app/manifests/latest";

/// Types by which some browser runs, renders or guesses.
const RUN_BY_BROWSERS: [&str; 8] = [
    "text/html",
    "Text/HTML; charset=utf-8",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/xml",
    "application/javascript",
    "application/vnd.mozilla.xul+xml",
    "multipart/x-mixed-replace",
];

#[track_caller]
fn assert_inert(reply: &Reply, what: &str) {
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{what}");
    let policy = reply.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{what}");
    let media_type = reply.header("content-type").unwrap_or("application/json");
    let is_known = media_type.starts_with("application/vnd.oci.")
        || ["application/json", "application/octet-stream", "text/plain; charset=utf-8"]
            .contains(&media_type)
        || media_type.starts_with("application/openmetrics-text")
        || media_type.starts_with("text/plain;");
    assert!(is_known, "{what}: {media_type}");
}

async fn before(hub: &ScriptedRegistry) -> Proxy {
    let mut setup = Setup::new();
    setup.registry("docker.io", hub).rules.push = true;
    setup.start().await
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_served_as_a_manifest_whatever_its_upstream_calls_it() {
    let page = r#"{"schemaVersion":2,"manifests":[],"x":"<script>alert(1)</script>"}"#;
    let own = format!(r#"{{"schemaVersion":2,"manifests":[],"mediaType":"{OCI_INDEX}"}}"#);
    for media_type in RUN_BY_BROWSERS {
        let claimed = format!(r#"{{"schemaVersion":2,"manifests":[],"mediaType":"{media_type}"}}"#);
        for (header, body) in
            [(media_type, page), (media_type, &own), (media_type, &claimed), (OCI_INDEX, &claimed)]
        {
            let manifest = Manifest::raw(header, body.to_owned());
            let hub = ScriptedRegistry::new();
            hub.put_tagged(REPOSITORY, "latest", &manifest);
            let proxy = before(&hub).await;
            for round in ["cold", "warm", "after a restart"] {
                for path in [LATEST, &manifest.path(REPOSITORY)] {
                    for method in [Method::GET, Method::HEAD] {
                        let what = format!("{round}: {method} {path}, {header}, {body}");
                        let reply = proxy.call(method, path).await;
                        reply.assert_status(200);
                        assert_inert(&reply, &what);
                        assert_eq!(reply.header("content-type"), Some(OCI_INDEX), "{what}");
                    }
                }
                proxy.restart().await;
            }
        }
    }
}

/// Bytes that are no manifest by any word but a browser's are none.
#[tokio::test(start_paused = true)]
async fn a_page_in_place_of_a_manifest_is_no_manifest() {
    for media_type in RUN_BY_BROWSERS {
        for page in ["<html><script>alert(1)</script></html>", r#"{"<script>":1}"#] {
            let hub = ScriptedRegistry::new();
            let headers = vec![("Content-Type", media_type.to_owned())];
            hub.breaks(When::asked("/manifests/"), Fault::Status(200, headers, page));
            let proxy = before(&hub).await;
            let reply = proxy.get(LATEST).await;
            assert!(reply.status.is_server_error(), "{media_type} {page}: {}", reply.status);
            assert_inert(&reply, media_type);
            assert!(!reply.text().contains("<script>"), "{}", reply.text());
        }
    }
}

/// Requests that a browser can be led to, also by a form or an image of another site.
#[tokio::test(start_paused = true)]
async fn every_answer_tells_browsers_to_guess_and_run_nothing() {
    let hub = ScriptedRegistry::new();
    hub.knows_lists();
    let page = Blob::new("<html><script>alert(1)</script></html>");
    let manifest = Manifest::raw(OCI_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#);
    hub.put_tagged(REPOSITORY, "latest", &manifest);
    hub.put_blob(REPOSITORY, &page);
    let proxy = before(&hub).await;
    let blob = page.path(REPOSITORY);
    let paths = [
        "/",
        "/v2/",
        "/v2/%3Cscript%3E",
        "/favicon.ico",
        LATEST,
        "/v2/team/app/manifests/none",
        "/v2/team/app/tags/list",
        "/v2/team/app/tags/list?n=0",
        "/v2/team/app/blobs/uploads/x",
        "/v2/team/app/blobs/uploads/",
        &blob,
    ];
    for path in paths {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
            let reply = proxy.call(method.clone(), path).await;
            assert_inert(&reply, &format!("{method} {path}: {}", reply.status));
        }
    }
    for headers in [[("range", "bytes=0-3")], [("range", "bytes=0-1,4-5")], [("range", "bytes=9-")]]
    {
        let reply = proxy.get_with(&blob, &headers).await;
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{headers:?}");
    }
    let reply = proxy.get_with(&blob, &[("if-none-match", "*")]).await;
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    let admin = proxy.admin();
    for path in ["/healthz", "/readyz", "/metrics", "/script"] {
        let reply = metrics::ask(&admin, Method::GET, path, "text/html").await;
        assert_inert(&reply, path);
    }
}
