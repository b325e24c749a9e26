//! `[[warm]]` with `pulled`: what a tag lacks that clients pull often is fetched for it.

use std::fs;

use rustix::process::Signal;

use super::offline::referrer;
use crate::support::{Fault, Image, Manifest, Process, ScriptedRegistry, When};

const APP: &str = "team/app";
const RUN_ENDED: &str = "images were warmed on schedule";

/// A table that begins anew whenever it is written with another interval.
const TABLE: &str = "[[warm]]\npulled = 3\nreferrers = true\nevery = '1h'\n\
                     platforms = ['linux/amd64', 'linux/arm64']\n";

struct Lab {
    hub: ScriptedRegistry,
    larder: Process,
    hot: MultiImage,
    cold: MultiImage,
}

/// An image of three platforms.
struct MultiImage {
    index: Manifest,
    amd: Image,
    arm: Image,
    riscv: Image,
}

impl MultiImage {
    fn put(hub: &ScriptedRegistry, tag: &str, seed: u64) -> Self {
        let image = |seed| Image::random(seed, &[40_000, 3000]);
        let (amd, arm, riscv) = (image(seed), image(seed + 1), image(seed + 2));
        let platforms = [(&amd, "amd64"), (&arm, "arm64"), (&riscv, "riscv64")];
        let index = Manifest::of_platforms(&platforms);
        for image in [&amd, &arm, &riscv] {
            hub.put_image(APP, "child", image);
        }
        hub.put_tagged(APP, tag, &index);
        Self { index, amd, arm, riscv }
    }
}

impl Lab {
    async fn start() -> Self {
        let hub = ScriptedRegistry::new();
        let (hot, cold) = (MultiImage::put(&hub, "hot", 10), MultiImage::put(&hub, "cold", 20));
        let larder = Process::before(hub.listen().await, TABLE).await;
        let lab = Self { hub, larder, hot, cold };
        lab.until_runs(1).await;
        lab
    }

    async fn until_runs(&self, count: usize) {
        let has_ended = |larder: &Process| larder.log().matches(RUN_ENDED).count() >= count;
        self.larder.until(has_ended, "no run has ended").await;
    }

    /// A client pulls the first platform of a tag, as containerd does.
    async fn pull(&self, client: u8, tag: &str, of: &MultiImage) {
        let client = self.larder.client_from(client);
        client.get(&format!("/v2/{APP}/manifests/{tag}")).await.assert_is(&of.index.blob);
        client.get(&of.amd.manifest.path(APP)).await.assert_is(&of.amd.manifest.blob);
        for blob in of.amd.blobs() {
            client.get(&blob.path(APP)).await.assert_is(blob);
        }
    }

    async fn until_logged(&self, pulls: usize) {
        let log = self.larder.cache_dir().join("registries/_pulls");
        let is_logged =
            |_: &Process| fs::read_to_string(&log).is_ok_and(|log| log.lines().count() >= pulls);
        self.larder.until(is_logged, "pulls are logged").await;
    }

    /// Runs the table again, for the `count`th time.
    async fn run_again(&self, count: usize) {
        self.larder.change_config("every = '1", "every = '11");
        self.larder.signal(Signal::HUP);
        self.until_runs(count).await;
    }

    /// Nothing of this platform was asked for.
    fn assert_left_alone(&self, image: &Image) {
        let digests = image.blobs().map(|blob| &blob.digest).chain([image.manifest.digest()]);
        for digest in digests {
            assert!(self.hub.changes("GET", digest).is_empty(), "{digest}");
        }
    }
}

