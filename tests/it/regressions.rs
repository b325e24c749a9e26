//! Bugs of others that must not be repeated here, and the tests that would show them.
//!
//! Each row is something that really happened, with where it was reported. What was tested already is
//! named; what was not is tested below. Rows of eviction are not here yet.

use http::Method;

use crate::support::proxy::files_under;
use crate::support::sources::assert_are_tests;
use crate::support::{Blob, Fault, Image, Manifest, Proxy, Reach, ScriptedRegistry, Setup};
use crate::support::{TAG_TTL, Version, When};

/// A bug, where it was reported, and what shows it.
struct Row {
    bug: &'static str,
    /// Issues and pull requests on GitHub; a file where there is none.
    reports: &'static [&'static str],
    tests: &'static [&'static str],
}

const fn row(
    bug: &'static str,
    reports: &'static [&'static str],
    tests: &'static [&'static str],
) -> Row {
    Row { bug, reports, tests }
}

const ROWS: &[Row] = &[
    row(
        "a blob was gone or empty, and the answer was a 200 with its length and no bytes",
        &[
            "https://github.com/distribution/distribution/issues/2367",
            "https://github.com/distribution/distribution/issues/4191",
            "https://github.com/distribution/distribution/issues/1356",
            "https://github.com/distribution/distribution/issues/4381",
        ],
        &["what_is_gone_from_the_store_is_fetched_again", "an_empty_file_is_no_blob"],
    ),
    row(
        "the index said that a blob is there, and the storage that it is not",
        &[
            "https://github.com/quay/quay/pull/5877",
            "https://github.com/distribution/distribution/issues/878",
        ],
        &["what_is_gone_from_the_store_is_fetched_again"],
    ),
    row(
        "bytes were cached and served unverified; a login page was served as a blob",
        &[
            "https://github.com/goharbor/harbor/issues/23600",
            "https://github.com/goharbor/harbor/issues/23882",
            "nora#581",
        ],
        &[
            "wrong_bytes_with_a_length_reach_nobody_whole",
            "wrong_bytes_in_chunks_reach_nobody_whole",
            "wrong_bytes_up_to_the_close_reach_nobody_whole",
            "a_page_is_no_manifest_and_the_message_says_so",
        ],
    ),
    row(
        "a body of no bytes was cached",
        &["artifact-keeper#1489", "cacheify#3"],
        &["whatever_a_body_is_no_client_has_it_wrong_and_whole", "an_empty_file_is_no_blob"],
    ),
    row(
        "a right body was refused, for its hash was known at the end of the stream only",
        &["artifact-keeper#3488"],
        &["a_client_that_stops_at_the_length_has_the_blob"],
    ),
    row(
        "blobs were given the lifetime of tags, and fetched again every five minutes",
        &["artifact-keeper#3206"],
        &["what_is_named_by_digest_is_never_asked_for_again"],
    ),
    row(
        "HEAD said 404 of what GET fetched, so that a cache behind a cache failed",
        &[
            "https://github.com/goharbor/harbor/issues/22609",
            "https://github.com/distribution/distribution/issues/4747",
            "artifact-keeper#3605",
        ],
        &["a_head_of_a_cold_blob_is_the_upstreams_answer", "larders_in_a_chain_serve"],
    ),
    row(
        "HEAD became GET, and was counted as a pull",
        &["https://github.com/rpardini/docker-registry-proxy/issues/88"],
        &["a_head_stays_a_head", "after_its_ttl_a_tag_costs_one_head_for_fifty_clients"],
    ),
    row(
        "a manifest was served under another Accept: amd64 for arm64",
        &[
            "https://github.com/git-pkgs/proxy/issues/249",
            "https://github.com/uber/kraken/issues/288",
            "https://github.com/Trow-Registry/trow/issues/77",
        ],
        &[
            "a_client_that_cannot_take_the_index_gets_its_own_resolution",
            "every_spelling_of_a_wide_accept_shares_one_record",
        ],
    ),
    row(
        "the key of the cache had no host in it",
        &["rpardini/docker-registry-proxy: nginx.conf"],
        &["one_registry_says_nothing_about_another", "two_registries_fill_one_digest_apart"],
    ),
    row(
        "manifests were rewritten, and got another digest",
        &[
            "https://github.com/project-zot/zot/issues/4042",
            "https://github.com/project-zot/zot/issues/2584",
            "https://github.com/project-zot/zot/issues/3307",
            "https://github.com/project-zot/zot/issues/4150",
            "https://github.com/goharbor/harbor/issues/20920",
        ],
        &["a_manifest_is_served_as_it_came"],
    ),
    row(
        "an index was kept without its children, or they were collected",
        &[
            "https://github.com/goharbor/harbor/issues/23570",
            "https://github.com/distribution/distribution/issues/3178",
            "camunda#6804",
        ],
        &[
            "what_an_index_lists_is_in_its_repository",
            "a_child_of_a_held_index_is_there_though_another_repository_brought_it",
            "an_index_and_what_was_pulled_of_it_are_there_in_an_outage",
        ],
    ),
    row(
        "the credential was sent to where a redirect leads, and a signed URL was kept",
        &[
            "https://github.com/open-policy-agent/opa/issues/6580",
            "https://github.com/renovatebot/renovate/issues/3877",
        ],
        &[
            "a_redirect_is_followed_without_the_credential",
            "a_redirected_fetch_is_resumed_through_the_registry",
        ],
    ),
    row(
        "a relative Location was refused",
        &["https://github.com/sonatype/nexus-public/issues/1061"],
        &["a_relative_location_is_followed"],
    ),
    row(
        "`sha256:` became `sha256-` in a later request",
        &["https://github.com/sonatype/nexus-public/issues/1070"],
        &["a_digest_is_written_upstream_as_it_is"],
    ),
    row(
        "credentials that failed once failed until the restart",
        &["https://github.com/sonatype/nexus-public/issues/639"],
        &["a_mended_credential_ends_the_outage"],
    ),
    row(
        "an expired token was never dropped",
        &["rules_img#715", "https://github.com/awslabs/amazon-ecr-credential-helper/issues/7"],
        &["a_voided_token_is_replaced_once", "a_kept_token_that_is_refused_is_replaced_once"],
    ),
    row(
        "there was a login for every pull",
        &["https://github.com/goharbor/harbor/issues/23750"],
        &["fifty_pulls_of_one_repository_fetch_one_token"],
    ),
    row(
        "the upstream was pinged and logged in to before the cache was looked in",
        &["https://github.com/quay/quay/pull/5347"],
        &["a_warm_pull_asks_the_upstream_nothing", "what_is_warm_needs_no_name_and_no_login"],
    ),
    row(
        "clients over the limit were told 429, and dockerd went elsewhere",
        &["https://github.com/goharbor/harbor/pull/23910"],
        &["a_thousand_cold_blobs_use_only_so_many_connections"],
    ),
    row(
        "an error of the upstream became a 404",
        &[
            "https://github.com/goharbor/harbor/issues/23750",
            "https://github.com/goharbor/harbor/issues/23190",
            "nora#474",
        ],
        &["a_cold_answer_says_what_the_upstream_said"],
    ),
    row(
        "what one registry lacked was looked for at an unrelated one",
        &["nora#474"],
        &["what_a_registry_lacks_is_asked_of_no_other"],
    ),
    row(
        "the first client's failure or death was that of all who had joined it",
        &["https://github.com/project-zot/zot/issues/4393"],
        &[
            "the_death_of_the_first_client_harms_no_other",
            "a_fill_that_every_client_left_is_done_still",
        ],
    ),
    row(
        "a slow client slowed the fetch",
        &["https://github.com/envoyproxy/envoy/pull/34595"],
        &["a_slow_client_slows_nobody"],
    ),
    row(
        "a whole blob was held in memory",
        &["nora#581"],
        &["a_miss_is_streamed_while_it_is_fetched", "a_slow_client_slows_nobody"],
    ),
    row(
        "a start walked the whole store",
        &[
            "https://github.com/project-zot/zot/issues/2413",
            "https://github.com/project-zot/zot/issues/1994",
        ],
        &["a_start_looks_at_no_blob"],
    ),
    row(
        "a mirror challenged, or choked on a credential that was not for it",
        &[
            "nora#578",
            "https://github.com/moby/moby/issues/30880",
            "https://github.com/moby/moby/issues/42022",
            "https://github.com/project-zot/zot/issues/3662",
        ],
        &["a_clients_credential_goes_nowhere", "the_ping_is_answered_without_the_upstream"],
    ),
    row(
        "an unknown argument in the query was a 400",
        &["https://github.com/openSUSE/open-build-service/issues/16186"],
        &[
            "no_argument_of_a_query_changes_more_than_it_may",
            "what_is_not_known_in_a_query_is_ignored",
        ],
    ),
    row(
        "a 202 to a mount was taken for a mount",
        &["https://github.com/goharbor/harbor/pull/22863"],
        &["a_blob_that_is_not_there_is_uploaded", "no_argument_of_an_upload_does_more_than_it_may"],
    ),
    row(
        "a mount from another registry was a 401",
        &["https://github.com/google/go-containerregistry/pull/219"],
        &["a_source_elsewhere_is_a_plain_upload", "a_source_is_named_by_the_clients_door"],
    ),
    row(
        "a name that began as a privileged one could push into the cache",
        &["https://github.com/goharbor/harbor/issues/23681"],
        &[
            "a_registry_that_takes_no_pushes_says_so_first",
            "bytes_that_are_not_what_they_claim_are_refused_and_not_kept",
            "nobody_deletes_who_was_not_named_for_it",
        ],
    ),
    row(
        "a client's way to upload was a 400",
        &["https://github.com/sonatype/nexus-public/issues/967"],
        &["every_way_to_upload_a_blob_works", "an_empty_part_is_a_part"],
    ),
    row(
        "a push was refused after gigabytes had been sent",
        &["https://github.com/goharbor/harbor/issues/12731"],
        &[
            "a_registry_that_takes_no_pushes_says_so_first",
            "a_refusal_in_the_middle_of_a_body_reaches_the_client_at_once",
        ],
    ),
    row(
        "a tag that was pushed again was still the old one",
        &["https://github.com/distribution/distribution/issues/3424"],
        &["a_tag_that_is_pushed_again_is_the_new_one_at_once_at_every_door"],
    ),
];

