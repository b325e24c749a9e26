//! The ways in which a request names its registry.

use crate::support::{Image, Proxy, ScriptedRegistry, Setup};

/// A proxy of three registries, each with the same image in all of these repositories.
struct Doors {
    proxy: Proxy,
    registries: [(&'static str, ScriptedRegistry); 3],
}

const HUB: &str = "docker.io";
const GHCR: &str = "ghcr.io";
const CORP: &str = "registry.corp:5000";

impl Doors {
    async fn open(repositories: &[&str]) -> Self {
        let registries = [HUB, GHCR, CORP].map(|name| (name, ScriptedRegistry::new()));
        let image = Image::random(1, &[]);
        let mut setup = Setup::new();
        for (name, registry) in &registries {
            for repository in repositories {
                registry.put_image(repository, "v1", &image);
            }
            setup.registry(name, registry);
        }
        setup.settings.registries[2].prefix = Some("corp.example".to_owned());
        Self { proxy: setup.start().await, registries }
    }

    /// The registries that were asked, and for which paths.
    fn asked(&self) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        for (name, registry) in &self.registries {
            all.extend(registry.asked().iter().map(|asked| (*name, asked.target.clone())));
            registry.forget();
        }
        all
    }
}

/// Path and query, and the registry and repository that are meant.
const TABLE: [(&str, &str, &str); 24] = [
    // The mirror door: dockerd names no registry.
    ("/v2/owner/app/manifests/v1", HUB, "owner/app"),
    ("/v2/alpine/manifests/v1", HUB, "library/alpine"),
    ("/v2/library/alpine/manifests/v1", HUB, "library/alpine"),
    // The prefix door: podman, BuildKit and people.
    ("/v2/ghcr.io/owner/app/manifests/v1", GHCR, "owner/app"),
    ("/v2/ghcr.io/app/manifests/v1", GHCR, "app"),
    ("/v2/docker.io/alpine/manifests/v1", HUB, "library/alpine"),
    ("/v2/docker.io/owner/app/manifests/v1", HUB, "owner/app"),
    ("/v2/corp.example/owner/app/manifests/v1", CORP, "owner/app"),
    // The registry before /v2: hosts.toml.
    ("/ghcr.io/v2/owner/app/manifests/v1", GHCR, "owner/app"),
    ("/docker.io/v2/alpine/manifests/v1", HUB, "library/alpine"),
    // ns: containerd.
    ("/v2/owner/app/manifests/v1?ns=ghcr.io", GHCR, "owner/app"),
    ("/v2/owner/app/manifests/v1?ns=GHCR.io", GHCR, "owner/app"),
    ("/v2/owner/app/manifests/v1?ns=ghcr.io:443", GHCR, "owner/app"),
    ("/v2/owner/app/manifests/v1?ns=ghcr%2Eio", GHCR, "owner/app"),
    ("/v2/owner/app/manifests/v1?foo=bar&ns=ghcr.io&n=1", GHCR, "owner/app"),
    ("/v2/owner/app/manifests/v1?ns=registry.corp:5000", CORP, "owner/app"),
    ("/v2/alpine/manifests/v1?ns=docker.io", HUB, "library/alpine"),
    ("/v2/alpine/manifests/v1?ns=index.docker.io", HUB, "library/alpine"),
    ("/v2/alpine/manifests/v1?ns=registry-1.docker.io", HUB, "library/alpine"),
    ("/v2/owner/app/manifests/v1?ns=", HUB, "owner/app"),
    // Both: the registry before /v2 decides; a component is stripped only if it says the same.
    ("/ghcr.io/v2/owner/app/manifests/v1?ns=docker.io", GHCR, "owner/app"),
    ("/v2/ghcr.io/owner/app/manifests/v1?ns=ghcr.io", GHCR, "owner/app"),
    ("/v2/docker.io/owner/app/manifests/v1?ns=ghcr.io", GHCR, "docker.io/owner/app"),
    ("/v2/ghcr.io/owner/app/manifests/v1?ns=docker.io", HUB, "ghcr.io/owner/app"),
];

/// One wrong turn would serve one registry's bytes under another's name.
#[tokio::test(start_paused = true)]
async fn each_door_leads_to_the_registry_and_repository_that_is_meant() {
    let repositories: Vec<_> = TABLE.iter().map(|(_, _, repository)| *repository).collect();
    let doors = Doors::open(&repositories).await;
    let image = Image::random(2, &[]);
    for (row, (path, registry, repository)) in TABLE.iter().enumerate() {
        // A tag of its own makes each row a miss.
        let (path, tag) = (path.replace("/v1", &format!("/row-{row}")), format!("row-{row}"));
        for (_, registry) in &doors.registries {
            registry.put_tagged(repository, &tag, &image.manifest);
        }

        let reply = doors.proxy.get(&path).await;

        let asked = doors.asked();
        reply.assert_status(200);
        assert!(!asked.is_empty(), "{path}");
        for (name, target) in asked {
            assert_eq!(name, *registry, "{path} asked {target}");
            let start = format!("/v2/{repository}/manifests/");
            assert!(target.starts_with(&start), "{path} asked for {target}");
            assert!(!target.contains("ns="), "{path} asked for {target}");
        }
    }
}

/// The specification's wish: a proxy that used `ns` says so.
#[tokio::test(start_paused = true)]
async fn the_namespace_that_was_used_is_echoed() {
    let doors = Doors::open(&["owner/app", "library/alpine"]).await;
    for _ in ["cold", "warm"] {
        let named = doors.proxy.get("/v2/owner/app/manifests/v1?ns=ghcr.io").await;
        let alias = doors.proxy.get("/v2/alpine/manifests/v1?ns=index.docker.io").await;
        let unnamed = doors.proxy.get("/v2/owner/app/manifests/v1").await;
        let missing = doors.proxy.get("/v2/owner/none/manifests/v1?ns=ghcr.io").await;

        assert_eq!(named.header("oci-namespace"), Some("ghcr.io"));
        assert!(matches!(alias.header("oci-namespace"), Some("docker.io" | "index.docker.io")));
        assert_eq!(unnamed.header("oci-namespace"), None);
        missing.assert_status(404);
    }
}

/// `ns` is looked up among what is configured. It is no address, however it is dressed.
#[tokio::test(start_paused = true)]
async fn an_unknown_namespace_is_a_404_without_an_upstream_request() {
    let doors = Doors::open(&["owner/app"]).await;
    let unknown = [
        "evil.example",
        "169.254.169.254",
        "http://127.0.0.1:1/",
        "docker.io@evil",
        "docker.io%2f..%2fevil",
        "docker.io%00",
        "docker.io:80",
        "xn--docker-.io",
        "[::1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "2130706433",
        "0x7f.1",
        "localhost",
        "unix:/x",
        "corp.example.evil",
        "io",
    ];
    for ns in unknown {
        for path in ["/v2/owner/app/manifests/v1", "/v2/ghcr.io/owner/app/manifests/v1"] {
            let reply = doors.proxy.get(&format!("{path}?ns={ns}")).await;

            assert_eq!(reply.error(404).0, "NAME_UNKNOWN", "{ns}");
        }
    }
    assert_eq!(doors.asked(), []);
    assert_eq!(doors.proxy.network.lookups(), [""; 0]);
}

/// Two namespaces are a question with two answers; guessing one would be a lie.
#[tokio::test(start_paused = true)]
async fn a_namespace_given_twice_is_refused() {
    let doors = Doors::open(&["owner/app"]).await;
    for query in ["ns=ghcr.io&ns=docker.io", "ns=ghcr.io&ns=", "ns=ghcr.io&n%73=docker.io"] {
        let reply = doors.proxy.get(&format!("/v2/owner/app/manifests/v1?{query}")).await;

        reply.error(400);
    }
    assert_eq!(doors.asked(), []);
}

/// A registry that is not configured does not exist, at whichever door. Docker Hub, the default,
/// has no namespace with a dot, so it is not told of images that were meant for another registry.
#[tokio::test(start_paused = true)]
async fn a_registry_that_is_not_configured_is_refused_by_its_name_at_every_door() {
    let doors = Doors::open(&["owner/app"]).await;
    let table = [
        ("/nosuch.io/v2/owner/app/manifests/v1", "nosuch.io"),
        ("/127.0.0.1/v2/a/manifests/v1", "127.0.0.1"),
        ("/v2/owner/app/manifests/v1?ns=nosuch.io", "nosuch.io"),
        ("/v2/nosuch.io/app/manifests/v1", "nosuch.io"),
        ("/v2/nosuch.io/owner/app/tags/list", "nosuch.io"),
        ("/v2/nosuch.io/owner/app/manifests/v1?n=1&ns=", "nosuch.io"),
        ("/v2/nosuch.io:5000/app/manifests/v1", "nosuch.io:5000"),
        ("/v2/localhost:5000/app/manifests/v1", "localhost:5000"),
        ("/v2/169.254.169.254/latest/manifests/x", "169.254.169.254"),
        ("/v2/[::1]:5000/app/manifests/v1", "[::1]:5000"),
        ("/v2/larder.test/ghcr.io/owner/app/manifests/v1", "larder.test"),
        ("/v2/ghcr.io.evil/owner/app/manifests/v1", "ghcr.io.evil"),
    ];
    for (path, name) in table {
        let (code, message) = doors.proxy.get(path).await.error(404);

        let want = format!("registry `{name}` is not configured here");
        assert_eq!((code.as_str(), message), ("NAME_UNKNOWN", want), "{path}");
    }
    // Known names that are no prefixes: the registry is another one than the default, too.
    for (path, name) in [
        ("/v2/registry.corp:5000/owner/app/manifests/v1", "registry.corp:5000"),
        ("/v2/index.docker.io/owner/app/manifests/v1", "index.docker.io"),
    ] {
        let (code, message) = doors.proxy.get(path).await.error(404);

        assert_eq!(code, "NAME_UNKNOWN", "{path}");
        assert!(message.contains(&format!("`{name}` is no prefix here")), "{path}: {message}");
    }
    assert_eq!(doors.asked(), []);
}

/// Only what Docker Hub cannot have is refused unasked.
#[tokio::test(start_paused = true)]
async fn names_that_the_default_registry_may_have_are_passed_to_it() {
    let doors = Doors::open(&[]).await;
    for path in [
        // A user of Docker Hub may be called so.
        "/v2/localhost/app/manifests/v1",
        "/v2/owner/nosuch.io/manifests/v1",
        "/v2/nosuch.io/manifests/v1",
        "/v2/nosuch-io/app/manifests/v1",
        // The client names docker.io itself.
        "/v2/nosuch.io/app/manifests/v2?ns=docker.io",
        "/docker.io/v2/nosuch.io/app/manifests/v3",
        "/v2/docker.io/nosuch.io/app/manifests/v4",
    ] {
        doors.proxy.get(path).await.error(404);
        let asked = doors.asked();
        assert!(!asked.is_empty() && asked.iter().all(|(name, _)| *name == HUB), "{path}");
    }

    // gcr.io has `google.com/cloudsdktool`, a Harbor project may be called `docker.io`.
    let (gcr, image) = (ScriptedRegistry::new(), Image::random(1, &[]));
    gcr.put_image("google.com/cloudsdktool/cli", "v1", &image);
    let mut setup = Setup::new();
    setup.registry("gcr.io", &gcr);
    let proxy = setup.start().await;
    let path = "/v2/google.com/cloudsdktool/cli/manifests/v1";
    proxy.get(path).await.assert_is(&image.manifest.blob);
}

/// Without a default registry, a request that names none means none.
#[tokio::test(start_paused = true)]
async fn without_a_default_the_mirror_door_is_closed() {
    let ghcr = ScriptedRegistry::new();
    let image = Image::random(1, &[]);
    ghcr.put_image("owner/app", "v1", &image);
    let mut setup = Setup::new();
    setup.registry(GHCR, &ghcr).is_default = false;
    let proxy = setup.start().await;

    proxy.get("/v2/owner/app/manifests/v1").await.error(404);
    let (_, message) = proxy.get("/v2/nosuch.io/app/manifests/v1").await.error(404);
    assert_eq!(message, "registry `nosuch.io` is not configured here");
    ghcr.assert_not_asked();
    proxy.get("/v2/ghcr.io/owner/app/manifests/v1").await.assert_is(&image.manifest.blob);
}

/// Content that was pulled through one door is a hit at all the others.
#[tokio::test(start_paused = true)]
async fn content_cached_through_one_door_is_a_hit_at_every_door() {
    let doors = Doors::open(&["owner/app"]).await;
    doors.proxy.get("/v2/ghcr.io/owner/app/manifests/v1").await.assert_status(200);
    doors.asked();

    let others = ["/ghcr.io/v2/owner/app/manifests/v1", "/v2/owner/app/manifests/v1?ns=ghcr.io"];
    for path in others {
        assert!(doors.proxy.get(path).await.decision().is_hit(), "{path}");
    }
    assert_eq!(doors.asked(), []);
}
