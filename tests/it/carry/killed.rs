//! Imports that are killed at any moment, and repeated.
//!
//! `LARDER_ROUNDS=500 cargo test --test it carry::killed` kills more often.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use super::two_sides::{TwoSides, pull};
use crate::support::{Image, often};

/// No image is there by half, and the import that is repeated ends right.
#[tokio::test]
async fn an_import_that_is_killed_leaves_no_image_by_half_and_is_repeated() {
    let mut sides = TwoSides::start().await;
    let app = Image::random(9, &[3_000_000, 2_000_000, 1_000_000, 10]);
    sides.hub.put_image("team/app", "v1", &app);
    sides.pull("v1", &app).await;
    let bundle = sides.export("bundle.tar", &["team/app:v1"]).await;
    let import = ["import", bundle.to_str().unwrap()];
    sides.far.kill();
    let begin = Instant::now();
    sides.run(&sides.far, &import).await;
    let whole = begin.elapsed();
    let mut random = fastrand::Rng::with_seed(18);
    let mut killed = 0;
    for round in 0..often("LARDER_ROUNDS", 50) {
        fs::remove_dir_all(sides.far.cache_dir()).unwrap();
        let mut running = sides.far.spawn_command(&import);
        tokio::time::sleep(whole.mul_f64(random.f64())).await;
        killed += usize::from(running.try_wait().unwrap().is_none());
        running.kill().await.unwrap();

        let shown = sides.far.command(&["show", "team/app:v1", "--json"]).await;
        if shown.code == Some(0) {
            assert!(shown.out.contains(r#""complete":true"#), "round {round}: {shown:?}");
        }
        sides.run(&sides.far, &import).await;
        let shown = sides.run(&sides.far, &["show", "team/app:v1", "--json"]).await;
        assert!(shown.contains(r#""complete":true"#), "round {round}: {shown}");
        assert!(sides.far.files("uploads").is_empty(), "round {round}");
    }
    assert!(killed > 0, "none was killed before its end");
    sides.far.start_again().await;
    pull(&sides.far, "v1", &app).await;
}

/// The server is killed with the import that goes through it.
#[tokio::test]
async fn an_import_whose_server_is_killed_fails_and_is_repeated_with_the_next_one() {
    let mut sides = TwoSides::start().await;
    let app = Image::random(9, &[30_000_000, 2_000_000]);
    sides.hub.put_image("team/app", "v1", &app);
    sides.pull("v1", &app).await;
    let bundle = sides.export("bundle.tar", &["team/app:v1"]).await;
    let import = ["import", bundle.to_str().unwrap()];
    let mut running = sides.far.spawn_command(&import);
    let has_begun = |larder: &crate::support::Process| !larder.files("uploads").is_empty();
    sides.far.until(has_begun, "a layer is being stored").await;
    sides.far.kill();
    let ended = tokio::time::timeout(Duration::from_secs(30), running.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(1));
    sides.far.start_again().await;
    sides.far.client().get("/v2/team/app/manifests/v1").await.assert_status(404);
    sides.run(&sides.far, &import).await;
    pull(&sides.far, "v1", &app).await;
}
