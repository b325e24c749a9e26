//! Faults of an upstream and of clients, F1 to F14 of the reliability notes: which tests inject
//! each, and those that are not at home elsewhere.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::sources::assert_are_tests;
use crate::support::{Blob, Fault, Proxy, ScriptedRegistry, Setup, When, settle};

const REPOSITORY: &str = "library/alpine";
const HOST: &str = "registry-1.docker.io";

/// Each fault, and the tests that inject it.
const FAULTS: [(&str, &[&str]); 14] = [
    (
        "F1: the upstream closes in the middle of a blob",
        &[
            "a_fetch_cut_anywhere_goes_on_within_the_pull",
            "a_fetch_cut_again_and_again_goes_on_each_time",
            "what_a_failed_pull_left_is_where_the_next_begins",
            "a_mirror_that_dies_in_the_middle_of_a_blob_is_not_noticed",
        ],
    ),
    (
        "F2: Range is ignored, or another part comes",
        &[
            "a_server_that_ignores_ranges_is_understood",
            "a_resumption_at_the_wrong_offset_is_never_believed",
            "a_total_that_changes_between_answers_is_not_believed",
        ],
    ),
    (
        "F3: wrong bytes of the right length",
        &[
            "wrong_bytes_with_a_length_reach_nobody_whole",
            "every_follower_of_a_wrong_fill_is_cut_off",
            "a_mirror_that_gives_wrong_bytes_is_passed_over",
        ],
    ),
    (
        "F4: a body of another length than announced, or of two",
        &["whatever_a_body_is_no_client_has_it_wrong_and_whole"],
    ),
    (
        "F5: another digest in the header; a page with 200",
        &[
            "the_upstreams_digest_header_is_no_proof",
            "a_manifest_is_what_its_bytes_say",
            "a_page_is_no_manifest_and_the_message_says_so",
        ],
    ),
    (
        "F6: HEAD says one digest and GET gives another",
        &["a_tag_is_recorded_as_what_came_not_as_what_was_announced"],
    ),
    (
        "F7: redirects to where nothing may be sent",
        &[
            "a_redirect_inwards_is_not_followed",
            "https_is_never_followed_to_http",
            "redirects_in_a_circle_end",
            "a_redirect_into_the_private_network_is_never_dialled",
        ],
    ),
    (
        "F8: a storm of 429",
        &[
            "a_storm_of_limits_costs_one_request_for_each_window",
            "a_storm_over_many_images_costs_one_request_for_each_window",
            "a_limit_is_not_noticed_by_who_pulls_what_is_held",
            "a_limit_on_manifests_stops_no_blob",
        ],
    ),
    (
        "F9: a storm of 5xx, a closed port, a black hole",
        &[
            "a_storm_of_faults_ends_after_a_few_requests",
            "a_black_hole_delays_a_warm_tag_once_and_then_not_at_all",
            "a_warm_tag_is_served_stale_whatever_ails_the_upstream",
            "a_cold_pull_from_a_silent_upstream_ends_before_clients_give_up",
        ],
    ),
    (
        "F10: a drip, and headers without end",
        &[
            "an_upstream_that_drips_is_left_for_another",
            "an_upstream_that_drips_fails_in_bounds",
            "a_slow_upstream_is_no_drip",
            "whatever_a_head_is_it_is_a_fault_or_of_no_consequence",
        ],
    ),
    (
        "F11: a client that reads slowly",
        &["a_slow_client_slows_nobody", "a_client_that_moves_nothing_is_cut"],
    ),
    (
        "F12: clients that leave",
        &[
            "the_death_of_the_first_client_harms_no_other",
            "a_fill_that_every_client_left_is_done_still",
        ],
    ),
    ("F13: many clients of one cold blob", &["two_hundred_clients_of_a_cold_blob_cost_one_fetch"]),
    ("F14: many cold blobs at once", &["a_thousand_cold_blobs_use_only_so_many_connections"]),
];

/// A fault whose test was renamed or removed is a fault without a test.
#[test]
fn every_fault_has_a_test() {
    assert_are_tests(FAULTS.iter().flat_map(|(_, tests)| tests.iter().copied()));
}

