//! HTTP/2 towards upstreams: for small things where it is spoken, for all where nothing else is.

use http::Version;

use crate::support::h2::{Front, Speaks};
use crate::support::tls::TestCa;
use crate::support::{Auth, Fault, Image, Place, Proxy, ScriptedRegistry, Setup, When};

const REPOSITORY: &str = "library/alpine";
const REAL: &str = "registry-1.docker.io";
const LEN: usize = 300_000;

struct Case {
    hub: ScriptedRegistry,
    front: Front,
    ca: TestCa,
    image: Image,
    setup: Setup,
}

/// A mirror of a registry with an image of three layers, behind a front.
fn case(speaks: Speaks) -> Case {
    let (hub, ca) = (ScriptedRegistry::new(), TestCa::new());
    let image = Image::random(1, &[LEN, LEN, LEN]);
    hub.put_image(REPOSITORY, "latest", &image);
    let front = Front::new(&hub, REAL, &ca, speaks);
    let mut setup = Setup::new();
    setup.tls_registry("docker.io", &hub, &ca);
    setup.network.put(REAL, 443, front.clone());
    Case { hub, front, ca, image, setup }
}

/// Each connection costs round trips; each layer its share of a window.
#[tokio::test(start_paused = true)]
async fn small_things_share_a_connection_and_layers_have_their_own() {
    let Case { front, image, setup, .. } = case(Speaks::Both);
    let proxy = setup.start().await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    assert!(front.versions("/manifests/").iter().all(|it| *it == Version::HTTP_2));
    assert!(front.versions("/blobs/").iter().all(|it| *it == Version::HTTP_11));
    assert_eq!(front.connections(Version::HTTP_2), 1);
    assert_eq!(front.versions("/blobs/").len(), 4);
}

/// Docker Hub and the clouds answer a layer with a redirect: that is small, and a connection of its
/// own would only delay it.
#[tokio::test(start_paused = true)]
async fn a_registry_that_redirects_is_asked_without_new_connections() {
    let Case { hub, front, ca, image, setup } = case(Speaks::Both);
    hub.redirect_blobs_to("https://cdn.example");
    let cdn = Front::new(&hub, "cdn.example", &ca, Speaks::Both);
    setup.network.put("cdn.example", 443, cdn.clone());
    let proxy = setup.start().await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    let [first, others @ ..] = &front.versions("/blobs/")[..] else { panic!("no blob was asked") };
    assert_eq!(*first, Version::HTTP_11, "nobody knew");
    assert_eq!(others, [Version::HTTP_2; 3]);
    assert_eq!(front.connections(Version::HTTP_2), 1);
    assert_eq!(cdn.versions(""), [Version::HTTP_11; 4]);
}

/// HTTP/1.1 is not everywhere any more.
#[tokio::test(start_paused = true)]
async fn a_registry_that_speaks_http2_alone_is_spoken_to() {
    for speaks in [Speaks::Http2, Speaks::Http2Regardless] {
        let Case { hub, front, image, setup, .. } = case(speaks);
        hub.requires(Auth::tokens(&format!("https://{REAL}/token")));
        let proxy = setup.start().await;

        proxy.pull(REPOSITORY, "latest", &image).await;

        assert!(front.versions("").iter().all(|it| *it == Version::HTTP_2), "{speaks:?}");
        assert_eq!(front.versions("/blobs/").len(), 4, "{speaks:?}");
    }
}

/// The promises do not depend on the version.
#[tokio::test(start_paused = true)]
async fn cut_and_wrong_bodies_over_http2_are_handled_as_over_http1() {
    let Case { hub, image, setup, .. } = case(Speaks::Http2);
    hub.breaks(When::asked(&image.layers[0].digest).get().nth(1), Fault::CutAt(100_000));
    hub.breaks(When::asked(&image.layers[1].digest).get(), Fault::FlipByte(Place::Middle));
    let proxy = setup.start().await;

    let cut = proxy.get(&image.layers[0].path(REPOSITORY)).await;
    let wrong = proxy.get(&image.layers[1].path(REPOSITORY)).await;

    cut.assert_is(&image.layers[0]);
    assert_eq!(hub.gets(&image.layers[0].digest)[1].header("range"), Some("bytes=100000-"));
    // Known to be wrong before its first bytes were on their way, or after.
    let is_cut = wrong.status == 200 && !wrong.is_complete() && wrong.body.len() < LEN;
    assert!(is_cut || wrong.status == 502, "{}, {} bytes", wrong.status, wrong.body.len());
    assert!(!proxy.has_stored(&image.layers[1].digest));
}

/// A dead connection that everything shares would fail everything, again and again.
#[tokio::test(start_paused = true)]
async fn a_connection_that_has_died_silently_is_given_up_in_time() {
    let Case { front, image, setup, .. } = case(Speaks::Both);
    let proxy: Proxy = setup.start().await;
    proxy.get("/v2/library/alpine/manifests/latest").await.assert_is(&image.manifest.blob);
    front.silence();

    let (_, message) = proxy.get("/v2/library/alpine/manifests/other").await.error(404);

    assert!(message.contains("does not have it"), "{message}");
    assert_eq!(front.connections(Version::HTTP_2), 2);
}