#[tokio::test]
async fn a_tag_that_is_pulled_often_becomes_complete_then_and_no_sooner_and_no_other() {
    let lab = Lab::start().await;
    let Lab { hub, larder, hot, cold } = &lab;
    let (sbom, sbom_blobs) = referrer(&hot.arm);
    hub.put_manifest(APP, &sbom);
    for blob in &sbom_blobs {
        hub.put_blob(APP, blob);
    }
    let list = Manifest::index(&[&sbom]).blob.bytes;
    let kind = "application/vnd.oci.image.index.v1+json";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}", list.len());
    let listing = format!("/referrers/{}", hot.arm.manifest.digest());
    hub.breaks(When::asked(listing), Fault::raw(&head, &list));
    lab.pull(1, "hot", hot).await;
    lab.pull(2, "hot", hot).await;
    lab.pull(1, "cold", cold).await;
    lab.until_logged(3).await;
    hub.forget();

    lab.run_again(2).await;

    hub.assert_not_asked();

    lab.pull(3, "hot", hot).await;
    lab.until_logged(4).await;
    hub.forget();
    lab.run_again(3).await;

    let wanted: Vec<_> = hot.arm.blobs().map(|blob| &blob.digest).collect();
    let wanted = wanted.into_iter().chain([hot.arm.manifest.digest(), sbom.digest()]);
    let mut missing: Vec<_> = wanted.chain(sbom_blobs.iter().map(|blob| &blob.digest)).collect();
    for asked in hub.asked().iter().filter(|asked| !asked.path().contains("/referrers/")) {
        let is_this = |digest: &&larder::oci::Digest| asked.path().ends_with(digest.as_str());
        let at = missing.iter().position(is_this);
        missing.remove(at.unwrap_or_else(|| panic!("{} is not missing", asked.path())));
    }
    assert!(missing.is_empty(), "{missing:?}");
    let shown = larder.command(&["stats", "--json"]).await.json();
    let table = &shown["server"]["warm"][0];
    assert_eq!([&table["complete"], &table["failed"], &table["pulled"]], [1, 0, 3], "{table}");
    assert_eq!(table["within_seconds"], 7 * 24 * 60 * 60, "{table}");
    let shown = larder.command(&["stats"]).await.out;
    assert!(shown.contains("all tags, pulled 3 times within 7days: 1 complete"), "{shown}");

    hub.forget();
    lab.run_again(4).await;
    let not_lists = hub.asked().iter().any(|asked| !asked.path().contains("/referrers/"));
    assert!(!not_lists, "a complete image is asked for again");
    for image in [&hot.riscv, &cold.arm] {
        lab.assert_left_alone(image);
    }

    larder.change_config("default = true", "default = true\noffline = true");
    lab.run_again(5).await;
    hub.forget();
    larder.client().get(&format!("/v2/{APP}/manifests/hot")).await.assert_is(&hot.index.blob);
    for image in [&hot.amd, &hot.arm] {
        let manifest = larder.client().get(&image.manifest.path(APP)).await;
        manifest.assert_is(&image.manifest.blob);
        for blob in image.blobs() {
            larder.client().get(&blob.path(APP)).await.assert_is(blob);
        }
    }
    larder.client().get(&sbom.path(APP)).await.assert_is(&sbom.blob);
    larder.client().get(&cold.arm.manifest.path(APP)).await.error(404);
    hub.assert_not_asked();
}

/// A table with both takes the tags that are named and pulled often.
#[tokio::test]
async fn names_choose_among_the_tags_that_are_pulled_often() {
    let lab = Lab::start().await;
    let Lab { hub, larder, hot, cold } = &lab;
    for client in 1..4 {
        lab.pull(client, "hot", hot).await;
        lab.pull(client, "cold", cold).await;
    }
    lab.until_logged(6).await;
    larder.change_config("pulled = 3", "pulled = 3\nimages = ['team/app:h*', 'team/other:cold']");

    lab.run_again(2).await;

    assert_eq!(hub.gets(format!("/manifests/{}", hot.arm.manifest.digest())).len(), 1);
    lab.assert_left_alone(&cold.arm);
    assert!(larder.log().contains("complete=1 failed=0"), "{}", larder.log());
}

#[tokio::test]
async fn nothing_is_completed_from_a_registry_that_is_offline() {
    let lab = Lab::start().await;
    let Lab { hub, larder, hot, .. } = &lab;
    for client in 1..4 {
        lab.pull(client, "hot", hot).await;
    }
    lab.until_logged(3).await;
    larder.change_config("default = true", "default = true\noffline = true");
    hub.forget();

    lab.run_again(2).await;

    hub.assert_not_asked();
    assert_eq!(larder.log().matches("complete=0 failed=0").count(), 2, "{}", larder.log());
}

/// The registry alone says who may pull from it, so nothing comes from there without a client, and
/// no line tells an operator what clients have there.
#[tokio::test]
async fn nothing_of_a_registry_that_clients_log_in_to_is_completed_or_named() {
    let lab = Lab::start().await;
    let Lab { hub, larder, hot, .. } = &lab;
    for client in 1..4 {
        lab.pull(client, "hot", hot).await;
    }
    lab.until_logged(3).await;
    larder.change_config("default = true", "default = true\nidentity = 'client'");
    hub.forget();
    let before = larder.log().len();

    lab.run_again(2).await;

    hub.assert_not_asked();
    let log = larder.log()[before..].to_owned();
    assert!(log.contains("complete=0 failed=0"), "{log}");
    let mut others = log.lines().filter(|line| !line.contains("larder::request: "));
    assert!(!others.any(|line| line.contains(APP)), "{log}");
    for command in [&["stats"][..], &["stats", "--json"]] {
        let shown = larder.command(command).await;
        assert!(shown.code == Some(0) && !shown.out.contains(APP), "{shown:?}");
    }
}
