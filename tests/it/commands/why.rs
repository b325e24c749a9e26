//! `larder why`: what would happen to a pull, without asking the upstream.

use std::fs;

use serde_json::Value;

use super::lab::Lab;

async fn why(lab: &Lab, image: &str) -> Value {
    lab.larder.command(&["why", "--json", image]).await.json()
}

/// The forecast has to be what then happens: see the decisions of the pulls.
#[tokio::test]
async fn a_forecast_names_what_is_served_what_is_fetched_and_from_where() {
    let mut lab = Lab::start().await;
    lab.hub.forget();
    let fresh = why(&lab, "alpine:multi").await;
    assert_eq!((&fresh["outcome"], &fresh["missing"]), (&"hit".into(), &serde_json::json!([])));
    assert!(fresh["fresh_until"].as_str() > fresh["checked_at"].as_str(), "{fresh}");
    assert!(fresh["stale_until"].as_str() > fresh["fresh_until"].as_str(), "{fresh}");
    let tool = why(&lab, "team/tool:v1").await;
    assert_eq!(tool["missing"][0]["digest"], lab.tool.layers[0].digest.as_str());
    assert_eq!(tool["missing"].as_array().unwrap().len(), 1);
    let by_digest = format!("alpine@{}", lab.alpine.manifest.digest());
    assert_eq!(why(&lab, &by_digest).await["outcome"], "hit");
    let cold = why(&lab, "alpine:3.19").await;
    assert_eq!((&cold["outcome"], &cold["digest"]), (&"miss".into(), &Value::Null));
    assert!(cold["upstreams"][0].as_str().unwrap().starts_with("http://127."), "{cold}");
    assert_eq!(why(&lab, "nosuch.io/a/b").await["outcome"], "refused");
    lab.hub.assert_not_asked();

    lab.kill();
    assert_eq!(why(&lab, "alpine:multi").await["digest"], fresh["digest"]);
    fs::remove_dir_all(lab.larder.cache_dir()).unwrap();
    assert_eq!(why(&lab, "alpine:multi").await["outcome"], "miss", "before the first pull");
    let run = lab.larder.command(&["why", "Alpine"]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{run:?}");
}

#[tokio::test]
async fn an_expired_tag_is_revalidated_and_an_excluded_repository_refused() {
    let lab = Lab::with_keys("tag_ttl = '0s'\ndeny = ['team/secret']").await;
    assert_eq!(why(&lab, "alpine:3.20").await["outcome"], "revalidate");
    assert_eq!(why(&lab, "team/secret").await["outcome"], "refused");
    let people = lab.larder.command(&["why", "alpine:3.20"]).await;
    for line in ["outcome          revalidate\n", "because          the tag is fresh for 0 s\n"] {
        assert!(people.out.contains(line), "{people:?}");
    }
}
