//! Access: passwords, certificates, rules.

use http::Method;
use larder::access::{
    AccessOptions, AccessPolicy, AccessRule, Action, AnonymousAccess, CertificateUser,
    ChallengePolicy, HtpasswdUsers, UserTable,
};
use larder::http::ClientPeer;

use crate::support::registry::basic;
use crate::support::{Client, Image, Log, Proxy, Reply, ScriptedRegistry, Setup};

/// Canaries: no log, error or upstream may ever have them.
const ANN: &str = "canary-of-ann";
const BEN: &str = "canary-of-ben";
const WRONG: &str = "canary-that-is-wrong";
const USERS: [&str; 3] = ["ann", "ben", "eve"];

fn users(of: &[(&str, &str)]) -> HtpasswdUsers {
    let line = |(user, password): &(&str, &str)| {
        let hash = bcrypt::hash_with_result(password, 4).unwrap();
        format!("{user}:{hash}\n")
    };
    let text: String = of.iter().map(line).collect();
    HtpasswdUsers::new(UserTable::parse(text.as_bytes()).unwrap())
}

fn rule(users: &str, repositories: &str, actions: &[Action]) -> AccessRule {
    AccessRule {
        users: vec![users.parse().unwrap()],
        registries: Vec::new(),
        repositories: vec![repositories.parse().unwrap()],
        actions: actions.to_vec(),
    }
}

fn guarded(anonymous: AnonymousAccess, rules: Vec<AccessRule>) -> AccessOptions {
    AccessOptions {
        challenge: ChallengePolicy::Basic,
        policy: AccessPolicy { anonymous, rules },
        htpasswd: Some(users(&[("ann", ANN), ("ben", BEN)])),
        certificates: Vec::new(),
    }
}

/// A mirror of docker.io with `team/app` and `open/app` in its cache already.
async fn warm(access: AccessOptions) -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[70_000, 10]);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    let proxy = setup.start().await;
    for repository in ["team/app", "open/app"] {
        hub.put_image(repository, "latest", &image);
        proxy.pull(repository, "latest", &image).await;
    }
    proxy.stop().await;
    let mut setup = proxy.outlive();
    setup.access = access;
    let proxy = setup.start().await;
    hub.forget();
    (hub, image, proxy)
}

/// Every way to see or change something in a repository, through every door.
fn requests(repository: &str, image: &Image) -> Vec<(Method, String)> {
    let (manifest, layer) = (image.manifest.digest(), &image.layers[0].digest);
    let reads = [
        "manifests/latest".to_owned(),
        format!("manifests/{manifest}"),
        format!("blobs/{layer}"),
        format!("blobs/{manifest}"),
        format!("referrers/{manifest}"),
        "tags/list".to_owned(),
        "tags/list?n=0".to_owned(),
    ];
    let writes = [
        (Method::PUT, "manifests/latest".to_owned()),
        (Method::DELETE, "manifests/latest".to_owned()),
        (Method::DELETE, format!("manifests/{manifest}")),
        (Method::DELETE, format!("blobs/{layer}")),
        (Method::POST, "blobs/uploads/".to_owned()),
        (Method::POST, format!("blobs/uploads/?mount={layer}")),
        (Method::POST, format!("blobs/uploads/?mount={layer}&from=team/app")),
        (Method::PATCH, "blobs/uploads/x".to_owned()),
        (Method::PUT, format!("blobs/uploads/x?digest={layer}")),
        (Method::GET, "blobs/uploads/x".to_owned()),
        (Method::DELETE, "blobs/uploads/x".to_owned()),
    ];
    let heads = reads.iter().take(4).map(|path| (Method::HEAD, path.clone()));
    let gets = reads.iter().map(|path| (Method::GET, path.clone()));
    let doors = ["/v2/", "/v2/docker.io/", "/docker.io/v2/"];
    let all: Vec<_> = gets.chain(heads).chain(writes).collect();
    let at = |door: &&str| {
        let door = (*door).to_owned();
        let path = move |(method, path): &(Method, String)| {
            (method.clone(), format!("{door}{repository}/{path}"))
        };
        all.iter().map(path).collect::<Vec<_>>()
    };
    doors.iter().flat_map(at).collect()
}

