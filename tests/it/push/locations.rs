//! The upstream says where an upload goes on, and Larder checks it: each time, it is a request with
//! the client's bytes, to a URL that no client may choose and no upstream abuse.

use super::{begin, location, open, patch, put};
use crate::support::{Auth, Blob, Fault, ScriptedRegistry, Setup, When};

/// Hosts and URLs where no upload goes. The network has nothing there: a connection fails the test.
const HOSTILE: [&str; 12] = [
    "http://127.0.0.1/upload",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]/upload",
    "http://[fd00:ec2::254]/upload",
    "http://[64:ff9b::a9fe:a9fe]/upload",
    "http://10.0.0.1/upload",
    "http://inside.test/upload",
    "http://user:password@registry-1.docker.io/upload",
    "ftp://registry-1.docker.io/upload",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "",
];

#[tokio::test(start_paused = true)]
async fn an_upload_is_not_led_inwards() {
    for hostile in HOSTILE {
        let hub = ScriptedRegistry::new();
        let proxy = open(&hub).await;
        proxy.network.name("inside.test", &["192.168.1.1"]);
        let leads = || Fault::Header("Location", hostile.to_owned());
        hub.breaks(When::asked("/uploads/").by("POST"), leads());

        let reply = super::post(&proxy, "/v2/o/a/blobs/uploads/").await;
        // A target that the URL does not give away is refused when it is dialled.
        let (status, reply) = match reply.status.as_u16() {
            202 => (502, patch(&proxy, &location(&reply), b"secret bytes").await),
            _ => (502, reply),
        };
        let (_, message) = reply.error(status);
        assert!(!message.contains("password"), "{message}");

        hub.heal();
        let begun = begin(&proxy, "o/a").await;
        hub.breaks(When::asked("/uploads/").by("PATCH"), leads());
        let appended = patch(&proxy, &begun, b"x").await;
        if appended.status == 202 {
            patch(&proxy, &location(&appended), b"secret bytes").await.error(502);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_not_led_from_https_to_http() {
    let hub = ScriptedRegistry::new();
    let ca = crate::support::tls::TestCa::new();
    let mut setup = Setup::new();
    setup.tls_registry("docker.io", &hub, &ca).rules.push = true;
    setup.network.put("store.test", 80, hub.clone());
    let proxy = setup.start().await;
    hub.locate_uploads_at("http://store.test");
    let reply = super::post(&proxy, "/v2/o/a/blobs/uploads/").await;
    assert!(reply.error(502).1.contains("https must not lead to http"));

    // The upstream's own idea of its scheme is often wrong; it is still the upstream.
    hub.locate_uploads_at("http://registry-1.docker.io");
    let blob = Blob::random(1, 1000);
    let begun = begin(&proxy, "o/a").await;
    put(&proxy, &begun, &blob, &blob.bytes).await.assert_status(201);
}

/// Storage that takes uploads is not the registry: it must not learn the credential.
#[tokio::test(start_paused = true)]
async fn an_upload_at_another_host_brings_no_credential() {
    let hub = ScriptedRegistry::new();
    let store = hub.clone();
    let mut setup = Setup::new();
    let options = setup.registry("docker.io", &hub);
    options.rules.push = true;
    options.upstream.credential = larder::upstream::ProxyCredential::Basic {
        username: "robot".to_owned(),
        password: "s3cr3t-password".to_owned().into(),
    };
    setup.network.put("store.test", 80, store);
    let proxy = setup.start().await;
    hub.requires(Auth::basic("robot", "s3cr3t-password"));
    hub.locate_uploads_at("http://store.test");
    let blob = Blob::random(1, 1000);
    let begun = begin(&proxy, "o/a").await;
    hub.requires(Auth::Open);
    hub.forget();

    put(&proxy, &begun, &blob, &blob.bytes).await.assert_status(201);

    let put = &hub.changes("PUT", "")[0];
    assert_eq!(put.host, "store.test");
    assert!(!put.has_credential(), "{:?}", put.headers);
}

/// A body that is sent once cannot be sent again elsewhere.
#[tokio::test(start_paused = true)]
async fn a_redirect_of_a_body_is_not_followed() {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    setup.network.put("store.test", 80, hub.clone());
    let proxy = setup.start().await;
    let begun = begin(&proxy, "o/a").await;
    hub.breaks(
        When::asked("/uploads/").by("PATCH"),
        Fault::RedirectTo("http://store.test/v2/o/a/blobs/uploads/upload-1?state=1".to_owned()),
    );

    patch(&proxy, &begun, b"x").await.error(502);

    assert!(hub.asked().iter().all(|asked| asked.host != "store.test"));
}

/// The registry knows its upload by the text that it gave.
#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_at_its_location_byte_for_byte() {
    let blob = Blob::random(1, 1000);
    for (target, digest_after) in [
        ("/up/1?_state=a'b%2fC%2F{d}|e^f", '&'),
        ("/up/{1}/it's?", '&'),
        ("/up//1", '?'),
        ("/up/%41?a&&b=&=c+d", '&'),
    ] {
        for base in ["", "http://store.test"] {
            let (hub, store) = (ScriptedRegistry::new(), ScriptedRegistry::new());
            let mut setup = Setup::new();
            setup.registry("docker.io", &hub).rules.push = true;
            setup.network.put("store.test", 80, store.clone());
            let proxy = setup.start().await;
            let at = if base.is_empty() { &hub } else { &store };
            let leads = |status| {
                let headers = vec![("Location", format!("{base}{target}"))];
                Fault::Status(status, headers, "")
            };
            hub.breaks(When::asked("/uploads/").by("POST"), leads(202));
            at.breaks(When::asked("/up/").by("PATCH"), leads(202));
            at.breaks(When::asked("/up/").by("PUT"), Fault::Status(201, Vec::new(), ""));

            let begun = begin(&proxy, "o/a").await;
            let appended = patch(&proxy, &begun, &blob.bytes).await;
            put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);

            let query = format!("digest={}", blob.digest);
            let separator = if target.ends_with('?') { "" } else { &*digest_after.to_string() };
            assert_eq!(at.changes("PATCH", "/up/")[0].target, target, "{base}");
            let put = at.changes("PUT", "/up/")[0].target.clone();
            assert_eq!(put, format!("{target}{separator}{query}"), "{base}");
        }
    }
}
