//! Odd requests of pushes, by the rows of `tests/lists/hostile.tsv`.

use http::Method;

use super::{
    begin, copies, location, open, patch, post, push_image, put, put_manifest, with_digest,
};
use crate::support::image::{OCI_IMAGE, OCI_INDEX};
use crate::support::{Blob, Image, Manifest, Proxy, ScriptedRegistry};

/// Rows 119 to 126: no argument makes a mount that the registry did not make, or ends an upload
/// that it did not take.
#[tokio::test(start_paused = true)]
async fn no_argument_of_an_upload_does_more_than_it_may() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let (blob, other) = (Blob::random(1, 100), Blob::random(2, 100));
    let lost = Blob::random(3, 100);
    hub.put_blob("o/cached", &lost);
    proxy.get(&lost.path("o/cached")).await.assert_is(&lost);
    hub.collect_garbage("o/cached", &lost.digest);
    let uploads = "/v2/o/a/blobs/uploads/";
    let mount = |blob: &Blob, more: &str| format!("{uploads}?mount={}{more}", blob.digest);
    let table: [(u16, String, u16); 9] = [
        (119, mount(&blob, "&from=secret/repo"), 202),
        (120, mount(&blob, ""), 202),
        (121, mount(&blob, "&from=..%2F..%2Fx"), 202),
        (121, mount(&blob, "&from=%0d%0aX-Evil:%201"), 202),
        (122, format!("{uploads}?mount=garbage&from=o/a"), 400),
        (122, format!("{uploads}?mount=&from=o/a"), 400),
        (122, format!("{uploads}?mount={}&mount={}", blob.digest, other.digest), 400),
        // It is in the cache, and not in the registry any more.
        (123, mount(&lost, "&from=o/cached"), 202),
        (123, mount(&lost, ""), 202),
    ];
    for (row, path, status) in table {
        let reply = post(&proxy, &path).await;
        assert_eq!(reply.status.as_u16(), status, "{row}: {path}");
        assert!(!reply.headers.contains_key("x-evil"), "{row}");
    }
    assert!(hub.blob("o/a", &lost.digest).is_none());

    let wrong = format!("sha256:{}", "0".repeat(64));
    for (row, query, code) in [
        (124, String::new(), "DIGEST_INVALID"),
        (124, "?digest=".to_owned(), "DIGEST_INVALID"),
        (125, format!("?digest={wrong}"), "DIGEST_INVALID"),
        (126, format!("?digest={}&digest={}", blob.digest, other.digest), "DIGEST_INVALID"),
    ] {
        let begun = begin(&proxy, "o/a").await;
        let path = format!("{begun}{query}");
        let reply = proxy.client.send(Method::PUT, &path, &[], blob.bytes.clone()).await;
        assert_eq!(reply.error(400).0, code, "{row}");
        for digest in [&blob.digest, &other.digest] {
            assert!(hub.blob("o/a", digest).is_none(), "{row}");
            proxy.head(&format!("/v2/o/a/blobs/{digest}")).await.assert_status(404);
        }
    }
}

/// Row 129.
#[tokio::test(start_paused = true)]
async fn a_manifest_gets_64_tags_at_once_and_no_more() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let image = Image::random(1, &[]);
    let tags = |count: usize| {
        let tags: Vec<_> = (0..count).map(|it| format!("tag=t{it}")).collect();
        tags.join("&")
    };
    let by_digest = |query: &str| format!("{}?{query}", image.manifest.digest());

    push_image(&proxy, "o/a", "v0", &image).await;
    put_manifest(&proxy, "o/a", &by_digest(&tags(64)), &image.manifest).await.assert_status(201);
    hub.forget();
    for query in [tags(65), tags(1000), "tag=..%2Fx".to_owned(), "tag=".to_owned()] {
        let reply = put_manifest(&proxy, "o/a", &by_digest(&query), &image.manifest).await;
        assert_eq!(reply.error(400).0, "MANIFEST_INVALID", "{query:.40}");
    }
    put_manifest(&proxy, "o/a", "v1?tag=v2", &image.manifest).await.error(400);
    hub.assert_not_asked();
}