async fn send(client: &Client, method: &Method, path: &str, user: Option<(&str, &str)>) -> Reply {
    let header = user.map(|(user, password)| basic(user, password));
    let headers: Vec<_> = header.iter().map(|value| ("authorization", value.as_str())).collect();
    client.call(method.clone(), path, &headers).await
}

/// The parts of an answer that could tell it from another: all but the request's id.
fn shown(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let id = text.split_once(r#""request_id":""#).map(|(_, rest)| rest[..16].to_owned());
    let text = id.map_or(text.clone(), |id| text.replace(&id, "ID"));
    let mut headers = reply.headers.clone();
    headers.remove("date");
    format!("{} {headers:?} {text}", reply.status)
}

#[track_caller]
fn assert_challenged(reply: &Reply, what: &str) {
    assert_eq!(reply.status, 401, "{what}");
    let challenge = r#"Basic realm="larder", charset="UTF-8""#;
    assert_eq!(reply.header("www-authenticate"), Some(challenge), "{what}");
}

/// Spegel #1432, GitLab #363827: what one door keeps another one gave away.
#[tokio::test]
async fn without_a_login_every_door_and_method_is_refused() {
    let (hub, image, proxy) = warm(guarded(AnonymousAccess::None, Vec::new())).await;
    let mut answers = Vec::new();
    for repository in ["team/app", "no/such"] {
        for (method, path) in requests(repository, &image) {
            let reply = proxy.call(method.clone(), &path).await;
            assert_challenged(&reply, &format!("{method} {path}"));
            answers.push((method == Method::HEAD, shown(&reply)));
        }
    }
    assert_challenged(&proxy.get("/v2/").await, "ping");
    proxy.get("/").await.assert_status(200);
    answers.sort();
    answers.dedup();
    assert_eq!(answers.len(), 2, "one for HEAD, one for all others: {answers:#?}");
    hub.assert_not_asked();
}

/// And a wrong password gets nothing either, whatever it would get without one.
#[tokio::test]
async fn a_wrong_password_is_a_401_even_where_anonymous_access_is_enough() {
    let log = Log::of_everything();
    let (hub, image, proxy) = warm(guarded(AnonymousAccess::Pull, Vec::new())).await;
    for (user, password) in [("ann", WRONG), ("ann", ""), ("ann", BEN), ("eve", ANN)] {
        for path in ["/v2/".to_owned(), "/v2/open/app/manifests/latest".to_owned()]
            .into_iter()
            .chain([image.layers[0].path("open/app")])
        {
            let reply = send(&proxy.client, &Method::GET, &path, Some((user, password))).await;
            assert_challenged(&reply, &path);
        }
    }
    for bad in ["Basic", "Basic !", "Bearer x", "Basic YW5u", "Digest username=\"ann\""] {
        let reply = proxy.get_with("/v2/", &[("authorization", bad)]).await;
        assert_challenged(&reply, bad);
    }
    let (ann, ben) = (basic("ann", ANN), basic("ben", BEN));
    let twice = [("authorization", ann.as_str()), ("authorization", ben.as_str())];
    proxy.get_with("/v2/open/app/manifests/latest", &twice).await.error(400);
    hub.assert_not_asked();
    log.assert_without(&[ANN, BEN, WRONG], &USERS);
}

#[tokio::test]
async fn a_valid_password_grants_cached_content_and_is_not_sent_upstream() {
    let log = Log::of_everything();
    let (hub, image, proxy) = warm(guarded(AnonymousAccess::None, Vec::new())).await;
    let ann = Some(("ann", ANN));
    send(&proxy.client, &Method::GET, "/v2/", ann).await.assert_status(200);
    let path = "/v2/team/app/manifests/latest";
    send(&proxy.client, &Method::GET, path, ann).await.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        send(&proxy.client, &Method::GET, &blob.path("team/app"), ann).await.assert_is(blob);
    }
    hub.assert_not_asked();
    // And on the way to the upstream it is gone.
    send(&proxy.client, &Method::GET, "/v2/new/app/manifests/latest", ann).await.error(404);
    assert!(!hub.asked().is_empty());
    assert!(hub.asked().iter().all(|asked| !asked.has_credential()));
    log.assert_without(&[ANN, BEN], &USERS);
}

