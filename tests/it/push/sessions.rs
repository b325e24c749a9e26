//! The ids of uploads: sealed, so that only the client that was given one can go on by it.

use std::time::Duration;

use super::{begin, location, open, patch, put};
use crate::support::{Blob, ScriptedRegistry, Setup};

/// The part of a location that is the sealed id.
fn sealed(location: &str) -> &str {
    let path = location.split('?').next().unwrap();
    path.rsplit_once('/').unwrap().1
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_made_up_is_unknown_and_goes_no_further() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    hub.forget();
    let real = sealed(&begun).to_owned();
    let flipped = |at: usize| {
        let mut text = real.clone().into_bytes();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(text).unwrap()
    };

    let mut made_up = vec![
        "x".to_owned(),
        "upload-1".to_owned(),
        "00000000-0000-0000-0000-000000000000".to_owned(),
        "%2e%2e".to_owned(),
        "a".repeat(4000),
        format!("{real}A"),
        real[1..].to_owned(),
    ];
    made_up.extend([0, 1, 2, 15, 16, 17, real.len() / 2, real.len() - 1].map(flipped));
    for id in made_up {
        let path = format!("/v2/o/a/blobs/uploads/{id}");
        let reply = patch(&proxy, &path, b"x").await;
        assert_eq!(reply.error(404).0, "BLOB_UPLOAD_UNKNOWN", "{id:.40}");
    }
    hub.assert_not_asked();
    patch(&proxy, &begun, b"x").await.assert_status(202);
}

/// A session leads to one repository of one registry, by the door at which it was begun.
#[tokio::test(start_paused = true)]
async fn a_session_is_good_where_it_was_begun_and_nowhere_else() {
    let (hub, other) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    setup.registry("ghcr.io", &other).rules.push = true;
    let proxy = setup.start().await;
    let begun = begin(&proxy, "o/a").await;
    let id = sealed(&begun).to_owned();
    hub.forget();

    for elsewhere in [
        format!("/v2/o/b/blobs/uploads/{id}"),
        format!("/v2/docker.io/o/a/blobs/uploads/{id}"),
        format!("/docker.io/v2/o/a/blobs/uploads/{id}"),
        format!("/v2/ghcr.io/o/a/blobs/uploads/{id}"),
        format!("/v2/o/a/blobs/uploads/{id}?ns=ghcr.io"),
    ] {
        let reply = patch(&proxy, &elsewhere, b"x").await;
        assert_eq!(reply.error(404).0, "BLOB_UPLOAD_UNKNOWN", "{elsewhere:.60}");
    }
    hub.assert_not_asked();
    other.assert_not_asked();
    patch(&proxy, &begun, b"x").await.assert_status(202);
}

#[tokio::test(start_paused = true)]
async fn an_upload_session_expires_after_a_day_without_requests() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    hub.forget();

    proxy.clock.skip(Duration::from_secs(24 * 60 * 60));

    patch(&proxy, &begun, b"x").await.error(404);
    hub.assert_not_asked();
}

/// Every door has its locations, or a client would be led into another registry.
#[tokio::test(start_paused = true)]
async fn a_location_leads_in_by_the_door_that_the_client_came_by() {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.registry("docker.io", &ScriptedRegistry::new());
    setup.registry("ghcr.io", &hub).rules.push = true;
    let proxy = setup.start().await;
    let blob = Blob::random(1, 1000);
    for (prefix, query) in
        [("/v2/ghcr.io/o/a", ""), ("/ghcr.io/v2/o/a", ""), ("/v2/o/a", "?ns=ghcr.io")]
    {
        let reply = super::post(&proxy, &format!("{prefix}/blobs/uploads/{query}")).await;
        reply.assert_status(202);
        let begun = location(&reply);
        assert!(begun.starts_with(&format!("{prefix}/blobs/uploads/")), "{begun}");
        assert_eq!(begun.find('?').map_or("", |at| &begun[at..]), query);

        let reply = put(&proxy, &begun, &blob, &blob.bytes).await;
        reply.assert_status(201);
        let found = location(&reply);
        assert_eq!(found, format!("{prefix}/blobs/{}{query}", blob.digest));
        proxy.get(&found).await.assert_is(&blob);
    }
}

/// The upstream's location may be all that it takes to write there.
#[tokio::test(start_paused = true)]
async fn the_upstreams_session_is_hidden_from_clients() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let reply = super::post(&proxy, "/v2/o/a/blobs/uploads/").await;

    let shown = format!("{:?}", reply.headers);
    for secret in ["upload-1", "state=", "s3cr3t", "registry-1.docker.io"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

/// Sessions need no table: another process with the same key goes on with them.
#[tokio::test(start_paused = true)]
async fn an_upload_survives_a_restart() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 1000);
    let begun = begin(&proxy, "o/a").await;
    let appended = patch(&proxy, &begun, &blob.bytes).await;
    appended.assert_status(202);

    proxy.restart().await;

    put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);
    assert_eq!(hub.blob("o/a", &blob.digest).as_ref(), Some(&blob.bytes));
    proxy.get(&blob.path("o/a")).await.assert_is(&blob);
}
