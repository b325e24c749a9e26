//! Export on one side, import on the other: with a server and without one.

use std::fs;

use super::two_sides::{APP, TwoSides, pull};

/// The promise of the air gap: what was exported is pulled on the other side, byte for byte.
#[tokio::test]
async fn an_exported_index_is_pulled_behind_the_gap_with_a_server_and_without_one() {
    for is_killed in [false, true] {
        let mut sides = TwoSides::start().await;
        sides.pull_multi().await;
        let bundle = sides.export("bundle.tar", &["team/app:multi"]).await;
        if is_killed {
            sides.far.kill();
        }
        let out = sides.run(&sides.far, &["import", bundle.to_str().unwrap()]).await;
        assert!(out.contains("imported docker.io/team/app:multi\n"), "{out}");
        if is_killed {
            sides.far.start_again().await;
        }
        let index = sides.far.client().get(&format!("/v2/{APP}/manifests/multi")).await;
        index.assert_is(&sides.multi.blob);
        for image in [&sides.app, &sides.other] {
            pull(&sides.far, image.manifest.digest().as_str(), image).await;
        }
        let shown = sides.run(&sides.far, &["show", "team/app:multi", "--json"]).await;
        assert!(shown.contains(r#""complete":true"#), "{shown}");
        sides.unreachable.assert_not_asked();

        let again = sides.run(&sides.far, &["import", bundle.to_str().unwrap()]).await;
        assert!(again.contains("0 contents of 0 B are new"), "{again}");
    }
}

/// A site that gets bundles again and again compares them.
#[tokio::test]
async fn the_same_images_make_the_same_bundle() {
    let sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    let one = fs::read(sides.export("one.tar", &["team/app:v1"]).await).unwrap();
    sides.pull("v1", &sides.app).await;
    let other = fs::read(sides.export("other.tar", &["team/app:v1"]).await).unwrap();
    assert!(one == other, "two exports differ");
}

/// What a site has already needs not be carried again.
#[tokio::test]
async fn a_bundle_minus_an_inventory_has_the_new_layers_alone() {
    let sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    let first = sides.export("first.tar", &["team/app:v1"]).await;
    sides.run(&sides.far, &["import", first.to_str().unwrap()]).await;
    let inventory = sides.run(&sides.far, &["inventory"]).await;
    fs::write(sides.file("inventory"), inventory).unwrap();
    let next = sides.app.with_layer(&sides.other.layers[0]);
    sides.hub.put_image(APP, "v2", &next);
    sides.pull("v2", &next).await;

    let minus = sides.file("inventory");
    let arguments = ["team/app:v2", "--minus", minus.to_str().unwrap()];
    let delta = sides.export("delta.tar", &arguments).await;

    let len = fs::metadata(&delta).unwrap().len();
    assert!(len < 20_000, "{len} bytes, with a layer of 300,000 bytes on the other side");
    let out = sides.run(&sides.far, &["import", delta.to_str().unwrap()]).await;
    assert!(out.contains("imported docker.io/team/app:v2"), "{out}");
    pull(&sides.far, "v2", &next).await;
    pull(&sides.far, "v1", &sides.app).await;
}