/// podman and docker learn only from `/v2/` that a password could be of use.
#[tokio::test]
async fn a_ping_is_challenged_where_a_login_grants_more_than_anonymous_access() {
    let by_rule = |action| vec![rule("ann", "**", &[action])];
    for (anonymous, rules, takes_pushes, want) in [
        (AnonymousAccess::None, vec![], false, 401),
        (AnonymousAccess::None, by_rule(Action::Pull), false, 401),
        (AnonymousAccess::Pull, vec![], false, 200),
        (AnonymousAccess::Pull, vec![], true, 401),
        (AnonymousAccess::Pull, by_rule(Action::Pull), true, 200),
        (AnonymousAccess::Pull, by_rule(Action::Push), true, 401),
        (AnonymousAccess::Push, vec![], true, 200),
        (AnonymousAccess::Push, by_rule(Action::Delete), true, 401),
        (AnonymousAccess::Push, by_rule(Action::Delete), false, 200),
    ] {
        let hub = ScriptedRegistry::new();
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub).rules.push = takes_pushes;
        setup.access = guarded(anonymous, rules);
        let shown = format!("{:?} {takes_pushes}", setup.access.policy);
        let proxy = setup.start().await;
        assert_eq!(proxy.get("/v2/").await.status.as_u16(), want, "{shown}");
        assert_eq!(proxy.head("/v2").await.status.as_u16(), want, "{shown}");
        let ann = send(&proxy.client, &Method::GET, "/v2/", Some(("ann", ANN))).await;
        assert_eq!(ann.status, 200, "{shown}");
    }
}

/// dockerd offers Docker Hub's password to any mirror that asks, so Larder does not ask, and does
/// not read it.
#[tokio::test]
async fn a_mirror_that_never_asks_neither_reads_nor_forwards_what_it_is_sent() {
    let log = Log::of_everything();
    let (hub, image, proxy) = warm(AccessOptions::default()).await;
    let (eve, ben) = (basic("eve", WRONG), basic("ben", BEN));
    for headers in [
        vec![("authorization", eve.as_str())],
        vec![("authorization", "Basic !")],
        vec![("authorization", eve.as_str()), ("authorization", ben.as_str())],
    ] {
        proxy.get_with("/v2/", &headers).await.assert_status(200);
        let reply = proxy.get_with("/v2/team/app/manifests/latest", &headers).await;
        reply.assert_is(&image.manifest.blob);
        proxy.get_with("/v2/new/app/manifests/latest", &headers).await.error(404);
    }
    hub.refuse("team/app", Some(401));
    let path = "/v2/team/app/manifests/other";
    let reply = proxy.get_with(path, &[("authorization", eve.as_str())]).await;
    assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (404, None));
    assert!(hub.asked().iter().all(|asked| !asked.has_credential()));
    log.assert_without(&[WRONG, BEN], &USERS);

    let (_hub, _image, proxy) = warm(AccessOptions {
        policy: guarded(AnonymousAccess::None, vec![]).policy,
        ..AccessOptions::default()
    })
    .await;
    let reply = proxy.get("/v2/team/app/manifests/latest").await;
    assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (404, None));
}

/// zot's CVE-2024-39897: the cache told one tenant what another one has.
#[tokio::test]
async fn a_repository_without_a_rule_is_answered_like_one_that_does_not_exist() {
    let rules = vec![rule("ann", "team/**", &Action::ALL), rule("*", "open/*", &[Action::Pull])];
    let (hub, image, proxy) = warm(guarded(AnonymousAccess::None, rules)).await;
    let ben = Some(("ben", BEN));
    let asked = requests("team/app", &image).into_iter().zip(requests("no/such", &image));
    for ((method, warm), (_, absent)) in asked {
        let one = send(&proxy.client, &method, &warm, ben).await;
        let other = send(&proxy.client, &method, &absent, ben).await;
        assert_eq!(one.status, 404, "{method} {warm}");
        assert_eq!(shown(&one), shown(&other), "{method} {warm}");
    }
    let path = image.layers[0].path("team/app");
    let range = proxy
        .client
        .get_with(&path, &[("authorization", &basic("ben", BEN)), ("range", "bytes=0-0")]);
    range.await.error(404);
    hub.assert_not_asked();

    // Ben may read elsewhere, and not write there; Ann may do all in her own.
    let path = "/v2/open/app/manifests/latest";
    send(&proxy.client, &Method::GET, path, ben).await.assert_is(&image.manifest.blob);
    for method in [Method::PUT, Method::DELETE] {
        send(&proxy.client, &method, path, ben).await.error(403);
    }
    let path = "/v2/team/app/manifests/latest";
    let ann = Some(("ann", ANN));
    send(&proxy.client, &Method::GET, path, ann).await.assert_is(&image.manifest.blob);
}

