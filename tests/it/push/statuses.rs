//! Registries that answer a push with another 2xx than the protocol has. containerd and docker take
//! it; here it counts when the registry says that the content is there.

use bytes::Bytes;
use http::Method;

use super::{begin, location, open, patch, post, put, put_manifest};
use crate::support::{Blob, Fault, Image, ScriptedRegistry, When};

/// The other statuses that registries answer.
const OTHERS: [u16; 3] = [200, 202, 204];

#[tokio::test(start_paused = true)]
async fn an_upload_is_finished_by_any_2xx_if_the_registry_then_has_the_blob() {
    let blob = Blob::random(1, 1000);
    for status in OTHERS {
        for question in [None, Some(Fault::NoDigestHeader)] {
            for is_monolithic in [false, true] {
                // A 202 to a POST begins an upload.
                if is_monolithic && status == 202 {
                    continue;
                }
                let case = format!("{status} {question:?} {is_monolithic}");
                let hub = ScriptedRegistry::new();
                let proxy = open(&hub).await;
                let begun = begin(&proxy, "o/a").await;
                for method in ["PUT", "POST"] {
                    let when = When::asked("digest=").by(method);
                    hub.breaks(when, Fault::OtherStatus(status));
                }
                if let Some(fault) = &question {
                    hub.breaks(When::asked("/blobs/sha256").head(), fault.clone());
                }
                let reply = if is_monolithic {
                    let path = format!("/v2/o/a/blobs/uploads/?digest={}", blob.digest);
                    proxy.client.send(Method::POST, &path, &[], blob.bytes.clone()).await
                } else {
                    put(&proxy, &begun, &blob, &blob.bytes).await
                };

                // The status is the registry's: 201 means that it said 201.
                assert_eq!(reply.status.as_u16(), status, "{case}");
                assert_eq!(location(&reply), blob.path("o/a"), "{case}");
                let digest = reply.header("docker-content-digest");
                assert_eq!(digest, Some(blob.digest.as_str()), "{case}");
                proxy.head(&blob.path("o/a")).await.assert_status(200);
                hub.forget();
                proxy.get(&blob.path("o/a")).await.assert_is(&blob);
                assert!(hub.gets(&blob.digest).is_empty(), "{case}: it is in the cache");
            }
        }
    }
}

