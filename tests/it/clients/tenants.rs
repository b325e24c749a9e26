//! Content of one client is not served to another, by any way to ask for it.

use http::Method;
use larder::access::{AccessOptions, AnonymousAccess, HtpasswdUsers, UserTable};

use super::{
    ANN, BEN, LATEST, LOCAL, REALM, SECOND, USERS, WRONG, ann, ask, ask_with, asking,
    assert_challenged, ben, corp, corp_at, get, pull, put, shown,
};
use crate::support::registry::basic;
use crate::support::{
    Auth, Blob, Fault, Gate, Image, Log, ScriptedRegistry, Setup, TAG_TTL, When, settle,
};

/// A method, what of a repository, and a header more.
type Way = (Method, String, Option<(&'static str, &'static str)>);

/// All that can be asked for of an image.
fn ways(image: &Image) -> [Way; 14] {
    let (manifest, layer) = (image.manifest.digest(), &image.layers[0].digest);
    [
        (Method::GET, "manifests/latest".to_owned(), None),
        (Method::HEAD, "manifests/latest".to_owned(), None),
        (Method::GET, format!("manifests/{manifest}"), None),
        (Method::HEAD, format!("manifests/{manifest}"), None),
        (Method::GET, format!("blobs/{layer}"), None),
        (Method::HEAD, format!("blobs/{layer}"), None),
        (Method::GET, format!("blobs/{layer}"), Some(("range", "bytes=0-0"))),
        (Method::GET, format!("blobs/{layer}"), Some(("range", "bytes=100-,0-5"))),
        (Method::GET, format!("blobs/{layer}"), Some(("if-none-match", "*"))),
        (Method::GET, format!("blobs/{manifest}"), None),
        (Method::GET, format!("referrers/{manifest}"), None),
        (Method::GET, "tags/list".to_owned(), None),
        (Method::GET, "tags/list?n=1&last=a".to_owned(), None),
        (Method::GET, "tags/list?n=0".to_owned(), None),
    ]
}

/// A cache that knows more than its clients may know is asked what it knows.
#[tokio::test(start_paused = true)]
async fn other_tenants_content_is_answered_like_absent_content_on_every_route() {
    let doors =
        [("/v2/", ""), ("/v2/corp.test/", ""), ("/corp.test/v2/", ""), ("/v2/", "ns=corp.test")];
    // As the default of all hosts, and by the host.
    for hosts in [&[][..], &["larder.test"]] {
        let log = Log::of_everything();
        let rights = ben(&["ben/*:pull", "no/*:pull"]);
        let (hub, image, proxy) = corp_at(hosts, &[ann(&["team/*:pull"]), rights]).await;
        pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        get(&proxy, "/v2/team/app/tags/list", ("ann", ANN)).await.assert_status(200);
        hub.forget();
        for ((door, namespace), (method, what, header)) in
            doors.iter().flat_map(|door| ways(&image).map(|way| (door, way)))
        {
            let more: Vec<_> = header.into_iter().collect();
            let and = if what.contains('?') { '&' } else { '?' };
            let path = |repository: &str| format!("{door}{repository}/{what}{and}{namespace}");
            let (warm, absent) = (path("team/app"), path("no/such"));
            let user = ("ben", BEN);
            let one = ask_with(&proxy.client, method.clone(), &warm, user, &more).await;
            let other = ask_with(&proxy.client, method.clone(), &absent, user, &more).await;
            assert_eq!(one.status, 404, "{method} {warm} {}", one.text());
            assert_eq!(shown(&one), shown(&other), "{method} {warm}");
        }
        assert_eq!(hub.askers(), ["ben"], "and nobody else's credential was used for it");
        log.assert_without(&[ANN, BEN], &USERS);
    }
}

