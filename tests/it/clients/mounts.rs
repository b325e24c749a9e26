//! A mount tells and gives what reading gives: nothing to who may not read.

use http::Method;
use larder::access::AnonymousAccess;

use super::{ANN, BEN, GRANTS, SECOND, USERS, ann, ask, asking, ben, get, pull, put, shown};
use crate::support::{Blob, Fault, Image, Log, Proxy, Reply, ScriptedRegistry, Setup, When};

/// A proxy of corp.test, which takes pushes, with Ann's `team/app` in its cache. Ben may push to
/// his own.
async fn warm() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[200_000, 10]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    let users = [ann(&["team/*:pull,push"]), ben(&["ben/*:pull,push", "no/*:pull"])];
    put(&mut setup, "corp.test", &hub, &users);
    setup.settings.registries[0].rules.push = true;
    setup.access = asking(AnonymousAccess::None);
    let proxy = setup.start().await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    hub.forget();
    (hub, image, proxy)
}

/// An answer without the names of uploads, which are each another one.
fn shown_of_upload(reply: &Reply) -> String {
    let text = shown(reply);
    let Some(location) = reply.header("location") else { return text };
    let (path, id) = location.rsplit_once('/').unwrap();
    assert!(path.ends_with("/blobs/uploads"), "{path}");
    text.replace(id, "ID")
}

/// The requests to the registry, which are the same for one digest or repository as for another.
fn asked(hub: &ScriptedRegistry, names: &[(&str, &str)]) -> Vec<String> {
    let asked = hub.asked();
    let shown = asked.iter().map(|it| {
        let line = format!("{} {}", it.method, it.target);
        names.iter().fold(line, |line, (name, instead)| line.replace(name, instead))
    });
    shown.collect()
}

/// zot's CVE-2024-39897 by way of a mount: whether there is one tells who has a layer, and a mount
/// gives it away.
#[tokio::test(start_paused = true)]
async fn a_mount_from_another_tenants_repository_is_answered_like_one_from_an_absent_one() {
    let log = Log::of_everything();
    let (hub, image, proxy) = warm().await;
    let unknown = Blob::random(99, 10).digest;
    for number in 0..4 {
        let layer = &image.layers[number % 2].digest;
        let (door, from) = [("/v2/", ""), ("/v2/corp.test/", "corp.test/")][number / 2];
        let query = |digest: &dyn std::fmt::Display, from: &str| {
            format!("{door}ben/app/blobs/uploads/?mount={digest}{from}")
        };
        let pairs = [
            (
                query(layer, &format!("&from={from}team/app")),
                query(layer, &format!("&from={from}no/such")),
            ),
            (query(layer, ""), query(&unknown, "")),
            (
                query(layer, &format!("&from={from}no/such")),
                query(&unknown, &format!("&from={from}no/such")),
            ),
        ];
        for (theirs, absent) in pairs {
            let names = [
                ("team/app", "REPOSITORY"),
                ("team%2Fapp", "REPOSITORY"),
                ("no/such", "REPOSITORY"),
                ("no%2Fsuch", "REPOSITORY"),
                (layer.as_str(), "DIGEST"),
                (unknown.as_str(), "DIGEST"),
            ];
            // A refused right is not asked for again for some seconds.
            tokio::time::advance(std::time::Duration::from_secs(6)).await;
            // The login of a push is about no repository.
            get(&proxy, "/v2/", ("ben", BEN)).await.assert_status(200);
            hub.forget();
            let one = ask(&proxy.client, Method::POST, &theirs, ("ben", BEN)).await;
            let of_one = asked(&hub, &names);
            hub.forget();
            let other = ask(&proxy.client, Method::POST, &absent, ("ben", BEN)).await;
            assert_eq!(one.status, 202, "{theirs}: {}", one.text());
            assert_eq!(shown_of_upload(&one), shown_of_upload(&other), "{theirs}");
            let tokens = |it: &String| !it.contains("/token");
            let of_one: Vec<_> = of_one.into_iter().filter(tokens).collect();
            let of_other: Vec<_> = asked(&hub, &names).into_iter().filter(tokens).collect();
            assert_eq!(of_one, of_other, "nor does it take longer: {theirs}");
            assert!(!hub.askers().contains(&"ann".to_owned()), "{theirs}");
        }
        assert!(hub.blob("ben/app", layer).is_none(), "nothing was given away");
    }
    log.assert_without(&[ANN, BEN], &USERS);
}