/// zot's CVE-2026-61833: a right to push was a right to delete.
/// "Who pushed this, and who is refused all day?"
#[tokio::test]
async fn the_line_of_a_request_names_the_user_that_larder_knows_and_the_bytes_that_came() {
    let rules = vec![rule("ann", "team/**", &Action::ALL)];
    let (_hub, image, proxy) = warm(guarded(AnonymousAccess::None, rules)).await;
    let log = Log::capture();
    proxy.log_requests(&log);
    let path = "/v2/team/app/manifests/latest";
    let manifest = &image.manifest;
    for (user, password) in [("ann", ANN), ("ben", BEN), ("eve", WRONG)] {
        let own = basic(user, password);
        let headers = [("authorization", &*own), ("content-type", &*manifest.media_type)];
        proxy.client.send(Method::PUT, path, &headers, manifest.blob.bytes.clone()).await;
        proxy.get_with(path, &headers[..1]).await;
    }
    proxy.get(path).await.assert_status(401);
    let lines = || log.lines("request");
    while lines().len() < 7 {
        tokio::task::yield_now().await;
    }

    let of = |line: &serde_json::Value| {
        let user = line["user"].as_str().unwrap_or("-").to_owned();
        (line["method"].as_str().unwrap().to_owned(), user, line["received"].as_u64())
    };
    let length = Some(manifest.blob.bytes.len() as u64);
    let want = [
        ("PUT", "ann", length),
        ("GET", "ann", None),
        ("PUT", "ben", Some(0)),
        ("GET", "ben", None),
        ("PUT", "-", Some(0)),
        ("GET", "-", None),
        ("GET", "-", None),
    ];
    let want = want.map(|(method, user, bytes)| (method.to_owned(), user.to_owned(), bytes));
    assert_eq!(lines().iter().map(of).collect::<Vec<_>>(), want);
    assert!(lines().iter().all(|line| line["client"] == "127.0.0.1"), "{:?}", lines());
    assert!(!log.text().contains("canary"));
}

#[tokio::test]
async fn pull_push_and_delete_each_need_their_own_rule() {
    let rules = vec![
        rule("ann", "team/**", &[Action::Pull, Action::Push]),
        rule("ben", "team/**", &[Action::Push]),
    ];
    let (_hub, image, proxy) = warm(guarded(AnonymousAccess::None, rules)).await;
    let manifest = "/v2/team/app/manifests/latest";
    let blob = image.layers[0].path("team/app");
    let ann = Some(("ann", ANN));
    for path in [manifest, &blob] {
        send(&proxy.client, &Method::DELETE, path, ann).await.error(403);
        send(&proxy.client, &Method::GET, path, Some(("ben", BEN))).await.error(404);
        for method in [Method::PATCH, Method::POST, Method::OPTIONS, Method::TRACE] {
            send(&proxy.client, &method, path, ann).await.error(405);
        }
        let headers = [("authorization", &*basic("ann", ANN)), ("x-http-method-override", "GET")];
        proxy.client.call(Method::DELETE, path, &headers).await.error(403);
    }
}

/// A registry that is read-only stays so, even for users that may push elsewhere.
#[tokio::test]
async fn no_user_can_push_to_a_registry_without_pushes() {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.access = guarded(AnonymousAccess::Push, vec![rule("ann", "**", &Action::ALL)]);
    let proxy = setup.start().await;
    let image = Image::random(1, &[10]);
    for (method, path) in requests("team/app", &image) {
        if method == Method::GET && !path.contains("uploads") || method == Method::HEAD {
            continue;
        }
        for user in [None, Some(("ann", ANN))] {
            send(&proxy.client, &method, &path, user).await.error(405);
        }
    }
    hub.assert_not_asked();
}