#[test]
fn every_row_has_its_tests() {
    for row in ROWS {
        assert!(!row.reports.is_empty() && !row.tests.is_empty(), "{}", row.bug);
        assert_are_tests(row.tests.iter().copied());
    }
}

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const HOST: &str = "registry-1.docker.io";

async fn warm() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[200_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    for blob in image.blobs() {
        proxy.until_stored(&blob.digest).await;
    }
    hub.forget();
    (hub, image, proxy)
}

/// distribution#2367, quay#5877: all that is known of a blob is worth nothing without the blob.
#[tokio::test(start_paused = true)]
async fn what_is_gone_from_the_store_is_fetched_again() {
    for is_restarted in [false, true] {
        let (hub, image, proxy) = warm().await;
        for path in files_under(&proxy.cache_dir().join("blobs")) {
            std::fs::remove_file(path).unwrap();
        }
        if is_restarted {
            proxy.restart().await;
        }

        for version in Version::ALL {
            let path = image.layers[0].path(REPOSITORY);
            proxy.client.try_get(version, &path).await.unwrap().assert_is(&image.layers[0]);
        }
        proxy.pull(REPOSITORY, "latest", &image).await;
        assert_eq!(hub.gets(&image.layers[0].digest).len(), 1);
    }
}

/// distribution#4381: a file that lost its content, as some file systems leave it after a loss of
/// power, is not served as a blob of no bytes, and does not stand in the way of the right one.
#[tokio::test(start_paused = true)]
async fn an_empty_file_is_no_blob() {
    let (hub, image, proxy) = warm().await;
    for path in files_under(&proxy.cache_dir().join("blobs")) {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
    }
    let empty = Blob::new("");
    hub.put_blob(REPOSITORY, &empty);
    proxy.restart().await;

    for _ in ["emptied", "healed"] {
        let path = image.layers[0].path(REPOSITORY);
        proxy.get(&path).await.assert_is(&image.layers[0]);
        proxy.until_stored(&image.layers[0].digest).await;
        let head = proxy.head(&path).await;
        assert_eq!(head.header("content-length"), Some("200000"));
        proxy.pull(REPOSITORY, "latest", &image).await;
        proxy.get(&empty.path(REPOSITORY)).await.assert_is(&empty);
    }
    assert_eq!(hub.gets(&image.layers[0].digest).len(), 1);
}