/// A login page answers 200 to everything.
#[tokio::test(start_paused = true)]
async fn an_upload_that_the_registry_does_not_confirm_is_not_acknowledged() {
    let blob = Blob::random(1, 1000);
    let page = || Fault::Html200;
    let absent = || Fault::status(404);
    let length = |length: &str| Fault::Header("Content-Length", length.to_owned());
    let zeros = || Fault::WrongDigestHeader(format!("sha256:{}", "0".repeat(64)));
    for status in OTHERS {
        for answers in [
            vec![page()],
            vec![absent()],
            vec![Fault::status(500)],
            vec![Fault::HeadNotAllowed],
            vec![zeros()],
            vec![Fault::NoDigestHeader, length("999")],
        ] {
            let hub = ScriptedRegistry::new();
            let proxy = open(&hub).await;
            let begun = begin(&proxy, "o/a").await;
            hub.breaks(When::asked("digest=").by("PUT"), Fault::OtherStatus(status));
            let case = format!("{status} {answers:?}");
            for answer in answers {
                hub.breaks(When::asked("/blobs/sha256").head(), answer);
            }

            let (_, message) = put(&proxy, &begun, &blob, &blob.bytes).await.error(502);

            assert!(message.contains(&status.to_string()), "{case}: {message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_taken_with_any_2xx_if_the_registry_then_has_it() {
    let image = Image::random(1, &[]);
    let digest = image.manifest.digest().to_string();
    for status in OTHERS {
        for reference in ["v1", digest.as_str()] {
            let hub = ScriptedRegistry::new();
            hub.put_image("o/a", "old", &image);
            let proxy = open(&hub).await;
            hub.breaks(When::asked("/manifests/").by("PUT"), Fault::OtherStatus(status));

            let reply = put_manifest(&proxy, "o/a", reference, &image.manifest).await;

            assert_eq!(reply.status.as_u16(), status, "{reference}");
            assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
            hub.forget();
            let path = format!("/v2/o/a/manifests/{reference}");
            proxy.get(&path).await.assert_is(&image.manifest.blob);
            hub.assert_not_asked();
        }
    }
}

/// A tag that may have moved all the same is not served from before.
#[tokio::test(start_paused = true)]
async fn a_manifest_that_the_registry_does_not_confirm_is_not_acknowledged() {
    let (old, new) = (Image::random(1, &[]), Image::random(2, &[]));
    for status in OTHERS {
        for (question, put_is_done) in [
            (Some(Fault::Html200), false),
            (Some(Fault::status(404)), false),
            (Some(Fault::HeadNotAllowed), false),
            (Some(Fault::NoDigestHeader), true),
            // It still has the old one.
            (None, false),
        ] {
            let hub = ScriptedRegistry::new();
            hub.put_image("o/a", "v1", &old);
            hub.put_image("o/a", "new", &new);
            let proxy = open(&hub).await;
            let path = "/v2/o/a/manifests/v1";
            proxy.get(path).await.assert_is(&old.manifest.blob);
            let when = When::asked("/manifests/v1").by("PUT");
            let case = format!("{status} {question:?}");
            let instead = Fault::Status(status, Vec::new(), "{}");
            hub.breaks(when, if put_is_done { Fault::OtherStatus(status) } else { instead });
            if let Some(fault) = question {
                hub.breaks(When::asked("/manifests/v1").head(), fault);
            }

            put_manifest(&proxy, "o/a", "v1", &new.manifest).await.error(502);

            hub.heal();
            let now = if put_is_done { &new } else { &old };
            assert_eq!(proxy.get(path).await.body, now.manifest.blob.bytes, "{case}");
        }
    }
}

/// An upload goes on where the registry says, whichever 2xx it says it with.
#[tokio::test(start_paused = true)]
async fn an_upload_begins_and_goes_on_with_any_2xx_that_has_a_location() {
    let blob = Blob::random(1, 1000);
    for begins in OTHERS {
        for appends in [200, 201, 202, 204] {
            for mount in ["", "?mount=sha256:", "?digest=sha256:"] {
                let hub = ScriptedRegistry::new();
                let proxy = open(&hub).await;
                hub.breaks(When::asked("/uploads/").by("PATCH"), Fault::OtherStatus(appends));
                let zeros = if mount.is_empty() { String::new() } else { "0".repeat(64) };
                let path = format!("/v2/o/a/blobs/uploads/{mount}{zeros}");
                let case = format!("{path} {begins} {appends}");
                let begun = if mount.contains("digest") {
                    let state = "/v2/o/a/blobs/uploads/upload-1?state=1".to_owned();
                    let begun = begin(&proxy, "o/a").await;
                    let headers = vec![("Location", state)];
                    hub.breaks(When::asked(&zeros), Fault::Status(begins, headers, ""));
                    let reply = post(&proxy, &path).await;
                    assert_ne!(location(&reply), begun);
                    reply
                } else {
                    hub.breaks(When::asked("/uploads/").by("POST"), Fault::OtherStatus(begins));
                    post(&proxy, &path).await
                };

                // skopeo takes nothing but 202.
                assert_eq!(begun.status, 202, "{case}");
                let appended = patch(&proxy, &location(&begun), &blob.bytes).await;
                assert_eq!(appended.status, 202, "{case}");
                put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);
                proxy.get(&blob.path("o/a")).await.assert_is(&blob);
            }
        }
    }
}

/// And a page without one begins nothing.
#[tokio::test(start_paused = true)]
async fn a_2xx_without_a_location_begins_no_upload() {
    let digest = Blob::random(1, 10).digest;
    for status in [200, 201, 202, 203, 204, 205, 206, 226] {
        for query in
            [String::new(), format!("?mount={digest}"), format!("?mount={digest}&from=o/b")]
        {
            let hub = ScriptedRegistry::new();
            let proxy = open(&hub).await;
            let fault = Fault::Status(status, Vec::new(), "<html>");
            hub.breaks(When::asked("/uploads/").by("POST"), fault);
            let path = format!("/v2/o/a/blobs/uploads/{query}");
            let reply = proxy.client.send(Method::POST, &path, &[], Bytes::new()).await;
            // A mount is done with 201 alone.
            let want = if status == 201 && !query.is_empty() { 201 } else { 502 };
            assert_eq!(reply.status, want, "{status} {query}");
        }
    }
}