/// Larder must not be the tool to guess passwords with.
#[tokio::test]
async fn guessing_a_password_locks_out_the_address_and_the_user_and_no_other() {
    let log = Log::of_everything();
    let (_hub, _image, proxy) = warm(guarded(AnonymousAccess::None, Vec::new())).await;
    let path = "/v2/team/app/manifests/latest";
    let at = |address: &str| proxy.client_of(ClientPeer::at(address.parse().unwrap()));
    let (near, far) = (at("10.0.0.1"), at("10.0.0.2"));
    send(&near, &Method::GET, path, Some(("ann", ANN))).await.assert_status(200);
    for guess in 0..10 {
        let guess = format!("{WRONG}-{guess}");
        assert_challenged(&send(&near, &Method::GET, path, Some(("ann", &guess))).await, &guess);
    }
    let last = format!("{WRONG}-10");
    let reply = send(&near, &Method::GET, path, Some(("ann", &last))).await;
    assert_eq!(reply.error(429).0, "TOOMANYREQUESTS");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");

    send(&near, &Method::GET, path, Some(("ann", ANN))).await.assert_status(200);
    send(&near, &Method::GET, path, Some(("ben", BEN))).await.assert_status(200);
    let reply = send(&far, &Method::GET, path, Some(("ann", &last))).await;
    assert_challenged(&reply, "another address may be wrong for itself");
    log.assert_without(&[ANN, BEN, WRONG], &USERS);
}

/// A runner has a certificate anyway, and no place for a password.
#[tokio::test]
async fn a_certificate_stands_for_the_user_that_its_name_is_mapped_to() {
    let rules = vec![rule("ci", "team/**", &[Action::Pull])];
    let mut access = guarded(AnonymousAccess::None, rules);
    let known = |name: &str, user: &str| CertificateUser {
        name: name.parse().unwrap(),
        user: user.to_owned(),
    };
    access.certificates = vec![known("old.ci.corp", "gone"), known("*.ci.corp", "ci")];
    for challenge in [ChallengePolicy::Basic, ChallengePolicy::Never] {
        access.challenge = challenge;
        let (_hub, image, proxy) = warm(access.clone()).await;
        let get = async |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let peer = ClientPeer { names, ..ClientPeer::default() };
            let reply = proxy.client_of(peer).get("/v2/team/app/manifests/latest").await;
            reply.status.as_u16()
        };
        let unknown = if challenge == ChallengePolicy::Basic { 401 } else { 404 };
        assert_eq!(get(&["r1.ci.corp"]).await, 200);
        assert_eq!(get(&["x", "r2.ci.corp"]).await, 200);
        assert_eq!(get(&["old.ci.corp"]).await, 404, "that user may not");
        assert_eq!(get(&["ci"]).await, unknown, "a name is not a user");
        assert_eq!(get(&["ci.corp.evil"]).await, unknown);
        assert_eq!(get(&[]).await, unknown);
        let peer = ClientPeer { names: vec!["r1.ci.corp".to_owned()], ..ClientPeer::default() };
        let path = image.layers[0].path("team/app");
        proxy.client_of(peer).get(&path).await.assert_is(&image.layers[0]);
    }
}

/// A user who is taken out is out at once, with a connection that is open or without.
#[tokio::test]
async fn a_new_users_file_counts_for_clients_that_are_logged_in() {
    let access = guarded(AnonymousAccess::None, Vec::new());
    let htpasswd = access.htpasswd.clone().unwrap();
    let (_hub, _image, proxy) = warm(access).await;
    let path = "/v2/team/app/manifests/latest";
    let get = async |user, password| {
        send(&proxy.client, &Method::GET, path, Some((user, password))).await.status.as_u16()
    };
    assert_eq!((get("ann", ANN).await, get("ben", BEN).await), (200, 200));

    let text = format!("ben:{}\n", bcrypt::hash_with_result("another", 4).unwrap());
    assert!(htpasswd.replace(UserTable::parse(text.as_bytes()).unwrap()));

    assert_eq!((get("ann", ANN).await, get("ben", BEN).await), (401, 401));
    assert_eq!(get("ben", "another").await, 200);
}
