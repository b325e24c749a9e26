//! A registry's deliberate 4xx: a name that it does not allow, an account that has not paid, a
//! repository that is retired. Clients read its status, its code and its message, as they do
//! directly; as a 502 they would retry it, or go to another registry.

use crate::support::{Blob, Fault, Image, Proxy, Reply, ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const TAGS: &str = "/v2/library/alpine/tags/list";

/// Statuses, each with the code that registries give with it, and ours where they give none.
const REJECTIONS: [(u16, &str, &str); 15] = [
    (400, "NAME_INVALID", "UNSUPPORTED"),
    (400, "MANIFEST_INVALID", "UNSUPPORTED"),
    (402, "DENIED", "DENIED"),
    (405, "UNSUPPORTED", "UNSUPPORTED"),
    (406, "MANIFEST_UNKNOWN", "UNSUPPORTED"),
    (409, "RESOURCE_CONFLICT", "UNSUPPORTED"),
    (410, "NAME_UNKNOWN", "UNSUPPORTED"),
    (413, "SIZE_INVALID", "SIZE_INVALID"),
    (414, "NAME_INVALID", "UNSUPPORTED"),
    (415, "UNSUPPORTED", "UNSUPPORTED"),
    (418, "DENIED", "UNSUPPORTED"),
    (422, "NAME_INVALID", "UNSUPPORTED"),
    (428, "DENIED", "UNSUPPORTED"),
    (431, "UNSUPPORTED", "UNSUPPORTED"),
    (451, "DENIED", "DENIED"),
];

fn said(code: &str) -> &'static str {
    format!(r#"{{ "errors":[{{"code":"{code}","message":"call us: +1 555","detail":{{}}}}] }}"#)
        .leak()
}

fn json(status: u16, body: &'static str) -> Fault {
    Fault::Status(status, vec![("Content-Type", "application/json".to_owned())], body)
}

fn page(status: u16) -> Fault {
    Fault::Status(status, vec![("Content-Type", "text/html".to_owned())], "<html>no</html>")
}

fn paths() -> [String; 4] {
    let digest = Blob::random(9, 10);
    [
        LATEST.to_owned(),
        format!("/v2/library/alpine/manifests/{}", digest.digest),
        digest.path(REPOSITORY),
        TAGS.to_owned(),
    ]
}

/// A mirror whose registry gives this answer to everything in repositories.
async fn rejecting(fault: Fault) -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.breaks(When::asked("/library/"), fault);
    let proxy = Proxy::before(&hub).await;
    (hub, proxy)
}

/// As above, of a registry that takes pushes: it is asked for its own word before each.
async fn rejecting_pushes(fault: Fault) -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.breaks(When::asked("/library/"), fault);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    (hub, setup.start().await)
}

