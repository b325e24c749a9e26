//! `larder pin` and `larder unpin`, with a server, without one, and over a restart.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::lab::{ALPINE, Lab};
use crate::support::metrics::Metrics;
use crate::support::strace::Strace;
use crate::support::{Blob, Image, Process, ScriptedRegistry};

async fn pinned(lab: &Lab) -> Vec<String> {
    let rows = lab.lines(&["ls", "--json"]).await;
    let pinned = rows.iter().filter(|row| row["pinned"] == true);
    pinned.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// The eviction looks for pins each second.
async fn until_kept(lab: &Lab) {
    for _ in 0..1500 {
        let metrics = lab.larder.admin().get("/metrics").await;
        let text = std::str::from_utf8(&metrics.body).unwrap();
        // The server that starts has none at first.
        if text.contains("larder_store_pinned_bytes")
            && Metrics::read(text).sum("larder_store_pinned_bytes", &[]) > 0
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing is kept: {}", lab.larder.log());
}

/// All the directories on the way to what is pinned, and to its records, are flushed.
#[tokio::test]
async fn the_names_of_pinned_content_are_flushed_to_the_disk() {
    if !Strace::is_installed() {
        return;
    }
    let hub = ScriptedRegistry::new();
    let (kept, other) = (Image::random(1, &[100_000]), Image::random(2, &[100_000]));
    hub.put_image(ALPINE, "lts", &kept);
    hub.put_image(ALPINE, "edge", &other);
    let pin = "[[pin]]\nrepositories = ['library/*']\ntags = ['lts']\n";
    let mut larder = Process::before(hub.listen().await, pin).await;
    larder.terminate().await;
    let trace = larder.cache_dir().with_file_name("trace");
    larder.run_under(Strace::launch(&trace, "fsync", None, []));
    larder.start_again().await;
    for (tag, image) in [("edge", &other), ("lts", &kept)] {
        larder.client().get(&format!("/v2/{ALPINE}/manifests/{tag}")).await.assert_status(200);
        for blob in image.blobs() {
            larder.client().get(&blob.path(ALPINE)).await.assert_is(blob);
        }
    }
    let cache = larder.cache_dir().display().to_string();
    let is_flushed = |dir: &str| {
        let seen = fs::read_to_string(&trace).unwrap_or_default();
        seen.contains(&format!("{cache}{dir}>"))
    };
    let dir_of = |blob: &Blob| format!("/blobs/sha256/{}", &blob.digest.hex()[..2]);
    let records = format!("/registries/docker.io/{ALPINE}");
    let mut dirs = vec![String::new(), "/blobs".to_owned(), format!("{records}/_tags")];
    dirs.push(format!("{records}/_manifests/sha256"));
    dirs.extend(kept.blobs().chain([&kept.manifest.blob]).map(&dir_of));
    let are_all = |_: &Process| dirs.iter().all(|dir| is_flushed(dir));
    larder.until(are_all, "every directory of pinned content is flushed").await;
    for blob in other.blobs().filter(|blob| !dirs.contains(&dir_of(blob))) {
        assert!(!is_flushed(&dir_of(blob)), "it costs nothing that is not pinned");
    }
}

async fn report(lab: &Lab, arguments: &[&str]) -> Value {
    lab.larder.command(&[arguments, &["--json"]].concat()).await.json()
}

/// An operator pins before an upstream goes away, whether a server runs at that moment or not.
#[tokio::test]
async fn an_image_is_pinned_and_unpinned_with_a_server_and_without_one() {
    for is_killed in [false, true] {
        let mut lab = Lab::start().await;
        if is_killed {
            lab.kill();
        }
        let done = report(&lab, &["pin", "alpine:3.20"]).await;
        assert_eq!((&done["pinned"], &done["cached"]), (&true.into(), &true.into()));
        let bytes = done["pinned_bytes"].as_u64().unwrap();
        assert!((105_000..110_000).contains(&bytes), "{done}");
        let later = report(&lab, &["pin", "docker.io/library/alpine:4"]).await;
        assert_eq!((&later["pinned"], &later["cached"]), (&true.into(), &false.into()));
        assert_eq!(pinned(&lab).await, ["docker.io/library/alpine:3.20"]);
        let shown = lab.larder.command(&["show", "alpine:3.20"]).await;
        assert!(shown.out.contains("pinned"), "{shown:?}");

        if !is_killed {
            lab.kill();
        }
        lab.larder.start_again().await;
        assert_eq!(pinned(&lab).await, ["docker.io/library/alpine:3.20"], "after a restart");
        until_kept(&lab).await;
        let done = report(&lab, &["unpin", "alpine:3.20"]).await;
        assert_eq!(done["pinned"], false);
        assert_eq!(pinned(&lab).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_pin_that_does_not_fit_is_refused_with_the_figures() {
    let mut lab = Lab::start().await;
    lab.kill();
    lab.larder.change_config(
        "[cache]
",
        "[cache]
max_size = '1100000B'
",
    );
    let refused = lab.larder.command(&["pin", "alpine:3.20"]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.err.contains("all pinned images take 10"), "{refused:?}");
    assert!(refused.err.contains("of 51424 that they may"), "{refused:?}");
    assert_eq!(pinned(&lab).await, [""; 0]);
}
