//! The images that leave: those that are named, are pinned, or were pulled lately; to a file or to
//! another program.

use std::fs;

use super::two_sides::{APP, TwoSides, pull};
use crate::support::Image;

/// A site that mirrors what its developers use does not write lists by hand.
#[tokio::test]
async fn an_export_takes_what_is_pinned_or_was_pulled_lately_and_tells_what_is_not_complete() {
    let sides = TwoSides::start().await;
    let half = Image::random(3, &[500]);
    sides.hub.put_image(APP, "half", &half);
    sides.pull("v1", &sides.app).await;
    sides.pull("other", &sides.other).await;
    let path = format!("/v2/{APP}/manifests/half");
    sides.near.client().get(&path).await.assert_is(&half.manifest.blob);
    sides.run(&sides.near, &["pin", "team/app:v1"]).await;
    let file = sides.file("chosen.tar");
    let export = async |chosen: &[&str]| {
        let fixed = ["export", "-o", file.to_str().unwrap()];
        sides.near.command(&[&fixed[..], chosen].concat()).await
    };

    let pinned = export(&["--pinned"]).await;
    assert_eq!(pinned.code, Some(0), "{pinned:?}");
    assert!(pinned.err.contains("exported docker.io/team/app:v1\n"), "{pinned:?}");
    assert!(!pinned.err.contains("team/app:other"), "{pinned:?}");

    let pulled = export(&["--pulled-since", "1h"]).await;
    assert_eq!(pulled.code, Some(0), "{pulled:?}");
    for tag in ["v1", "other"] {
        assert!(pulled.err.contains(&format!("exported docker.io/team/app:{tag}\n")), "{pulled:?}");
    }
    assert!(pulled.err.contains("left out docker.io/team/app:half: sha256:"), "{pulled:?}");
    // Nothing has been pulled there.
    let bundle = sides.file("none.tar");
    let lately = ["export", "-o", bundle.to_str().unwrap(), "--pulled-since", "1h"];
    let none = sides.far.command(&lately).await;
    assert!(none.code == Some(1) && none.err.contains("no complete image to export"), "{none:?}");
    let named = export(&["team/app:half"]).await;
    assert!(named.code == Some(1) && named.err.contains("half"), "{named:?}");

    sides.run(&sides.far, &["import", file.to_str().unwrap()]).await;
    pull(&sides.far, "v1", &sides.app).await;
    pull(&sides.far, "other", &sides.other).await;
}

/// By ssh, or through a diode, a bundle needs no room on the way.
#[tokio::test]
async fn a_bundle_goes_through_pipes() {
    let sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    let export = sides.near.spawn_piped(&[], &["export", "-o", "-", "team/app:v1"]);
    let output = export.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("exported docker.io/team/app:v1\n"), "{said}");
    let stream = sides.file("stream");
    fs::write(&stream, &output.stdout).unwrap();
    let to_file = sides.export("file.tar", &["team/app:v1"]).await;
    assert!(output.stdout == fs::read(to_file).unwrap(), "a stream has other bytes than a file");

    let run = sides.far.command_from(&stream, &["import", "-"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    pull(&sides.far, "v1", &sides.app).await;
    sides.unreachable.assert_not_asked();
}
