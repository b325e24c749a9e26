//! Pushes with clients' own credentials.

use http::Method;
use larder::access::AnonymousAccess;
use larder::http::ClientPeer;

use super::{
    ANN, BEN, LATEST, REALM, USERS, WRONG, ann, ask, asking, assert_challenged, ben, get, pull, put,
};
use crate::support::client::request;
use crate::support::registry::{User, basic};
use crate::support::{Auth, Fault, Gate, Image, Log, Proxy, ScriptedRegistry, Setup, When};

const UPLOADS: &str = "/v2/team/app/blobs/uploads/";

/// A proxy of corp.test that takes pushes, whose `team/app` has an image.
async fn open(users: &[User]) -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &hub, users);
    setup.settings.registries[0].rules.push = true;
    setup.access = asking(AnonymousAccess::None);
    (hub, image, setup.start().await)
}

/// The registry decides about a push as it does about a pull, by the client's own credential.
#[tokio::test(start_paused = true)]
async fn a_push_uses_the_clients_own_credential() {
    let log = Log::of_everything();
    let users = [ann(&["team/*:pull,push"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = open(&users).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    hub.forget();

    let begun = ask(&proxy.client, Method::POST, UPLOADS, ("ann", ANN)).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    assert_eq!(hub.askers(), ["ann"]);
    assert_challenged(&proxy.call(Method::POST, UPLOADS).await);
    let refused = ask(&proxy.client, Method::POST, UPLOADS, ("ben", BEN)).await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    let location = begun.header("location").unwrap();
    let stolen = ask(&proxy.client, Method::DELETE, location, ("ben", BEN)).await;
    assert_eq!(stolen.status, 404, "another's upload is none");
    log.assert_without(&[ANN, BEN], &USERS);
}

/// Every way to push is as good a place to guess at as a pull, and as bad.
#[tokio::test(start_paused = true)]
async fn wrong_passwords_of_pushes_are_counted_with_those_of_pulls() {
    let log = Log::of_everything();
    let ways = [
        (Method::POST, UPLOADS),
        (Method::PATCH, "/v2/team/app/blobs/uploads/none"),
        (Method::PUT, "/v2/team/app/manifests/v1"),
        (Method::DELETE, LATEST),
        (Method::GET, LATEST),
    ];
    for order in 0..ways.len() {
        let (hub, _, proxy) = open(&[ann(&["team/*:pull,push,delete"])]).await;
        let near = proxy.client_of(ClientPeer::at("10.0.0.1".parse().unwrap()));
        let mut statuses = Vec::new();
        for guess in 0..15 {
            let (method, path) = ways[(order + guess) % ways.len()].clone();
            let guess = format!("{WRONG}{guess}");
            let reply = ask(&near, method, path, ("ann", &guess)).await;
            if reply.status == 401 {
                assert_challenged(&reply);
            }
            statuses.push(reply.status.as_u16());
        }

        assert_eq!(statuses, [[401; 10].as_slice(), &[429; 5]].concat(), "{order}");
        let guesses = hub.gets("/token").len();
        assert_eq!(guesses, 10, "the upstream is no place to guess at");
        let reply = ask(&near, Method::POST, UPLOADS, ("ann", ANN)).await;
        assert_eq!(reply.status, 429, "the right password is a guess as well");
        let far = ask(&proxy.client, Method::POST, UPLOADS, ("ann", ANN)).await;
        far.assert_status(202);
    }
    log.assert_without(&[ANN, WRONG], &USERS);
}

/// A registry that is slow to answer gets no more of them, whatever they ask for.
#[tokio::test(start_paused = true)]
async fn guesses_that_are_sent_at_once_are_counted_before_they_reach_the_registry() {
    for (method, path) in [
        (Method::POST, UPLOADS),
        (Method::PUT, "/v2/team/app/manifests/v1"),
        (Method::DELETE, LATEST),
        (Method::GET, LATEST),
    ] {
        let (hub, image, proxy) = open(&[ann(&["team/*:pull,push,delete"])]).await;
        let near = proxy.client_of(ClientPeer::at("10.0.0.1".parse().unwrap()));
        let gate = Gate::new();
        hub.breaks(When::asked("/token"), Fault::HoldHeaders(gate.clone()));
        let guesses: Vec<_> = (0..40)
            .map(|guess| {
                let (near, method) = (near.clone(), method.clone());
                let password = format!("{WRONG}{guess}");
                tokio::spawn(async move { ask(&near, method, path, ("ann", &password)).await })
            })
            .collect();
        gate.reached_by(10).await;
        gate.open();
        let mut wrong = 0;
        for guess in guesses {
            let status = guess.await.unwrap().status;
            assert!([401, 429].contains(&status.as_u16()), "{status}");
            wrong += usize::from(status == 401);
        }
        assert_eq!((wrong, hub.gets("/token").len()), (10, 10), "{method} {path}");
        hub.heal();
        get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    }
}

/// Clients send several requests at once, before the first of them has shown that they may.
#[tokio::test(start_paused = true)]
async fn requests_with_a_good_password_that_are_sent_at_once_are_no_guesses() {
    let (_hub, image, proxy) = open(&[ann(&["team/*:pull,push,delete"])]).await;
    let requests: Vec<_> = (0..60)
        .map(|number| {
            let client = proxy.client.clone();
            let path = if number % 2 == 0 { UPLOADS } else { LATEST };
            let method = if number % 2 == 0 { Method::POST } else { Method::GET };
            tokio::spawn(async move { ask(&client, method, path, ("ann", ANN)).await })
        })
        .collect();
    for request in requests {
        let reply = request.await.unwrap();
        assert!(reply.status.is_success(), "{}", reply.text());
    }
    get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
}

/// A password that is changed during an upload is wrong, and no fault of the gateway.
#[tokio::test(start_paused = true)]
async fn a_credential_that_ends_in_the_middle_of_a_push_is_challenged() {
    let (hub, image, proxy) = open(&[ann(&["team/*:pull,push,delete"])]).await;
    ask(&proxy.client, Method::POST, UPLOADS, ("ann", ANN)).await.assert_status(202);
    hub.requires(Auth::users(REALM, &[ben(&["team/*:pull"])]));

    for (method, path) in [(Method::POST, UPLOADS), (Method::DELETE, LATEST)] {
        assert_challenged(&ask(&proxy.client, method, path, ("ann", ANN)).await);
    }
    get(&proxy, LATEST, ("ben", BEN)).await.assert_is(&image.manifest.blob);
}

/// Nor for one that its token server knows not to have the right, however it says so.
#[tokio::test(start_paused = true)]
async fn a_manifest_is_not_asked_for_before_its_sender_is_known_to_have_the_right() {
    let users = [ann(&["team/*:pull,push"]), ben(&["ben/*:pull,push"]), ben(&["team/*:pull"])];
    for (is_strict, ben) in [(true, &users[1]), (false, &users[1]), (false, &users[2])] {
        let (hub, image, proxy) = open(&users).await;
        let Auth::Bearer(mut bearer) = Auth::users(REALM, &[users[0].clone(), ben.clone()]) else {
            unreachable!()
        };
        (bearer.is_strict, bearer.says_access) = (is_strict, true);
        hub.requires(Auth::Bearer(bearer));
        let header = basic("ben", BEN);
        let headers = [
            ("authorization", &*header),
            ("content-length", "4000000"),
            ("expect", "100-continue"),
        ];
        let mut client = proxy.client.raw();
        client.send(&request("PUT", "1.1", LATEST, &headers)).await;
        let (answer, _) = client.read_all().await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 4"), "{is_strict} {:?}: {answer}", ben.may);

        let header = basic("ann", ANN);
        let own = [("authorization", &*header), ("content-type", &*image.manifest.media_type)];
        let body = image.manifest.blob.bytes.clone();
        proxy.client.send(Method::PUT, LATEST, &own, body).await.assert_status(201);
    }
}

/// A manifest is held whole, but not for a client that the registry does not know.
#[tokio::test(start_paused = true)]
async fn a_body_is_not_asked_for_before_its_sender_is_known() {
    let (hub, _, proxy) = open(&[ann(&["team/*:pull,push"])]).await;
    let header = basic("eve", WRONG);
    for (method, path) in [("PUT", LATEST), ("POST", UPLOADS), ("PATCH", UPLOADS)] {
        let headers = [
            ("authorization", &*header),
            ("content-length", "4000000"),
            ("expect", "100-continue"),
        ];
        let mut client = proxy.client.raw();
        client.send(&request(method, "1.1", path, &headers)).await;
        let (answer, _) = client.read_all().await;
        let first = if method == "PATCH" { "HTTP/1.1 405 " } else { "HTTP/1.1 401 " };
        assert!(answer.starts_with(first.as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(hub.gets("/token").len(), 1);
}
