//! Content that no upstream can give is evicted last: within `protect_max`, until `protect_for`.

use std::time::Duration;

use larder::store::{ProtectionLimits, SpaceAmount};

use crate::support::{Blob, Image, Proxy, Reach, ScriptedRegistry, Setup};

const REPOSITORY: &str = "library/alpine";
const HOST: &str = "registry-1.docker.io";
const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A mirror of two registries, of 18 MiB, that holds an image of 3 MiB of the first.
struct Lab {
    hub: ScriptedRegistry,
    proxy: Proxy,
    image: Image,
    /// Blobs of the second registry: 40 MiB.
    others: Vec<Blob>,
}

impl Lab {
    async fn start(max_mib: usize) -> Self {
        let (hub, other) = (ScriptedRegistry::new(), ScriptedRegistry::new());
        let image = Image::random(1, &[3 * MIB]);
        hub.put_image(REPOSITORY, "latest", &image);
        let others: Vec<_> = (10..30).map(|seed| Blob::large(seed, 2 * MIB)).collect();
        for blob in &others {
            other.put_blob(REPOSITORY, blob);
        }
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub).tags.ttl = Duration::ZERO;
        setup.registry("ghcr.io", &other);
        let store = &mut setup.settings.store;
        store.limits.max_size = Some(SpaceAmount::Bytes(18 * MIB as u64));
        store.retention.protection = ProtectionLimits {
            amount: SpaceAmount::Bytes((max_mib * MIB) as u64),
            keep_for: 90 * DAY,
        };
        let proxy = setup.start().await;
        proxy.pull(REPOSITORY, "latest", &image).await;
        proxy.until_stored(&image.layers[0].digest).await;
        Self { hub, proxy, image, others }
    }

    /// Asks again until the metric says so: the eviction asks for news once a second.
    async fn until_protected(&self, is_it: bool) {
        for _ in 0..1000 {
            self.proxy.get("/v2/library/other/manifests/latest").await;
            let bytes = self.proxy.store_report().space.protected;
            if (bytes >= 3 * MIB as u64) == is_it {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", self.proxy.store_report().space);
    }

    /// Pulls more than twice what fits.
    async fn press(&self) {
        for blob in &self.others {
            let path = blob.path(REPOSITORY).replacen("/v2/", "/v2/ghcr.io/", 1);
            self.proxy.get(&path).await.assert_is(blob);
            self.proxy.until_stored(&blob.digest).await;
        }
    }

    fn has_image(&self) -> bool {
        self.image.blobs().all(|blob| self.proxy.has_stored(&blob.digest))
    }
}

#[tokio::test]
async fn an_image_of_an_upstream_that_is_down_survives_a_cache_under_pressure() {
    let lab = Lab::start(4).await;
    lab.proxy.network.set(HOST, Reach::Down);
    lab.until_protected(true).await;

    lab.press().await;

    assert!(lab.has_image());
    let metric = lab.proxy.metrics().await.sum("larder_store_protected_bytes", &[]);
    assert!(metric >= 3 * MIB as u64, "{metric}");
    lab.proxy.pull(REPOSITORY, "latest", &lab.image).await;
}

#[tokio::test]
async fn nor_does_a_limited_one_lose_it() {
    use crate::support::{Fault, When};

    let lab = Lab::start(4).await;
    let limit = vec![("Retry-After", "3600".to_owned())];
    lab.hub.breaks(When::asked("/v2/"), Fault::Status(429, limit, "toomanyrequests"));
    lab.until_protected(true).await;

    lab.press().await;

    assert!(lab.has_image());
}

/// Or one outage would leave the cache to one registry.
#[tokio::test]
async fn more_than_may_be_protected_goes_in_its_turn() {
    let lab = Lab::start(2).await;
    lab.proxy.network.set(HOST, Reach::Down);
    lab.until_protected(true).await;

    lab.press().await;

    assert!(!lab.has_image());
    assert!(lab.proxy.store_report().space.protected < 2 * MIB as u64);
}

#[tokio::test]
async fn an_image_that_was_not_pulled_for_long_is_protected_no_longer() {
    let mut lab = Lab::start(4).await;
    lab.proxy.network.set(HOST, Reach::Down);
    lab.until_protected(true).await;
    lab.proxy.clock.skip(80 * DAY);
    lab.proxy.reload(|settings| settings.store.retention.protection.keep_for = 70 * DAY);
    lab.until_protected(false).await;

    lab.press().await;

    assert!(!lab.has_image());
}

/// The registry is up, and has other images; this one it could not give again.
#[tokio::test]
async fn an_image_whose_tag_is_gone_upstream_is_protected_until_the_tag_is_back() {
    let lab = Lab::start(4).await;
    let latest = format!("/v2/{REPOSITORY}/manifests/latest");
    lab.hub.tag(REPOSITORY, "latest", &[]);
    lab.proxy.get(&latest).await.assert_status(404);
    lab.until_protected(true).await;
    lab.press().await;
    assert!(lab.has_image());

    lab.hub.put_image(REPOSITORY, "latest", &lab.image);
    lab.proxy.get(&latest).await.assert_status(200);
    lab.until_protected(false).await;
    lab.press().await;
    assert!(!lab.has_image());
}
