//! Clients that are not logged in and send `Authorization` all the same: podman, skopeo and CRI-O
//! send an empty user and an empty password once `/v2/` has challenged them.

use http::Method;
use larder::access::{
    AccessOptions, AccessPolicy, AnonymousAccess, ChallengePolicy, HtpasswdUsers, UserTable,
};

use crate::support::registry::basic;
use crate::support::{Image, Proxy, ScriptedRegistry, Setup};

const PATH: &str = "/v2/open/app/manifests/latest";
const UPLOADS: &str = "/v2/open/app/blobs/uploads/";

/// The header that podman sends.
const EMPTY: &str = "Basic Og==";

/// A registry that takes pushes, with Ann as the only user: `/v2/` challenges.
async fn guarded(anonymous: AnonymousAccess) -> (Proxy, Image) {
    let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[]));
    hub.put_image("open/app", "latest", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    let ann = format!("ann:{}\n", bcrypt::hash_with_result("pw", 4).unwrap());
    setup.access = AccessOptions {
        challenge: ChallengePolicy::Basic,
        policy: AccessPolicy { anonymous, rules: Vec::new() },
        htpasswd: Some(HtpasswdUsers::new(UserTable::parse(ann.as_bytes()).unwrap())),
        certificates: Vec::new(),
    };
    (setup.start().await, image)
}

/// Only an empty user with an empty password is nothing: a client with one of the two has tried to
/// log in.
#[tokio::test]
async fn an_empty_user_and_password_is_no_login_and_any_other_header_is_one() {
    let (proxy, image) = guarded(AnonymousAccess::Pull).await;
    for (header, want) in [
        (EMPTY, 200),
        ("Basic Og", 200),
        ("basic Og==", 200),
        ("BASIC   Og==", 200),
        ("Basic YW5uOnB3", 200),
        ("", 401),
        ("Basic", 401),
        ("Basic ", 401),
        // Only a password, only a user, no colon, one that is no empty password.
        ("Basic OnB3", 401),
        ("Basic YW5uOg==", 401),
        ("Basic YW5u", 401),
        ("Basic Ojo=", 401),
        ("Basic OiA=", 401),
        ("Basic IDo=", 401),
        ("Basic OgA=", 401),
        ("Basic ADo=", 401),
        ("Basic Og== x", 401),
        ("Basic Og==,Og==", 401),
        ("Bearer Og==", 401),
        ("Og==", 401),
    ] {
        let reply = proxy.get_with(PATH, &[("authorization", header)]).await;

        assert_eq!(reply.status, want, "{header:?}");
        if want == 200 {
            reply.assert_is(&image.manifest.blob);
        }
    }
    let twice = [("authorization", EMPTY), ("authorization", EMPTY)];
    proxy.get_with(PATH, &twice).await.error(400);
}

/// A login that was not tried can be asked for, and cannot fail.
#[tokio::test]
async fn a_client_without_a_login_may_what_anonymous_clients_may() {
    for (anonymous, pull, push, ping) in [
        (AnonymousAccess::None, 401, 401, 401),
        (AnonymousAccess::Pull, 200, 401, 401),
        (AnonymousAccess::Push, 200, 202, 200),
    ] {
        let (proxy, _) = guarded(anonymous).await;
        for header in [Some(EMPTY), None] {
            let headers: Vec<_> = header.iter().map(|header| ("authorization", *header)).collect();
            let call = async |method, path| {
                proxy.client.call(method, path, &headers).await.status.as_u16()
            };

            assert_eq!(call(Method::GET, PATH).await, pull, "{anonymous:?} {header:?}");
            assert_eq!(call(Method::POST, UPLOADS).await, push, "{anonymous:?} {header:?}");
            // skopeo learns here that there is a login, and `podman login` that this was none.
            assert_eq!(call(Method::GET, "/v2/").await, ping, "{anonymous:?} {header:?}");
        }
    }
}

/// 30 failures in a minute lock an address out.
#[tokio::test]
async fn pulls_without_a_login_count_as_no_failed_logins() {
    let (proxy, _) = guarded(AnonymousAccess::Pull).await;
    for _ in 0..100 {
        proxy.get_with(PATH, &[("authorization", EMPTY)]).await.assert_status(200);
    }
    let ann = basic("ann", "pw");
    proxy.get_with("/v2/", &[("authorization", &ann)]).await.assert_status(200);
}
