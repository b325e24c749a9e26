//! Tenants of one registry: a right that one path checks is checked on every path.

use http::Method;
use larder::access::{
    AccessOptions, AccessPolicy, AccessRule, Action, AnonymousAccess, ChallengePolicy,
    HtpasswdUsers, UserTable,
};

use crate::support::registry::basic;
use crate::support::{Blob, Proxy, Reply, ScriptedRegistry, Setup};

const ANN: (&str, &str) = ("ann", "canary-of-ann");
const BEN: (&str, &str) = ("ben", "canary-of-ben");

/// Ann may do everything in `a/**`, and Ben in `b/**`; neither may do anything elsewhere.
fn tenants() -> AccessOptions {
    let rule = |user: &str, repositories: &str| AccessRule {
        users: vec![user.parse().unwrap()],
        registries: Vec::new(),
        repositories: vec![repositories.parse().unwrap()],
        actions: vec![Action::Pull, Action::Push, Action::Delete],
    };
    let line = |(user, password): (&str, &str)| {
        format!("{user}:{}\n", bcrypt::hash_with_result(password, 4).unwrap())
    };
    let users = UserTable::parse([line(ANN), line(BEN)].concat().as_bytes()).unwrap();
    AccessOptions {
        challenge: ChallengePolicy::Basic,
        policy: AccessPolicy {
            anonymous: AnonymousAccess::None,
            rules: vec![rule("ann", "a/**"), rule("ben", "b/**")],
        },
        htpasswd: Some(HtpasswdUsers::new(users)),
        certificates: Vec::new(),
    }
}

/// A registry that Larder reaches with one credential, for both tenants.
async fn shared_by_tenants(hub: &ScriptedRegistry) -> Proxy {
    let mut setup = Setup::new();
    setup.registry("docker.io", hub).rules.push = true;
    setup.access = tenants();
    setup.start().await
}

async fn ask(proxy: &Proxy, method: Method, path: &str, user: (&str, &str)) -> Reply {
    let header = basic(user.0, user.1);
    proxy.client.call(method, path, &[("authorization", header.as_str())]).await
}

/// The registry mounts whatever Larder's credential can read, so Larder names the source.
#[tokio::test(start_paused = true)]
async fn a_mount_without_a_source_takes_nothing_from_a_repository_that_the_client_may_not_read() {
    let hub = ScriptedRegistry::new();
    hub.mounts_from_anywhere();
    let private = Blob::random(1, 1000);
    hub.put_blob("a/priv", &private);
    let own = Blob::random(2, 1000);
    hub.put_blob("b/app", &own);
    let proxy = shared_by_tenants(&hub).await;
    for (user, blob, path) in [(ANN, &private, "a/priv"), (BEN, &own, "b/app")] {
        ask(&proxy, Method::GET, &blob.path(path), user).await.assert_is(blob);
    }

    for from in ["", "&from=", "&from=a/priv", "&from=docker.io/a/priv", "&from=%61/priv"] {
        for door in ["/v2/", "/v2/docker.io/", "/docker.io/v2/"] {
            let path = format!("{door}b/new/blobs/uploads/?mount={}{from}", private.digest);
            ask(&proxy, Method::POST, &path, BEN).await.assert_status(202);
            assert!(hub.blob("b/new", &private.digest).is_none(), "{path}");
            ask(&proxy, Method::GET, &private.path("b/new"), BEN).await.assert_status(404);
        }
    }
    assert!(hub.changes("POST", "mount").is_empty(), "no source that Ben may read has it");

    let path = format!("/v2/b/new/blobs/uploads/?mount={}", own.digest);
    ask(&proxy, Method::POST, &path, BEN).await.assert_status(201);
    assert!(hub.blob("b/new", &own.digest).is_some(), "his own repository is one");
}
