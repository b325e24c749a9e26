//! The host of a request: which registry it means, and what is not a host.

use crate::support::client::answers_in;
use crate::support::{Image, Proxy, ScriptedRegistry, Setup, Version};

const HUB: &str = "docker.io";
const GHCR: &str = "ghcr.io";

struct Hosts {
    proxy: Proxy,
    hub: ScriptedRegistry,
    ghcr: ScriptedRegistry,
}

impl Hosts {
    async fn open() -> Self {
        let (hub, ghcr) = (ScriptedRegistry::new(), ScriptedRegistry::new());
        let image = Image::random(1, &[]);
        for registry in [&hub, &ghcr] {
            for repository in ["owner/app", "library/alpine", "docker.io/owner/app"] {
                registry.put_image(repository, "v1", &image);
            }
        }
        let mut setup = Setup::new();
        setup.registry(HUB, &hub).hosts = vec!["hub.corp".parse().unwrap()];
        setup.registry(GHCR, &ghcr).hosts = vec!["ghcr.corp:5443".parse().unwrap()];
        Self { proxy: setup.start().await, hub, ghcr }
    }

    /// Which registry was asked last, and for what.
    fn asked(&self) -> (&'static str, String) {
        let asked = [(HUB, &self.hub), (GHCR, &self.ghcr)].into_iter().find_map(|(name, it)| {
            let first = it.asked().first().map(|asked| (name, asked.target.clone()));
            it.forget();
            first
        });
        asked.expect("a registry was asked")
    }
}

/// One precedence for both versions: the registry first, ns, the host, the prefix, the mirror.
#[tokio::test(start_paused = true)]
async fn a_host_selects_its_registry_over_http1_and_http2() {
    let table = [
        ("hub.corp", "/v2/alpine/manifests/v1", HUB, "library/alpine"),
        ("ghcr.corp:5443", "/v2/owner/app/manifests/v1", GHCR, "owner/app"),
        ("GHCR.Corp:5443", "/v2/owner/app/manifests/v1", GHCR, "owner/app"),
        ("ghcr.corp", "/v2/owner/app/manifests/v1", HUB, "owner/app"),
        ("ghcr.corp:5443", "/v2/ghcr.io/owner/app/manifests/v1", GHCR, "owner/app"),
        ("ghcr.corp:5443", "/v2/docker.io/owner/app/manifests/v1", GHCR, "docker.io/owner/app"),
        ("ghcr.corp:5443", "/v2/owner/app/manifests/v1?ns=docker.io", HUB, "owner/app"),
        ("hub.corp", "/ghcr.io/v2/owner/app/manifests/v1", GHCR, "owner/app"),
        ("hub.corp", "/v2/ghcr.io/owner/app/manifests/v1", HUB, ""),
    ];
    for version in [Version::Http11, Version::H2] {
        for (host, path, registry, repository) in table {
            let hosts = Hosts::open().await;
            let get = http::Method::GET;
            let reply =
                hosts.proxy.client.try_call(version, get, path, &[("host", host)]).await.unwrap();
            if repository.is_empty() {
                // The path is the repository's own on the host's registry, which has none such.
                reply.assert_status(404);
                assert_eq!(hosts.asked().0, registry, "{version:?} {host}{path}");
                continue;
            }
            reply.assert_status(200);
            let (asked, target) = hosts.asked();
            assert_eq!(asked, registry, "{version:?} {host}{path}");
            assert!(target.starts_with(&format!("/v2/{repository}/")), "{host}{path}: {target}");
        }
    }
}

/// Two readers of one request must not see two hosts, and no text of the request is sent back.
#[tokio::test(start_paused = true)]
async fn a_request_without_one_plain_host_is_refused_once() {
    let hosts = Hosts::open().await;
    let path = "/v2/owner/app/manifests/v1";
    for (version, headers) in [
        ("1.1", ""),
        ("1.1", "Host: hub.corp\r\nHost: ghcr.corp:5443\r\n"),
        ("1.1", "Host: hub.corp\r\nhost: hub.corp\r\n"),
        ("1.0", "Host: hub.corp\r\nHost: hub.corp\r\n"),
        ("1.1", "Host: \r\n"),
        ("1.1", "Host: <script>evil</script>\r\n"),
        ("1.1", "Host: user@hub.corp\r\n"),
        ("1.1", "Host: hub.corp/evil\r\n"),
        ("1.1", "Host: hub.corp, evil\r\n"),
        ("1.1", "Host: hub.corp:evil\r\n"),
        ("1.1", "Host: h\u{fc}b.corp\r\n"),
    ] {
        let request = format!("GET {path} HTTP/{version}\r\n{headers}\r\n");
        let mut client = hosts.proxy.client.raw();
        client.send(request.as_bytes()).await;
        let (answer, _) = client.read_all().await;
        assert_eq!(answers_in(&answer), [400], "{headers:?}");
        let text = String::from_utf8_lossy(&answer);
        for word in ["evil", "script", "corp"] {
            assert!(!text.contains(word), "{headers:?} came back in {text}");
        }
    }
    hosts.hub.assert_not_asked();
    hosts.ghcr.assert_not_asked();
}
