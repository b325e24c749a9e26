//! An upstream's refusal: about one repository it is an answer, about our credential an outage.

use larder::upstream::ProxyCredential;

use crate::support::{Auth, Image, Proxy, Reach, ScriptedRegistry, Setup, TAG_TTL};

const REPOSITORY: &str = "team/app";
const LATEST: &str = "/v2/team/app/manifests/latest";
const HOST: &str = "registry-1.docker.io";
const REALM: &str = "http://auth.docker.io/token";

fn credential() -> ProxyCredential {
    ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() }
}

/// A mirror with a credential, before a registry that wants it, holding a tag past its TTL.
async fn warm(auth: Auth) -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.requires(auth);
    let mut setup = Setup::new();
    setup.network.put("auth.docker.io", 80, hub.clone());
    setup.registry("docker.io", &hub).upstream.credential = credential();
    let proxy = setup.start().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    tokio::time::advance(TAG_TTL * 2).await;
    hub.forget();
    (hub, image, proxy)
}

fn both_ways() -> [Auth; 2] {
    [Auth::basic("robot", "pa55word"), Auth::tokens_for(REALM, "robot", "pa55word")]
}

/// Harbor and others hide what is private from requests without a login, as the first one after a
/// start is. Taken for an answer, their 404 would end the tag.
#[tokio::test(start_paused = true)]
async fn a_tag_survives_a_restart_before_a_registry_that_hides_what_is_private() {
    for auth in both_ways() {
        let (hub, image, proxy) = warm(auth).await;
        hub.hides_what_is_private();
        proxy.restart().await;

        let reply = proxy.get(LATEST).await;

        reply.assert_is(&image.manifest.blob);
        assert!(!reply.decision().is_stale(), "{:?}", reply.headers);
        proxy.get("/v2/team/other/manifests/latest").await.assert_status(404);
        let pings = hub.gets("/v2/").into_iter().filter(|asked| asked.path() == "/v2/").count();
        assert_eq!(pings, 1, "the login is asked for once");
    }
}

/// A repository that was made private or deleted must not live on in a cache for thirty days.
#[tokio::test(start_paused = true)]
async fn a_repository_that_refuses_while_the_credential_works_is_obeyed() {
    for auth in both_ways() {
        for status in [401, 403, 404] {
            let (hub, _image, proxy) = warm(auth.clone()).await;
            hub.refuse(REPOSITORY, Some(status));

            let refused = proxy.get(LATEST).await;

            let seen = refused.status.as_u16();
            assert!(matches!(seen, 403 | 404), "{status} became {seen}: {}", refused.text());
            refused.error(seen);
            assert!(!refused.headers.contains_key("www-authenticate"), "mirrors never challenge");
            assert!(hub.asked().len() <= 8, "no retries against a refusal: {:?}", hub.asked());
            proxy.network.set(HOST, Reach::Down);
            let later = proxy.get(LATEST).await;
            assert_ne!(later.status, 200, "{status}: the tag record is gone, nothing is stale");
        }
    }
}

/// The same without any credential: nothing of ours can be broken, so it is an answer.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_an_anonymous_proxy_is_obeyed() {
    for status in [401, 403, 404] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[]);
        hub.put_image(REPOSITORY, "latest", &image);
        let proxy = Proxy::before(&hub).await;
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        tokio::time::advance(TAG_TTL * 2).await;
        hub.refuse(REPOSITORY, Some(status));

        let seen = proxy.get(LATEST).await.status.as_u16();

        assert!(matches!(seen, 403 | 404), "{status} became {seen}");
        hub.refuse(REPOSITORY, None);
        proxy.network.set(HOST, Reach::Down);
        assert_ne!(proxy.get(LATEST).await.status, 200, "{status}: the record must be gone");
    }
}

/// A rotated password must not stop a fleet that needs nothing but what is cached.
#[tokio::test(start_paused = true)]
async fn a_credential_that_is_refused_everywhere_is_an_outage() {
    for auth in both_ways() {
        let (hub, image, proxy) = warm(auth.clone()).await;
        let rotated = match auth {
            Auth::Basic { .. } => Auth::basic("robot", "another"),
            _ => Auth::tokens_for(REALM, "robot", "another"),
        };
        hub.requires(rotated);

        let tag = proxy.get(LATEST).await;
        let cold = proxy.get("/v2/team/app/manifests/other").await;
        let layer = proxy.get(&image.layers[0].path(REPOSITORY)).await;

        tag.assert_is(&image.manifest.blob);
        assert!(tag.decision().is_stale(), "{auth:?}: {:?}", tag.decision());
        layer.assert_is(&image.layers[0]);
        let (_, message) = cold.error(502);
        assert!(message.contains("docker.io"), "{auth:?}: {message}");
        assert!(!message.contains("pa55word"), "{auth:?}: a secret in a message: {message}");
    }
}

/// The record that survived must be usable again once the credential is mended.
#[tokio::test(start_paused = true)]
async fn a_corrected_credential_ends_the_outage() {
    let (hub, image, proxy) = warm(Auth::basic("robot", "pa55word")).await;
    hub.requires(Auth::basic("robot", "another"));
    assert!(proxy.get(LATEST).await.decision().is_stale());

    hub.requires(Auth::basic("robot", "pa55word"));
    tokio::time::advance(std::time::Duration::from_secs(15 * 60)).await;
    let tag = proxy.get(LATEST).await;

    tag.assert_is(&image.manifest.blob);
    assert!(!tag.decision().is_stale(), "{:?}", tag.decision());
}

/// dockerd offers Docker Hub's password to a mirror that challenges; what comes is ignored.
#[tokio::test(start_paused = true)]
async fn a_clients_credential_goes_nowhere() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    let secret = [("authorization", "Basic c2VjcmV0OnNlY3JldA=="), ("cookie", "session=s3cr3t")];

    proxy.get_with(LATEST, &secret).await.assert_is(&image.manifest.blob);
    proxy.get_with(&image.layers[0].path(REPOSITORY), &secret).await.assert_is(&image.layers[0]);

    let asked = hub.asked();
    assert!(asked.iter().all(|asked| !asked.has_credential()), "{asked:?}");
}
