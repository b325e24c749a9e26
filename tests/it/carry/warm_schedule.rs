//! `[[warm]]`: a server fetches images on a schedule.

use rustix::process::Signal;

use crate::support::{Fault, Gate, Image, Process, ScriptedRegistry, When};

const APP: &str = "team/app";
const RUN_ENDED: &str = "images were warmed on schedule";

fn table(images: &str) -> String {
    format!("[[warm]]\nimages = [{images}]\nevery = '1h'\n")
}

async fn until_runs(larder: &Process, count: usize) {
    let has_ended = |larder: &Process| larder.log().matches(RUN_ENDED).count() >= count;
    larder.until(has_ended, "no run has ended").await;
}

async fn assert_is_held(larder: &Process, tag: &str, image: &Image) {
    larder.client().get(&format!("/v2/{APP}/manifests/{tag}")).await.assert_status(200);
    for blob in image.blobs() {
        larder.client().get(&blob.path(APP)).await.assert_is(blob);
    }
}

#[tokio::test]
async fn a_schedule_fills_the_cache_and_an_image_that_fails_stops_no_other() {
    let hub = ScriptedRegistry::new();
    let images = [1, 2, 3].map(|seed| Image::random(seed, &[30_000, 5000]));
    for (tag, image) in ["3.1", "3.2", "edge"].iter().zip(&images) {
        hub.put_image(APP, tag, image);
    }
    hub.knows_lists();
    let wanted = "'team/nosuch:v1', 'other.test/a:v1', 'team/app:9.*', 'team/app:3.*'";
    let larder = Process::before(hub.listen().await, &table(wanted)).await;

    until_runs(&larder, 1).await;

    hub.forget();
    assert_is_held(&larder, "3.1", &images[0]).await;
    assert_is_held(&larder, "3.2", &images[1]).await;
    hub.assert_not_asked();
    assert_is_held(&larder, "edge", &images[2]).await;
    assert!(!hub.gets(images[2].manifest.digest()).is_empty(), "no table names the tag");
    let log = larder.log();
    for part in [
        "complete=2 failed=3",
        "docker.io/team/nosuch:v1",
        "other.test/a:v1 is not fetched here",
        "no tag matches `9.*`",
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
    let shown = larder.command(&["stats", "--json"]).await.json();
    let table = &shown["server"]["warm"][0];
    assert_eq!(table["images"][3], "docker.io/team/app:3.*", "{table}");
    assert_eq!([&table["complete"], &table["failed"], &table["every_seconds"]], [2, 3, 3600]);
    let time = |key: &str| humantime::parse_rfc3339(table[key].as_str().unwrap()).unwrap();
    let until_next = time("next_at").duration_since(time("begun_at")).unwrap().as_secs();
    assert!((3595..=3605).contains(&until_next), "{table}");
    let shown = larder.command(&["stats"]).await.out;
    let line = "docker.io/team/nosuch:v1 and 3 more: 2 complete, 3 failed, next run at ";
    assert!(shown.contains(line), "{shown}");
    let metrics = larder.admin().get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        r#"larder_warmed_images_total{result="complete"} 2"#,
        r#"larder_warmed_images_total{result="failed"} 3"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_reload_begins_new_tables_ends_those_that_are_gone_and_keeps_the_others() {
    let hub = ScriptedRegistry::new();
    let images = [1, 2, 3].map(|seed| Image::random(seed, &[30_000]));
    for (tag, image) in ["kept", "gone", "new"].iter().zip(&images) {
        hub.put_image(APP, tag, image);
    }
    let gate = Gate::new();
    let gone = images[1].manifest.digest();
    hub.breaks(When::asked(gone), Fault::HoldHeaders(gate.clone()));
    let tables = table("'team/app:kept'") + &table("'team/app:gone', 'team/app:nosuch'");
    let larder = Process::before(hub.listen().await, &tables).await;
    until_runs(&larder, 1).await;
    gate.reached().await;
    let shown = larder.command(&["stats", "--json"]).await.json();
    let running = &shown["server"]["warm"][1];
    assert!(running["begun_at"].is_string() && running["next_at"].is_null(), "{running}");
    assert!(running["complete"].is_null(), "{running}");

    larder.change_config("'team/app:gone', 'team/app:nosuch'", "'team/app:new'");
    larder.signal(Signal::HUP);

    until_runs(&larder, 2).await;
    gate.open();
    assert_is_held(&larder, "new", &images[2]).await;
    larder.signal(Signal::HUP);
    let is_read = |larder: &Process| larder.log().matches("was read again").count() == 2;
    larder.until(is_read, "the configuration was not read again").await;
    assert_eq!(larder.log().matches(RUN_ENDED).count(), 2, "{}", larder.log());
    assert!(hub.heads("nosuch").is_empty() && hub.gets("nosuch").is_empty(), "it did not end");
}