/// One registry's drip must not be another's: theirs are two fills of one digest.
#[tokio::test(start_paused = true)]
async fn a_registry_that_drips_is_not_noticed_at_another() {
    const LEN: usize = 2 << 20;
    let (hub, quay) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let blob = Blob::random(1, LEN);
    hub.put_blob("library/a", &blob);
    quay.put_blob("b", &blob);
    hub.breaks(When::asked(&blob.digest), Fault::Drip(1));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.registry("quay.io", &quay);
    let proxy = setup.start().await;

    let path = blob.path("library/a");
    let dripping = proxy.client.raw().get("1.1", &path, &[]).await.unwrap();
    let begin = Instant::now();
    for reply in proxy.get_often(&blob.path("quay.io/b"), 20).join_all().await {
        reply.assert_is(&blob);
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(quay.gets(&blob.digest).len(), 1);

    // Nor is the first one given other bytes than its own registry's, or hurt by the second.
    assert_eq!(hub.gets(&blob.digest).len(), 1);
    assert!(hub.body_bytes(&blob.digest) < 100, "{}", hub.body_bytes(&blob.digest));
    hub.heal();
    drop(dripping);
}

/// A drip holds a fill and all who follow it; where another upstream has the rest, it brings it.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_drips_is_left_for_another() {
    const LEN: usize = 500_000;
    let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let blob = Blob::random(1, LEN);
    mirror.put_blob(REPOSITORY, &blob);
    hub.put_blob(REPOSITORY, &blob);
    mirror.breaks(When::asked(&blob.digest), Fault::Drip(1000));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.network.put("mirror.test", 80, mirror.clone());
    let registry = setup.settings.registries.last_mut().unwrap();
    let url = "http://mirror.test".parse().unwrap();
    registry.mirrors.push(larder::upstream::UpstreamOptions { url, ..registry.upstream.clone() });
    let proxy = setup.start().await;

    let begin = Instant::now();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    let gets = hub.gets(&blob.digest);
    assert_eq!((mirror.gets(&blob.digest).len(), gets.len()), (1, 1));
    let range = gets[0].header("range").expect("it goes on where the drip ended");
    let from: usize = range["bytes=".len()..].trim_end_matches('-').parse().unwrap();
    assert!((10_000..40_000).contains(&from), "{range}");
}

/// Alone, it is asked again, and then the pull fails, with its bytes kept for the next one.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_drips_fails_in_bounds() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 500_000);
    hub.put_blob(REPOSITORY, &blob);
    hub.breaks(When::asked(&blob.digest), Fault::Drip(100));
    let proxy = Proxy::before(&hub).await;

    let begin = Instant::now();
    let reply = proxy.get(&blob.path(REPOSITORY)).await;

    assert!(!reply.is_complete());
    assert!(begin.elapsed() < Duration::from_secs(240), "{:?}", begin.elapsed());
    let tries = hub.gets(&blob.digest).len();
    assert!((2..=6).contains(&tries), "{tries}");
    assert!(proxy.fills()[0] > 10_000, "{:?}", proxy.fills());
    hub.heal();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
}

/// A thin line is no drip: a pull over it takes long, and ends well.
#[tokio::test(start_paused = true)]
async fn a_slow_upstream_is_no_drip() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 500_000);
    hub.put_blob(REPOSITORY, &blob);
    hub.breaks(When::asked(&blob.digest), Fault::Drip(2000));
    let proxy = Proxy::before(&hub).await;

    let begin = Instant::now();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    assert!(begin.elapsed() >= Duration::from_secs(240), "{:?}", begin.elapsed());
    assert_eq!(hub.gets(&blob.digest).len(), 1);
}

/// F14: connections are a fixed number, open ones and those ever dialled; who does not get one waits for
/// its turn.
#[tokio::test(start_paused = true)]
async fn a_thousand_cold_blobs_use_only_so_many_connections() {
    const CONNECTIONS_MAX: usize = 64;
    let hub = ScriptedRegistry::new();
    let blobs: Vec<_> = (0..1000).map(|seed| Blob::random(seed, 2000)).collect();
    for blob in &blobs {
        hub.put_blob(REPOSITORY, blob);
    }
    let proxy = Proxy::before(&hub).await;

    let mut clients = tokio::task::JoinSet::new();
    for blob in &blobs {
        let (reply, blob) = (proxy.client.get(&blob.path(REPOSITORY)), blob.clone());
        clients.spawn(async move { reply.await.assert_is(&blob) });
    }
    clients.join_all().await;

    assert_eq!(hub.asked().len(), blobs.len());
    let (open, dialled) = (proxy.network.most_open(), proxy.network.connections().len());
    assert!(
        open <= CONNECTIONS_MAX && dialled <= CONNECTIONS_MAX,
        "{open} of {dialled} connections to {HOST} were open at once"
    );
    settle().await;
}