/// artifact-keeper#3488: many clients read as many bytes as were announced and look no further.
#[tokio::test(start_paused = true)]
async fn a_client_that_stops_at_the_length_has_the_blob() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 300_000);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;

    for _ in ["cold", "warm"] {
        let path = blob.path(REPOSITORY);
        let mut client = proxy.client.raw().get("1.1", &path, &[]).await.unwrap();
        client.read_until(blob.len(), 1000).await.unwrap();
        assert!(client.body() == blob.bytes);
        drop(client);
        proxy.until_stored(&blob.digest).await;
    }
    assert_eq!(hub.gets(&blob.digest).len(), 1);
}

/// artifact-keeper#3206: what cannot change has no age.
#[tokio::test(start_paused = true)]
async fn what_is_named_by_digest_is_never_asked_for_again() {
    let (hub, image, proxy) = warm().await;
    for _ in 0..3 {
        tokio::time::advance(TAG_TTL * 1000).await;
        proxy.get(&image.manifest.path(REPOSITORY)).await.assert_is(&image.manifest.blob);
        for blob in image.blobs() {
            let reply = proxy.get(&blob.path(REPOSITORY)).await;
            reply.assert_is(blob);
            assert!(reply.decision().is_hit());
        }
    }
    hub.assert_not_asked();
}

