//! `larder show`: what an image lists, what of it is there, and which images share it.

use serde_json::Value;

use super::lab::Lab;
use crate::support::Blob;

fn part<'d>(detail: &'d Value, blob: &Blob) -> &'d Value {
    let manifests = detail["manifests"].as_array().unwrap();
    let mut parts = manifests.iter().flat_map(|manifest| manifest["parts"].as_array().unwrap());
    parts.find(|part| part["digest"] == blob.digest.as_str()).unwrap_or_else(|| panic!("{detail}"))
}

/// Before an air gap an operator has to know whether an image is whole, and after an eviction what
/// a pull will fetch.
#[tokio::test]
async fn an_image_is_shown_with_its_layers_what_is_missing_and_who_shares_them() {
    let mut lab = Lab::start().await;
    let arguments = ["show", "--json", "team/tool:v1"];
    let live = lab.larder.command(&arguments).await.json();
    lab.kill();
    let files = lab.files();
    assert_eq!(lab.larder.command(&arguments).await.json(), live);
    assert_eq!(lab.files(), files, "a command that reads leaves no trace");

    assert_eq!(live["name"], "docker.io/team/tool:v1");
    assert_eq!(
        (&live["complete"], &live["digest"]),
        (&false.into(), &lab.tool.manifest.digest().as_str().into())
    );
    assert_eq!(live["manifests"][0]["complete"], false);
    let missing = part(&live, &lab.tool.layers[0]);
    assert_eq!((&missing["stored"], &missing["size"]), (&false.into(), &7000.into()));
    assert_eq!((&missing["verified_at"], &missing["shared"]), (&Value::Null, &0.into()));
    let shared = part(&live, &lab.tool.layers[1]);
    let users = ["docker.io/library/alpine:3.20", "docker.io/library/alpine:multi"];
    assert_eq!((&shared["stored"], &shared["shared"]), (&true.into(), &2.into()));
    assert_eq!(shared["shared_with"], serde_json::json!(users));
    assert!(shared["verified_at"].is_string());
    assert_eq!(part(&live, &lab.tool.config)["kind"], "config");
}

#[tokio::test]
async fn an_index_is_shown_with_the_platforms_that_were_never_pulled() {
    let lab = Lab::start().await;
    let detail = lab.larder.command(&["show", "--json", "alpine:multi"]).await.json();
    assert_eq!(detail["complete"], true);
    let manifests = detail["manifests"].as_array().unwrap();
    let states = manifests.iter().map(|it| (it["pulled"] == true, it["complete"] == true));
    assert_eq!(states.collect::<Vec<_>>(), [(true, true), (true, true), (false, false)]);
    let by_digest = format!("alpine@{}", lab.alpine.manifest.digest());
    let same = lab.larder.command(&["show", "--json", &by_digest]).await.json();
    assert_eq!(same["digest"], lab.alpine.manifest.digest().as_str());

    let people = lab.larder.command(&["show", "docker.io/alpine:multi"]).await;
    for part in [
        "image            docker.io/library/alpine:multi\n",
        "offline          complete\n",
        "platforms        1 of 2 pulled\n",
        "never pulled",
        "docker.io/library/alpine:3.20",
    ] {
        assert!(people.out.contains(part), "{part}: {people:?}");
    }
}

#[tokio::test]
async fn an_image_that_is_not_there_is_1_and_a_name_that_is_none_is_2() {
    let mut lab = Lab::start().await;
    let hex = "ab".repeat(32);
    for is_killed in [false, true] {
        if is_killed {
            lab.kill();
        }
        for (image, code, error) in [
            ("alpine:3.19", 1, "docker.io/library/alpine:3.19 is not in the cache"),
            ("ghcr.io/a/b", 1, "ghcr.io/a/b:latest is not in the cache"),
            (&format!("alpine@sha256:{hex}"), 1, "is not in the cache"),
            ("Alpine", 2, "`Alpine` is not the name of an image"),
            ("alpine@sha256:12", 2, "`alpine@sha256:12` is not the name of an image"),
        ] {
            let run = lab.larder.command(&["show", image]).await;
            assert_eq!((run.code, run.out.as_str()), (Some(code), ""), "{image}");
            assert!(run.err.contains(error) && run.err.contains("\nhint: "), "{run:?}");
        }
    }
}
