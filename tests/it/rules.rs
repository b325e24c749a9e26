//! Rules of the operator: how long which tags are trusted, and which repositories exist.

use std::time::Duration;

use http::Method;

use crate::support::{Image, Proxy, Reach, ScriptedRegistry, Setup, TAG_TTL};
use larder::registry::TagRule;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn rule(pattern: &str, ttl: Duration) -> TagRule {
    TagRule { pattern: pattern.parse().unwrap(), ttl }
}

async fn ruled() -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    for tag in ["v1.0", "v2.0-rc1", "latest", "edge"] {
        hub.put_image("library/alpine", tag, &image);
    }
    let mut setup = Setup::new();
    let rules = &mut setup.registry("docker.io", &hub).rules;
    rules.tags = vec![rule("*-rc?", TAG_TTL), rule("v*", DAY), rule("edge", Duration::ZERO)];
    (hub, setup.start().await)
}

fn tag(tag: &str) -> String {
    format!("/v2/library/alpine/manifests/{tag}")
}

/// A release does not move, so Larder need not ask whether it has.
#[tokio::test(start_paused = true)]
async fn a_tag_is_fresh_for_the_ttl_of_the_first_rule_that_matches_it() {
    let (hub, proxy) = ruled().await;
    for name in ["v1.0", "v2.0-rc1", "latest", "edge"] {
        proxy.get(&tag(name)).await.assert_status(200);
    }
    let asked = |name: &str| hub.heads(tag(name)).len();
    for (wait, want) in
        [(Duration::from_secs(1), [0, 0, 0, 1]), (TAG_TTL, [0, 1, 1, 1]), (DAY, [1, 1, 1, 1])]
    {
        tokio::time::advance(wait).await;
        hub.forget();
        for name in ["v1.0", "v2.0-rc1", "latest", "edge"] {
            proxy.get(&tag(name)).await.assert_status(200);
        }
        let seen = ["v1.0", "v2.0-rc1", "latest", "edge"].map(asked);
        assert_eq!(seen, want, "after {wait:?}");
    }
}

/// A tag that is asked for too early, and then pushed to the upstream, must not stay away.
#[tokio::test(start_paused = true)]
async fn the_absence_of_a_tag_is_cached_for_a_moment_only() {
    // In seconds: the two keys, and for how long the absence is cached.
    for (negative, tag_ttl, want) in
        [(5, 60, 5), (5, 3, 3), (5, 0, 0), (20, 60, 20), (3600, 60, 60), (0, 60, 0)]
    {
        let hub = ScriptedRegistry::new();
        let mut setup = Setup::new();
        let options = setup.registry("docker.io", &hub);
        options.tags.ttl = Duration::from_secs(tag_ttl);
        options.rules.negative_tag_ttl = Duration::from_secs(negative);
        // A rule that is about the tag once it is there.
        options.rules.tags = vec![rule("v*", DAY)];
        let proxy = setup.start().await;
        for name in ["v2.0", "latest"] {
            proxy.get(&tag(name)).await.error(404);
            let image = Image::random(2, &[10]);
            hub.put_image("library/alpine", name, &image);
            if want > 0 {
                tokio::time::advance(Duration::from_secs(want)).await;
                proxy.get(&tag(name)).await.error(404);
            }
            tokio::time::advance(Duration::from_millis(1)).await;

            let reply = proxy.get(&tag(name)).await;
            assert_eq!(reply.status, 200, "{negative} s of {tag_ttl} s, {name}");
            reply.assert_is(&image.manifest.blob);
        }
    }
}

/// A mirror that cannot be asked is no reason to say that a tag may be there.
#[tokio::test(start_paused = true)]
async fn an_absence_is_served_while_the_upstream_is_down() {
    for negative in [0, 5] {
        let hub = ScriptedRegistry::new();
        let mut setup = Setup::new();
        let rules = &mut setup.registry("docker.io", &hub).rules;
        rules.negative_tag_ttl = Duration::from_secs(negative);
        let proxy = setup.start().await;
        proxy.get(&tag("sha256-1.sig")).await.error(404);
        proxy.network.set("registry-1.docker.io", Reach::Down);
        for wait in [1, 3600] {
            tokio::time::advance(Duration::from_secs(wait)).await;
            proxy.get(&tag("sha256-1.sig")).await.error(404);
        }
    }
}

/// A mirror for one team; nothing is asked, looked up or told of what is not the team's.
#[tokio::test(start_paused = true)]
async fn a_repository_that_allow_leaves_out_is_a_404() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    for repository in ["team/app", "team/sub/app", "team/secret", "other/app", "library/alpine"] {
        hub.put_image(repository, "latest", &image);
    }
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    let proxy = setup.start().await;
    for repository in ["team/secret", "other/app"] {
        proxy.pull(repository, "latest", &image).await;
    }
    proxy.stop().await;
    let mut setup = proxy.outlive();
    let rules = &mut setup.settings.registries[0].rules;
    rules.allow = ["team/**", "library/*"].map(|pattern| pattern.parse().unwrap()).to_vec();
    rules.deny = ["**/secret"].map(|pattern| pattern.parse().unwrap()).to_vec();
    let proxy = setup.start().await;
    hub.forget();

    for repository in ["team/secret", "other/app", "teams/app"] {
        for what in [
            "manifests/latest".to_owned(),
            format!("manifests/{}", image.manifest.digest()),
            format!("blobs/{}", image.layers[0].digest),
            format!("referrers/{}", image.manifest.digest()),
            "tags/list".to_owned(),
            "tags/list?n=0".to_owned(),
        ] {
            for door in ["/v2/", "/v2/docker.io/", "/docker.io/v2/"] {
                let path = format!("{door}{repository}/{what}");
                let (code, message) = proxy.get(&path).await.error(404);
                assert_eq!(code, "NAME_UNKNOWN", "{path}");
                assert_eq!(message, "registry-1.docker.io does not have it", "{path}");
            }
        }
        let push = proxy.call(Method::POST, &format!("/v2/{repository}/blobs/uploads/")).await;
        assert_eq!(push.status, 404, "what does not exist is not read-only either");
    }
    hub.assert_not_asked();
    for repository in ["team/app", "team/sub/app", "alpine"] {
        proxy.get(&format!("/v2/{repository}/manifests/latest")).await.assert_status(200);
    }
}
