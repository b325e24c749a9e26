//! Whose credential a download is gone on with.

use std::time::Duration;

use http::Method;

use super::{ANN, BEN, ann, ask, ben, corp, get, pull};
use crate::support::{Blob, Fault, Gate, When, settle};

/// A fill asks with the credentials of its readers, and of none that has left.
#[tokio::test(start_paused = true)]
async fn a_fill_continues_with_the_credential_of_a_reader_that_is_still_connected() {
    let both = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&both).await;
    let layer = Blob::random(7, 1 << 20);
    hub.put_blob("team/app", &layer);
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&layer.digest).get().first(1), Fault::HoldAt(500_000, gate.clone()));
    hub.breaks(When::asked(&layer.digest).get().first(1), Fault::CutAt(500_000));
    hub.forget();

    let client = proxy.client.clone();
    let path = layer.path("team/app");
    let of_ann = {
        let (client, path) = (client.clone(), path.clone());
        tokio::spawn(async move { ask(&client, Method::GET, &path, ("ann", ANN)).await })
    };
    gate.reached().await;
    let of_ben = tokio::spawn(async move { ask(&client, Method::GET, &path, ("ben", BEN)).await });
    settle().await;
    of_ann.abort();
    settle().await;
    gate.open();

    of_ben.await.unwrap().assert_is(&layer);
    let gets = hub.gets(&layer.digest);
    let askers: Vec<_> = gets.iter().filter_map(|asked| hub.asker(asked)).collect();
    assert_eq!(askers, ["ann", "ben"], "she began it, and he went on");
}

#[tokio::test(start_paused = true)]
async fn a_fill_without_readers_stops_and_is_resumed_by_the_next_pull() {
    let both = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&both).await;
    let layer = Blob::random(7, 1 << 20);
    hub.put_blob("team/app", &layer);
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&layer.digest).get().first(1), Fault::HoldAt(500_000, gate.clone()));
    hub.breaks(When::asked(&layer.digest).get().first(1), Fault::CutAt(500_000));
    hub.forget();
    let path = layer.path("team/app");
    let of_ann = {
        let (client, path) = (proxy.client.clone(), path.clone());
        tokio::spawn(async move { ask(&client, Method::GET, &path, ("ann", ANN)).await })
    };
    gate.reached().await;
    of_ann.abort();
    settle().await;
    gate.open();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(hub.gets(&layer.digest).len(), 1, "her credential went with her");
    assert!(!proxy.fills().is_empty(), "what came stays");

    get(&proxy, &path, ("ben", BEN)).await.assert_is(&layer);
    let gets = hub.gets(&layer.digest);
    assert_eq!(hub.asker(&gets[1]).as_deref(), Some("ben"));
    assert!(gets[1].header("range").is_some(), "and what is there is not fetched again");
}
