//! A registry behind several upstreams: mirrors that lack things, lie or die, and the real one.

use std::time::Duration;

use larder::upstream::{ProxyCredential, UpstreamOptions};
use tokio::time::Instant;

use crate::support::{Auth, Blob, Fault, Image, Place, Proxy, Reach, ScriptedRegistry, Setup};
use crate::support::{TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const MIRROR: &str = "mirror.test";
const REAL: &str = "registry-1.docker.io";
const LEN: usize = 500_000;

/// A mirror before Docker Hub, to which a user and a password are configured.
async fn mirrored(mirror: &ScriptedRegistry, hub: &ScriptedRegistry) -> Proxy {
    let mut setup = Setup::new();
    setup.registry("docker.io", hub).upstream.credential =
        ProxyCredential::Basic { username: "me".to_owned(), password: "hunter2".to_owned().into() };
    setup.network.put(MIRROR, 80, mirror.clone());
    let registry = setup.settings.registries.last_mut().unwrap();
    let url = format!("http://{MIRROR}").parse().unwrap();
    let credential = ProxyCredential::Anonymous;
    registry.mirrors.push(UpstreamOptions { url, credential, ..registry.upstream.clone() });
    setup.start().await
}

/// The usual case: a mirror of a part. Content that it has comes from it, all else from the real
/// one.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_lacks_most_saves_what_it_has_and_fails_nothing() {
    let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[LEN, LEN]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.requires(Auth::basic("me", "hunter2"));
    mirror.put_blob(REPOSITORY, &image.layers[0]);
    let proxy = mirrored(&mirror, &hub).await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    assert!(hub.gets(&image.layers[0].digest).is_empty(), "the mirror has it");
    assert_eq!(hub.gets(&image.layers[1].digest).len(), 1, "the mirror has it not");
    assert!(mirror.asked().iter().all(|asked| !asked.has_credential()));
    assert!(mirror.asked().iter().all(|asked| !asked.target.contains("latest")));
}

/// A mirror that asks for the real one's password must not get it, and is passed over.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_wants_a_login_does_not_get_the_registrys() {
    let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[LEN]);
    for registry in [&mirror, &hub] {
        registry.put_image(REPOSITORY, "latest", &image);
        registry.requires(Auth::basic("me", "hunter2"));
    }
    let proxy = mirrored(&mirror, &hub).await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    assert!(!mirror.asked().is_empty());
    assert!(mirror.asked().iter().all(|asked| !asked.has_credential()));
}

/// A mirror that is old would take everybody back to yesterday's image.
#[tokio::test(start_paused = true)]
async fn tags_come_from_the_registry_itself_unless_it_is_down() {
    let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let (old, new) = (Image::random(1, &[10]), Image::random(2, &[10]));
    mirror.put_image(REPOSITORY, "latest", &old);
    hub.put_image(REPOSITORY, "latest", &new);
    let proxy = mirrored(&mirror, &hub).await;

    proxy.pull(REPOSITORY, "latest", &new).await;

    proxy.network.set(REAL, Reach::Down);
    mirror.put_image(REPOSITORY, "other", &old);
    proxy.pull(REPOSITORY, "other", &old).await;
}

/// Fault F1, with another upstream to go on with: the client must not notice, and no byte comes
/// twice.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_dies_in_the_middle_of_a_blob_is_not_noticed() {
    for fault in [Fault::CutAt(LEN / 2), Fault::stall_at(LEN / 2), Fault::CutHeaders] {
        let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
        let blob = Blob::random(1, LEN);
        mirror.put_blob(REPOSITORY, &blob);
        hub.put_blob(REPOSITORY, &blob);
        mirror.breaks(When::asked(&blob.digest), fault.clone());
        let proxy = mirrored(&mirror, &hub).await;

        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

        let gets = hub.gets(&blob.digest);
        let range = (!matches!(fault, Fault::CutHeaders)).then_some("bytes=250000-");
        assert_eq!(gets.len(), 1, "{fault:?}");
        assert_eq!(gets[0].header("range"), range, "{fault:?}");
        assert_eq!(mirror.gets(&blob.digest).len(), 1, "{fault:?}: who has failed is asked last");
        proxy.until_stored(&blob.digest).await;
    }
}