/// Row 189: what has ended is not there to be ended again.
#[tokio::test(start_paused = true)]
async fn an_upload_that_has_ended_is_unknown() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 100);
    let begun = begin(&proxy, "o/a").await;
    let appended = patch(&proxy, &begun, &blob.bytes).await;
    put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);

    for path in [&begun, &location(&appended)] {
        for method in [Method::PUT, Method::PATCH, Method::GET, Method::DELETE] {
            let reply = proxy.call(method.clone(), &with_digest(path, &blob)).await;
            assert_eq!(reply.error(404).0, "BLOB_UPLOAD_UNKNOWN", "{method}");
        }
    }
    proxy.get(&blob.path("o/a")).await.assert_is(&blob);
}

/// Row 192: how many uploads may be open is the registry's to say; here they take no room.
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_only_begun_takes_no_room() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    for _ in 0..1000 {
        begin(&proxy, "o/a").await;
    }
    assert_eq!((hub.uploads(), copies(&proxy)), (1000, 0));
}

/// The answer lists the methods that are there, and they work.
#[tokio::test(start_paused = true)]
async fn a_method_that_is_not_there_is_told_which_are() {
    let hub = ScriptedRegistry::new();
    let (open, closed) = (open(&hub).await, Proxy::before(&hub).await);
    let blob = Blob::random(1, 10);
    for (method, path, of_open, of_closed) in [
        (Method::HEAD, "/v2/o/a/tags/list", "GET", "GET"),
        (Method::POST, "/v2/o/a/manifests/v1", "GET, HEAD, PUT, DELETE", "GET, HEAD"),
        (Method::PATCH, &*blob.path("o/a"), "GET, HEAD, DELETE", "GET, HEAD"),
        (Method::GET, "/v2/o/a/blobs/uploads/", "POST", ""),
        (Method::POST, "/v2/", "GET, HEAD", "GET, HEAD"),
    ] {
        for (proxy, methods) in [(&open, of_open), (&closed, of_closed)] {
            let reply = proxy.call(method.clone(), path).await;
            reply.assert_status(405);
            assert_eq!(reply.header("allow"), Some(methods), "{method} {path}");
        }
    }
    let reply = post(&closed, "/v2/o/a/blobs/uploads/").await;
    assert_eq!(reply.header("allow"), Some(""));
    hub.assert_not_asked();
}

/// Rows 205 to 207 and 209: nothing that a manifest lists is looked at because it is listed.
#[tokio::test(start_paused = true)]
async fn manifests_that_list_themselves_or_far_too_much_are_opaque_bytes() {
    let (image, blob) = (Image::random(1, &[10]), Blob::random(1, 100));
    let listed = |kind: &str, digest: &dyn std::fmt::Display| {
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":100}}"#)
    };
    let own = listed("application/octet-stream", &blob.digest);
    let child = listed(OCI_IMAGE, image.manifest.digest());
    let missing = listed(OCI_IMAGE, &format!("sha256:{}", "0".repeat(64)));
    let many = vec![child.as_str(); 20_000].join(",");
    for (row, body) in [
        (205, format!(r#"{{"config":{own},"layers":[{own},{own}]}}"#)),
        (206, format!(r#"{{"manifests":[{child},{child}]}}"#)),
        (207, format!(r#"{{"manifests":[{many}]}}"#)),
        (209, format!(r#"{{"config":{own},"layers":[],"subject":{missing}}}"#)),
        (209, format!(r#"{{"config":{own},"layers":[],"subject":{own}}}"#)),
    ] {
        let hub = ScriptedRegistry::new();
        let proxy = open(&hub).await;
        super::push_blob(&proxy, "o/a", &blob).await.assert_status(201);
        push_image(&proxy, "o/a", "child", &image).await;
        let media_type = if body.contains("manifests") { OCI_INDEX } else { OCI_IMAGE };
        let manifest = Manifest::raw(media_type, body);
        hub.forget();

        put_manifest(&proxy, "o/a", "v1", &manifest).await.assert_status(201);
        assert_eq!(hub.asked().len(), 1, "{row}");
        proxy.get("/v2/o/a/manifests/v1").await.assert_is(&manifest.blob);
        assert_eq!(hub.asked().len(), 1, "{row}: what was pushed is here");
    }
}