/// Nor does anything tell that comes after it.
#[tokio::test(start_paused = true)]
async fn a_blob_of_another_tenant_is_not_reported_where_it_was_not_mounted() {
    let (hub, image, proxy) = warm().await;
    let layer = &image.layers[0];
    let path = format!("/v2/ben/app/blobs/uploads/?mount={}&from=team/app", layer.digest);
    ask(&proxy.client, Method::POST, &path, ("ben", BEN)).await.assert_status(202);
    for method in [Method::HEAD, Method::GET] {
        let reply = ask(&proxy.client, method, &layer.path("ben/app"), ("ben", BEN)).await;
        assert_eq!(reply.status, 404);
    }
    // Into what is not his either: the registry says what it says of any other.
    let into = |repository: &str| {
        format!("/v2/{repository}/blobs/uploads/?mount={}&from=ben/app", layer.digest)
    };
    let one = ask(&proxy.client, Method::POST, &into("team/app"), ("ben", BEN)).await;
    let other = ask(&proxy.client, Method::POST, &into("no/such"), ("ben", BEN)).await;
    assert_eq!((one.status.as_u16(), shown(&one)), (401, shown(&other)));
    assert_eq!(hub.askers(), ["ben"]);
}

/// A client that may read both repositories need not send the blob again, whether it knows that or
/// not.
#[tokio::test(start_paused = true)]
async fn a_client_that_may_read_the_source_can_mount_from_it() {
    let (hub, image, proxy) = warm().await;
    for (layer, query) in [(&image.layers[0], "&from=team/app"), (&image.layers[1], "")] {
        let path = format!("/v2/team/other/blobs/uploads/?mount={}{query}", layer.digest);
        let reply = ask(&proxy.client, Method::POST, &path, ("ann", ANN)).await;
        assert_eq!(reply.status, 201, "{query}: {}", reply.text());
        assert!(hub.blob("team/other", &layer.digest).is_some());
        get(&proxy, &layer.path("team/other"), ("ann", ANN)).await.assert_is(layer);
    }
    assert_eq!(hub.askers(), ["ann"]);
}

/// A blob that is read within a grace period stays here; a mount would give it away for good.
#[tokio::test(start_paused = true)]
async fn a_grant_within_grant_grace_is_not_enough_to_mount() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000, 2000]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &hub, &[ann(&["team/*:pull,push"]), ben(&["team/b:pull,push"])]);
    setup.settings.registries[0].rules.push = true;
    setup.access = asking(AnonymousAccess::None);
    let proxy = setup.start().await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    let mounted = async |number: usize, user, from: &str| {
        let digest = &image.layers[number].digest;
        let path = format!("/v2/team/b/blobs/uploads/?mount={digest}{from}");
        let reply = ask(&proxy.client, Method::POST, &path, user).await;
        let tried = hub.changes("POST", "from=team%2Fapp").len();
        hub.forget();
        (reply.status.as_u16(), tried)
    };

    assert_eq!(mounted(0, ("ann", ANN), "").await, (201, 1));
    for from in ["", "&from=team/app"] {
        assert_eq!(mounted(1, ("ben", BEN), from).await, (202, 0), "what he may not read");
    }
    tokio::time::advance(GRANTS.ttl + SECOND).await;
    hub.breaks(When::asked("").head(), Fault::status(500));
    for from in ["", "&from=team/app"] {
        assert_eq!(mounted(1, ("ann", ANN), from).await, (202, 0));
    }
    get(&proxy, &image.layers[1].path("team/app"), ("ann", ANN)).await.assert_is(&image.layers[1]);
}