/// Fault F3, with another upstream to ask: a mirror that lies costs a pull at most, and then
/// nothing.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_gives_wrong_bytes_is_passed_over() {
    let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[LEN]);
    mirror.put_image(REPOSITORY, "latest", &image);
    hub.put_image(REPOSITORY, "latest", &image);
    mirror.breaks(When::asked("/v2/"), Fault::FlipByte(Place::Middle));
    let proxy = mirrored(&mirror, &hub).await;

    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    let layer = &image.layers[0];
    let reply =
        proxy.client.try_get(crate::support::Version::Http11, &layer.path(REPOSITORY)).await;
    if let Ok(reply) = reply
        && reply.is_complete()
    {
        reply.assert_is(layer);
    }
    proxy.until_stored(&layer.digest).await;
    proxy.get(&layer.path(REPOSITORY)).await.assert_is(layer);
}

/// A mirror in the dark costs its share of the time once, and the real one answers in the rest.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_cannot_be_reached_fails_no_pull() {
    let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[LEN]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = mirrored(&mirror, &hub).await;
    proxy.network.set(MIRROR, Reach::Dark);

    let begin = Instant::now();
    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    assert!(begin.elapsed() < Duration::from_secs(13), "{:?}", begin.elapsed());
    proxy.pull(REPOSITORY, "latest", &image).await;
}

/// The registry's own answer counts, whatever a mirror may have.
#[tokio::test(start_paused = true)]
async fn a_404_of_the_registry_counts_though_a_mirror_has_the_tag() {
    let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[10]);
    mirror.put_image(REPOSITORY, "latest", &image);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = mirrored(&mirror, &hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    hub.breaks(When::asked("latest"), Fault::status(404));
    tokio::time::advance(TAG_TTL * 2).await;

    assert_eq!(proxy.get(LATEST).await.status, 404);
}

/// A mirror that is wrong about what a manifest is, is as good as one that does not have it.
#[tokio::test(start_paused = true)]
async fn a_manifest_that_a_mirror_spoils_comes_from_the_next() {
    let other = "application/vnd.oci.image.index.v1+json".to_owned();
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned();
    for fault in [
        Fault::Header("Content-Type", other),
        Fault::Header("Content-Type", schema1),
        Fault::FlipByte(Place::Middle),
        Fault::TooLong(5 << 20),
        Fault::Html200,
    ] {
        let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
        let image = Image::random(1, &[10]);
        for registry in [&mirror, &hub] {
            registry.put_image(REPOSITORY, "latest", &image);
        }
        hub.requires(Auth::basic("me", "hunter2"));
        mirror.breaks(When::asked("/manifests/"), fault.clone());
        let proxy = mirrored(&mirror, &hub).await;

        let reply = proxy.get(&image.manifest.path(REPOSITORY)).await;

        reply.assert_is(&image.manifest.blob);
        assert_eq!(reply.header("content-type"), Some(image.manifest.media_type.as_str()));
        assert_eq!(mirror.gets(image.manifest.digest()).len(), 1, "{fault:?}");
    }
}

/// With two mirrors, the second is asked before the real one is.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_spoils_a_manifest_does_not_speak_for_the_others() {
    let (bad, good) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    for registry in [&bad, &good, &hub] {
        registry.put_image(REPOSITORY, "latest", &image);
    }
    bad.breaks(When::asked("/manifests/"), Fault::FlipByte(Place::Middle));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    let registry = setup.settings.registries.last_mut().unwrap();
    for (host, mirror) in [("bad.test", &bad), ("good.test", &good)] {
        setup.network.put(host, 80, mirror.clone());
        let url = format!("http://{host}").parse().unwrap();
        registry.mirrors.push(UpstreamOptions { url, ..registry.upstream.clone() });
    }
    let proxy = setup.start().await;

    proxy.get(&image.manifest.path(REPOSITORY)).await.assert_is(&image.manifest.blob);

    assert_eq!((bad.asked().len(), good.asked().len()), (1, 1));
    hub.assert_not_asked();
}