#[track_caller]
fn assert_is_as_said(reply: &Reply, status: u16, body: &str) {
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (status, body));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(!reply.headers.contains_key("retry-after"));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_keeps_its_status_code_and_message() {
    for (status, code, _) in REJECTIONS {
        for path in paths() {
            let body = said(code);
            let (hub, proxy) = rejecting(json(status, body)).await;

            assert_is_as_said(&proxy.get(&path).await, status, body);

            // HEAD cannot say why, so one GET follows it.
            let asked = hub.asked().len();
            assert!(asked <= 2, "{status} {path}: no retries, {asked}");
            let (_hub, pushing) = rejecting_pushes(json(status, body)).await;
            assert_is_as_said(&pushing.get(&path).await, status, body);
            if path != TAGS {
                assert_eq!(proxy.head(&path).await.status, status, "{path}");
                assert_eq!(pushing.head(&path).await.status, status, "{path}, before a push");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_without_a_reason_keeps_its_status() {
    for (status, _, code) in REJECTIONS {
        for path in paths() {
            let (_hub, proxy) = rejecting(page(status)).await;

            let (got, message) = proxy.get(&path).await.error(status);

            assert_eq!(got, code, "{status} {path}");
            assert!(message.contains("registry-1.docker.io"), "it says where: {message}");
        }
    }
}

/// A rejection is neither an absence nor a refusal: nothing is dropped for it (promise 5), and
/// nothing is remembered of it. Nor is it a fault that opens the circuit breaker.
#[tokio::test(start_paused = true)]
async fn what_is_cached_survives_a_rejection_which_is_forgotten() {
    for (status, code, _) in REJECTIONS {
        for fault in [json(status, said(code)), page(status)] {
            let hub = ScriptedRegistry::new();
            let image = Image::random(1, &[10]);
            hub.put_image(REPOSITORY, "latest", &image);
            let proxy = Proxy::before(&hub).await;
            proxy.pull(REPOSITORY, "latest", &image).await;
            tokio::time::advance(TAG_TTL * 2).await;
            hub.breaks(When::asked("/library/"), fault);

            for _ in 0..10 {
                let stale = proxy.get(LATEST).await;
                stale.assert_is(&image.manifest.blob);
                assert!(stale.decision().is_stale(), "{status}: {:?}", stale.decision());
                let cold = proxy.get("/v2/library/alpine/manifests/other").await;
                assert_eq!(cold.status, status);
            }
            hub.heal();
            hub.put_image(REPOSITORY, "other", &image);
            proxy.get("/v2/library/alpine/manifests/other").await.assert_is(&image.manifest.blob);
        }
    }
}

/// Some registries do not take HEAD where they take GET; what works directly with a GET works.
#[tokio::test(start_paused = true)]
async fn a_head_that_is_rejected_is_asked_as_a_get() {
    for status in [400, 405, 406, 415, 418, 501] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[10]);
        hub.put_image(REPOSITORY, "latest", &image);
        hub.breaks(When::asked("/manifests/").head(), page(status));
        let proxy = Proxy::before(&hub).await;

        proxy.pull(REPOSITORY, "latest", &image).await;
        assert_eq!(proxy.head(LATEST).await.status, 200, "{status}");
    }
}

/// 407 would have clients look for a proxy's password.
#[tokio::test(start_paused = true)]
async fn a_407_is_a_fault() {
    for path in paths() {
        let (_hub, proxy) = rejecting(json(407, said("DENIED"))).await;
        proxy.get(&path).await.error(502);
    }
}

/// Registries without referrers say so in many ways (oras-go 633, quay 3071, ECR). Clients look for
/// the tag that replaces them after a 404 (distribution-spec, "Unavailable Referrers API"); oras
/// after nothing else.
#[tokio::test(start_paused = true)]
async fn a_registry_without_referrers_is_a_404_to_all_clients() {
    let unsupported = |status| json(status, said("UNSUPPORTED"));
    let rows = [
        ("400", unsupported(400), 404),
        ("400 of Quay", json(400, said("MANIFEST_INVALID")), 404),
        ("400 and a page", page(400), 404),
        ("405", unsupported(405), 404),
        ("405 and a page", page(405), 404),
        ("406", unsupported(406), 404),
        ("410", unsupported(410), 404),
        ("415", unsupported(415), 404),
        ("501", unsupported(501), 404),
        ("501 and a page", page(501), 404),
        ("a page of 404", page(404), 404),
        ("a name that is not allowed", json(400, said("NAME_INVALID")), 400),
        ("no payment", json(402, said("DENIED")), 402),
        ("a retired repository", json(410, said("NAME_UNKNOWN")), 410),
        ("the law", json(451, said("DENIED")), 451),
        ("an outage", page(500), 502),
    ];
    let path = format!("/v2/library/alpine/referrers/{}", Blob::random(9, 10).digest);
    for (name, fault, status) in rows {
        let (hub, proxy) = rejecting(fault).await;

        for round in 0..2 {
            let reply = proxy.get(&path).await;
            let (code, _) = reply.error(status);
            if status == 404 {
                assert_eq!(code, "UNSUPPORTED", "{name}, {round}");
            }
        }
        if status == 404 {
            let asked = hub.gets("/referrers/").len();
            assert_eq!(asked, 1, "{name}: it is not asked again within the TTL");
        }
    }
}
