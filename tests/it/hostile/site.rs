//! Pages of other sites that a user's browser shows: they reach Larder by its address or by a name
//! of their own, and can change or read nothing.

use http::Method;

use crate::support::{Client, Image, Process, Proxy, ScriptedRegistry, Setup};

const REPOSITORY: &str = "team/app";

async fn before() -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.put_image(REPOSITORY, "latest", &Image::random(1, &[1000]));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    (hub, setup.start().await)
}

#[tokio::test(start_paused = true)]
async fn requests_of_other_sites_that_change_something_are_refused() {
    let (hub, proxy) = before().await;
    let paths = ["/v2/team/app/blobs/uploads/", "/v2/team/app/manifests/latest"];
    for (name, value) in [
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for path in paths {
                let reply = proxy.client.call(method.clone(), path, &[(name, value)]).await;
                assert_eq!(reply.status, 403, "{method} {path} {name}: {value}");
            }
        }
    }
    hub.assert_not_asked();
}

/// A name that an attacker lets point here makes its pages read what only this machine may.
#[tokio::test]
async fn a_browser_that_asks_for_a_foreign_name_is_refused_and_a_client_is_not() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image("library/alpine", "latest", &image);
    let larder = Process::before(hub.listen().await, "").await;
    let browser = ("accept-language", "en-GB,en;q=0.5");
    let ask = async |client: Client, path: &str, host: &str, headers: &[(&str, &str)]| {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let lines = lines.collect::<Vec<_>>().concat();
        let mut raw = client.raw();
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n").as_bytes()).await;
        let answer = raw.heard().await.to_vec();
        String::from_utf8_lossy(&answer[9..12]).parse::<u16>().unwrap()
    };
    let latest = "/v2/library/alpine/manifests/latest";
    for host in ["evil.test", "evil.test:5000", "localhost.evil.test"] {
        for (name, value) in [browser, ("origin", "http://evil.test"), ("sec-fetch-site", "none")] {
            let headers = [(name, value)];
            assert_eq!(ask(larder.client(), latest, host, &headers).await, 421, "{host}");
            assert_eq!(ask(larder.admin(), "/metrics", host, &headers).await, 421, "{host}");
        }
        assert_eq!(ask(larder.client(), latest, host, &[]).await, 200, "{host}: no browser");
        assert_eq!(ask(larder.admin(), "/metrics", host, &[]).await, 200, "{host}: no browser");
    }
    for host in ["localhost:5000", "127.0.0.1", "[::1]:5000", "a.localhost"] {
        assert_eq!(ask(larder.client(), latest, host, &[browser]).await, 200, "{host}");
        assert_eq!(ask(larder.admin(), "/metrics", host, &[browser]).await, 200, "{host}");
    }
}