/// docker-registry-proxy#88: Docker Hub counts GETs of manifests.
#[tokio::test(start_paused = true)]
async fn a_head_stays_a_head() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;

    for path in [LATEST, &image.manifest.path(REPOSITORY), &image.layers[0].path(REPOSITORY)] {
        proxy.head(path).await.assert_status(200);
    }

    let gets: Vec<_> = hub.gets("/v2/").iter().map(|asked| asked.target.clone()).collect();
    let of_blobs = gets.iter().filter(|target| target.contains("/blobs/")).count();
    assert_eq!(of_blobs, 0, "{gets:?}");
    assert!(hub.heads("/v2/").len() >= 2, "{:?}", hub.asked());
}

/// harbor#23570: the platform that was pulled must be there, and not its index alone.
#[tokio::test(start_paused = true)]
async fn an_index_and_what_was_pulled_of_it_are_there_in_an_outage() {
    let hub = ScriptedRegistry::new();
    let children = [1, 2, 3].map(|seed| Image::random(seed, &[1000]));
    let manifests: Vec<_> = children.iter().map(|child| &child.manifest).collect();
    let index = Manifest::index(&manifests);
    hub.put_tagged(REPOSITORY, "latest", &index);
    for child in &children {
        hub.put_manifest(REPOSITORY, &child.manifest);
        child.blobs().for_each(|blob| hub.put_blob(REPOSITORY, blob));
    }
    let proxy = Proxy::before(&hub).await;
    proxy.get(LATEST).await.assert_is(&index.blob);
    proxy.get(&children[1].manifest.path(REPOSITORY)).await.assert_is(&children[1].manifest.blob);
    for blob in children[1].blobs() {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
        proxy.until_stored(&blob.digest).await;
    }

    proxy.network.set(HOST, Reach::Down);
    proxy.restart().await;
    tokio::time::advance(TAG_TTL * 1000).await;

    proxy.get(LATEST).await.assert_is(&index.blob);
    proxy.get(&children[1].manifest.path(REPOSITORY)).await.assert_is(&children[1].manifest.blob);
    for blob in children[1].blobs() {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
}

/// nexus-public#1061: a `Location` is resolved against what was asked (RFC 9110, 10.2.2).
#[tokio::test(start_paused = true)]
async fn a_relative_location_is_followed() {
    let blob = Blob::random(1, 1000);
    let absolute = format!("/cdn/{REPOSITORY}/{}", blob.digest);
    let up = format!("../../../../cdn/{REPOSITORY}/{}", blob.digest);
    let same_scheme = format!("//{HOST}{absolute}");
    for location in [&absolute, &up, &same_scheme] {
        let hub = ScriptedRegistry::new();
        hub.put_blob(REPOSITORY, &blob);
        hub.breaks(When::asked("/blobs/"), Fault::RedirectTo(location.clone()));
        let proxy = Proxy::before(&hub).await;

        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

        assert_eq!(hub.gets("/cdn/").len(), 1, "{location}");
    }
}

/// nexus-public#1070: what a digest is called on disk is nobody else's business.
#[tokio::test(start_paused = true)]
async fn a_digest_is_written_upstream_as_it_is() {
    let (hub, image, proxy) = warm().await;
    proxy.restart().await;
    for path in files_under(&proxy.cache_dir().join("blobs")) {
        std::fs::remove_file(path).unwrap();
    }
    proxy.get(&image.layers[0].path("library/other")).await.error(404);
    proxy.pull(REPOSITORY, "latest", &image).await;

    let targets: Vec<_> = hub.asked().iter().map(|asked| asked.target.clone()).collect();
    assert!(!targets.is_empty());
    for target in targets {
        let last = target.rsplit('/').next().unwrap();
        assert!(last == "latest" || last.starts_with("sha256:"), "{target}");
    }
}

/// quay#5347: what is warm needs nobody: no name, no address, no token.
#[tokio::test(start_paused = true)]
async fn what_is_warm_needs_no_name_and_no_login() {
    let (hub, image, proxy) = warm().await;
    proxy.network.unname(HOST);
    proxy.restart().await;
    let before = (proxy.network.lookups().len(), proxy.network.connections().len());

    proxy.pull(REPOSITORY, "latest", &image).await;
    proxy.get("/v2/").await.assert_status(200);
    proxy.head(&image.layers[0].path(REPOSITORY)).await.assert_status(200);

    assert_eq!((proxy.network.lookups().len(), proxy.network.connections().len()), before);
    hub.assert_not_asked();
}

/// nora#474: the same name elsewhere is somebody else's (dependency confusion).
#[tokio::test(start_paused = true)]
async fn what_a_registry_lacks_is_asked_of_no_other() {
    let (hub, quay) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[1000]);
    quay.put_image("owner/app", "latest", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.registry("quay.io", &quay);
    let proxy = setup.start().await;

    for path in [
        "/v2/owner/app/manifests/latest",
        &image.manifest.path("owner/app"),
        &image.layers[0].path("owner/app"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            proxy.call(method, path).await.assert_status(404);
        }
    }
    proxy.get("/v2/owner/app/tags/list").await.assert_status(404);
    quay.assert_not_asked();
    assert!(!hub.asked().is_empty());
}

/// zot#2413: a start must not depend on how much is stored. Who lists a directory leaves a trace: the
/// time of the last look.
#[tokio::test(start_paused = true)]
async fn a_start_looks_at_no_blob() {
    let (_hub, image, proxy) = warm().await;
    proxy.stop().await;
    let dir = proxy.cache_dir().join("blobs/sha256");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let looked_at = || std::fs::metadata(&dir).unwrap().accessed().unwrap();
    let times = std::fs::FileTimes::new().set_accessed(long_ago);
    std::fs::File::open(&dir).unwrap().set_times(times).unwrap();

    proxy.start_again().await;

    assert_eq!(looked_at(), long_ago, "the start has listed the store");
    proxy.get(&image.layers[0].path(REPOSITORY)).await.assert_is(&image.layers[0]);
    std::fs::read_dir(&dir).unwrap().for_each(drop);
    if looked_at() == long_ago {
        eprintln!("skipped: the file system of {} notes no looks", dir.display());
    }
}