/// A client that may read elsewhere sees no difference either between content that does not exist
/// and content of others.
#[tokio::test(start_paused = true)]
async fn other_tenants_digests_are_answered_like_digests_that_the_own_repository_lacks() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"]), ben(&["ben/*:pull"])]).await;
    hub.put_image("ben/app", "latest", &image);
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "ben/app", &image, ("ben", BEN)).await;
    let foreign = Blob::random(9, 10).digest;
    for (theirs, own) in [
        ("manifests/latest".to_owned(), "manifests/none".to_owned()),
        (format!("blobs/{}", image.layers[0].digest), format!("blobs/{foreign}")),
    ] {
        let one = get(&proxy, &format!("/v2/team/app/{theirs}"), ("ben", BEN)).await;
        let other = get(&proxy, &format!("/v2/ben/app/{own}"), ("ben", BEN)).await;
        assert_eq!(shown(&one), shown(&other), "{theirs}");
    }
}

/// One client that loses its right must not take the tag from others, nor the question.
#[tokio::test(start_paused = true)]
async fn a_refusal_to_one_client_is_not_reused_for_another() {
    let both = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&both).await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    tokio::time::advance(TAG_TTL + SECOND).await;
    hub.requires(Auth::users(REALM, &both[1..]));
    let gate = Gate::new();
    hub.breaks(When::asked("/token"), Fault::HoldHeaders(gate.clone()));

    let of_ann = tokio::spawn({
        let client = proxy.client.clone();
        async move { ask(&client, Method::GET, LATEST, ("ann", ANN)).await }
    });
    gate.reached().await;
    let of_ben = tokio::spawn({
        let client = proxy.client.clone();
        async move { ask(&client, Method::GET, LATEST, ("ben", BEN)).await }
    });
    settle().await;
    hub.heal();
    gate.open();

    assert_challenged(&of_ann.await.unwrap());
    of_ben.await.unwrap().assert_is(&image.manifest.blob);
    // She had been let in for a while more, but the registry has said no.
    assert_challenged(&get(&proxy, &image.layers[0].path("team/app"), ("ann", ANN)).await);
}

/// A 404 for one client says nothing to another.
#[tokio::test(start_paused = true)]
async fn a_404_is_cached_for_the_client_that_got_it_alone() {
    let both = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&both).await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    let path = "/v2/team/app/manifests/v2";
    get(&proxy, path, ("ann", ANN)).await.error(404);
    hub.put_image("team/app", "v2", &image);
    get(&proxy, path, ("ben", BEN)).await.assert_is(&image.manifest.blob);
}

/// The password for one registry goes to no other.
#[tokio::test(start_paused = true)]
async fn two_private_registries_never_see_each_others_credentials() {
    let log = Log::of_everything();
    let (one, other) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[10]);
    let mut setup = Setup::new();
    put(&mut setup, "one.test", &one, &[ann(&["team/*:pull"])]);
    setup.settings.registries[0].hosts = vec!["one.larder".parse().unwrap()];
    put(&mut setup, "other.test", &other, &[ben(&["team/*:pull"])]);
    setup.settings.registries[1].hosts = vec!["other.larder".parse().unwrap()];
    setup.access = asking(AnonymousAccess::Pull);
    one.put_image("team/app", "latest", &image);
    other.put_image("team/app", "latest", &image);
    let proxy = setup.start().await;
    let at = async |host: &str, path: &str, user: (&str, &str)| {
        ask_with(&proxy.client, Method::GET, path, user, &[("host", host)]).await
    };
    at("one.larder", LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    at("other.larder", LATEST, ("ben", BEN)).await.assert_is(&image.manifest.blob);
    assert_challenged(&at("one.larder", LATEST, ("ben", BEN)).await);
    assert_challenged(&at("one.larder", "/v2/", ("ben", BEN)).await);
    for elsewhere in
        [format!("{LATEST}?ns=other.test"), "/other.test/v2/team/app/manifests/latest".to_owned()]
    {
        at("one.larder", &elsewhere, ("ann", ANN)).await.error(404);
        at("one.larder", &elsewhere, ("ben", BEN)).await.error(404);
    }
    for path in ["/v2/one.test/team/app/manifests/latest", "/one.test/v2/team/app/manifests/latest"]
    {
        at("larder.test", path, ("ann", ANN)).await.error(404);
    }
    let is_of = |hub: &ScriptedRegistry, secret: &str| {
        let shown = |it: &std::sync::Arc<crate::support::registry::Asked>| format!("{it:?}");
        let all: String = hub.asked().iter().map(shown).collect();
        all.contains(&basic(if secret == ANN { "ann" } else { "ben" }, secret))
    };
    assert!(is_of(&one, ANN) && is_of(&other, BEN));
    assert!(!is_of(&other, ANN), "the other one has seen hers");
    log.assert_without(&[ANN, BEN], &USERS);
}

/// A user of Larder's own and a user of the registry's meet at one host.
#[tokio::test(start_paused = true)]
async fn a_password_for_larder_and_one_for_the_registry_are_kept_apart() {
    let log = Log::of_everything();
    let (corp, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[10]);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &corp, &[ann(&["team/*:pull"])]);
    setup.registry("hub.test", &hub);
    corp.put_image("team/app", "latest", &image);
    hub.put_image("team/app", "latest", &image);
    let line = format!("local:{}\n", bcrypt::hash_with_result(LOCAL, 4).unwrap());
    setup.access = AccessOptions {
        htpasswd: Some(HtpasswdUsers::new(UserTable::parse(line.as_bytes()).unwrap())),
        ..asking(AnonymousAccess::None)
    };
    let proxy = setup.start().await;
    let of_hub = "/v2/hub.test/team/app/manifests/latest";

    get(&proxy, of_hub, ("local", LOCAL)).await.assert_is(&image.manifest.blob);
    get(&proxy, "/v2/", ("local", LOCAL)).await.assert_status(200);
    assert_challenged(&get(&proxy, of_hub, ("local", WRONG)).await);
    assert_challenged(&get(&proxy, "/v2/", ("local", WRONG)).await);
    get(&proxy, LATEST, ("local", LOCAL)).await.error(404);
    get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    assert_challenged(&get(&proxy, of_hub, ("ann", ANN)).await);

    assert!(hub.asked().iter().all(|asked| !asked.has_credential()));
    assert_eq!(corp.askers(), ["ann", "nobody"], "who is known here is nobody there");
    log.assert_without(&[ANN, LOCAL, WRONG], &USERS);
}

/// A registry may warn a client of what is the client's own, as its quota.
#[tokio::test(start_paused = true)]
async fn a_warning_to_one_client_reaches_no_other() {
    let users = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&users).await;
    let warning = "299 - \"ann, your quota is used up\"".to_owned();
    hub.breaks(When::asked("/manifests/"), Fault::Header("Warning", warning));
    for user in [("ann", ANN), ("ben", BEN)] {
        for path in [LATEST, &image.manifest.path("team/app")] {
            let reply = get(&proxy, path, user).await;
            reply.assert_is(&image.manifest.blob);
            assert_eq!(reply.header("warning"), None, "{path}");
        }
    }
}

/// A ping names its registry by the same doors as a pull, and the password is for that one.
#[tokio::test(start_paused = true)]
async fn a_password_in_a_ping_of_another_registry_is_sent_to_none() {
    let (corp, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &corp, &[ann(&["team/*:pull"])]);
    setup.registry("hub.test", &hub).hosts = vec!["hub.larder".parse().unwrap()];
    setup.access = asking(AnonymousAccess::Pull);
    let proxy = setup.start().await;
    let ping = async |host: &str, path: &str, user| {
        ask_with(&proxy.client, Method::GET, path, user, &[("host", host)]).await
    };

    for (host, path) in [
        ("hub.larder", "/v2/"),
        ("hub.larder", "/v2"),
        ("hub.larder", "/v2/?ns=hub.test"),
        ("hub.larder", "/hub.test/v2/"),
        ("larder.test", "/v2/?ns=hub.test"),
        ("larder.test", "/v2/?ns=HUB.test"),
        ("larder.test", "/hub.test/v2/"),
    ] {
        for user in [("ann", ANN), ("ann", WRONG)] {
            ping(host, path, user).await.assert_status(200);
            corp.assert_not_asked();
            hub.assert_not_asked();
        }
    }

    for path in ["/v2/", "/v2/?ns=corp.test", "/corp.test/v2/"] {
        ping("larder.test", path, ("ann", ANN)).await.assert_status(200);
        assert_eq!(ping("larder.test", path, ("ann", WRONG)).await.status, 401, "{path}");
    }
    assert!(corp.askers().contains(&"ann".to_owned()), "its own pings reach the registry");
    hub.assert_not_asked();
}
