//! The targets of redirects, and the headers that go along.

use http::header::CONTENT_LENGTH;

use super::sites::{Step, head, reply};
use super::*;

/// A registry that redirects every blob to `location`.
fn redirecting(network: &ScriptedSites, location: &'static str) {
    network.serve(UP, move |_| reply(307, &[("Location", location)], "<html>moved</html>"));
}

fn forbidden(error: UpstreamError) -> (String, String) {
    match error {
        UpstreamError::Forbidden { target, reason, .. } => (target, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_fetched_from_where_the_registry_points_with_its_range() {
    let network = world();
    redirecting(&network, "http://cdn.test/x?sig=s3cr3t");
    network.serve(CDN, |_| reply(206, &[("Content-Range", "bytes 2-4/5")], "llo"));

    let answer = ask(&upstream(&network, &options()), &blob(ReadMethod::Get, 2)).await.unwrap();

    assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.body.collect(9).await.unwrap(), "llo");
    let seen = network.seen();
    assert_eq!(seen[0].target, format!("/v2/a/b/blobs/sha256:{HEX}"));
    assert_eq!(seen[1].target, "/x?sig=s3cr3t");
    for seen in seen {
        assert_eq!(seen.header("range"), Some("bytes=2-"));
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert!(seen.header("user-agent").unwrap().starts_with("larder/"));
    }
}

/// The tripwire: a private host that would answer, if it were ever asked.
#[tokio::test(start_paused = true)]
async fn a_redirect_into_the_private_network_is_never_dialled() {
    for (location, addresses) in [
        ("http://169.254.169.254/latest/meta-data", &[][..]),
        ("http://127.0.0.1/", &[]),
        ("http://127.1/", &[]),
        ("http://0x7f000001/", &[]),
        ("http://[::1]/", &[]),
        ("http://[::ffff:169.254.169.254]/", &[]),
        ("http://[64:ff9b::a9fe:a9fe]/", &[]),
        ("http://[64:ff9b:1::a00:1]/", &[]),
        ("http://10.0.0.1:8080/", &[]),
        ("http://inner.test/", &["169.254.169.254"]),
        ("http://inner.test/", &["127.0.0.1", "::1", "fd00:ec2::254"]),
        ("http://inner.test/", &["64:ff9b::7f00:1"]),
    ] {
        let network = world();
        redirecting(&network, location);
        network.name("inner.test", addresses);
        for tripwire in [
            "169.254.169.254:80",
            "127.0.0.1:80",
            "[::1]:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[64:ff9b:1::a00:1]:80",
            "[64:ff9b::7f00:1]:80",
            "[fd00:ec2::254]:80",
            "10.0.0.1:8080",
        ] {
            network.serve(tripwire, |_| reply(200, &[], "secret"));
        }

        let (_, reason) = forbidden(pull(&upstream(&network, &options())).await.unwrap_err());

        assert!(reason.contains("`redirect_hosts`"), "{location}: {reason}");
        assert_eq!(network.dialled(), [UP], "{location}");
    }
}

/// One public address is no excuse to dial the private one beside it.
#[tokio::test(start_paused = true)]
async fn of_mixed_addresses_only_the_public_ones_are_dialled() {
    let network = world();
    redirecting(&network, "http://mixed.test/");
    network.name("mixed.test", &["127.0.0.1", "1.0.0.4", "10.9.9.9"]);
    network.serve("127.0.0.1:80", |_| reply(200, &[], "secret"));

    let error = pull(&upstream(&network, &options())).await.unwrap_err();

    assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error:?}");
    assert!(network.dialled().iter().all(|address| address == UP || address == "1.0.0.4:80"));
}

#[tokio::test(start_paused = true)]
async fn a_listed_host_may_have_a_private_address() {
    let network = world();
    redirecting(&network, "http://minio.test:9000/x");
    network.name("minio.test", &["10.0.0.7"]);
    network.serve("10.0.0.7:9000", |_| reply(200, &[], "layer"));
    let listed =
        |text: &str| UpstreamOptions { redirect_hosts: vec![text.parse().unwrap()], ..options() };

    for entry in ["minio.test", "minio.test:9000"] {
        assert_eq!(pull(&upstream(&network, &listed(entry))).await.unwrap(), "layer", "{entry}");
    }
    for entry in ["minio.test:9001", "test", "10.0.0.7"] {
        let (target, _) = forbidden(pull(&upstream(&network, &listed(entry))).await.unwrap_err());
        assert_eq!(target, "http://minio.test:9000", "{entry}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_stays_at_its_origin_and_is_gone_once_the_walk_has_left_it() {
    let network = world();
    network.name("up2.example.com", &["1.0.0.5"]);
    network.serve(UP, |seen| match (&*seen.target, seen.header("authorization")) {
        (_, None) if seen.target.starts_with("/v2/") => {
            reply(401, &[("WWW-Authenticate", "Basic")], "")
        }
        ("/same", Some(_)) => reply(302, &[("Location", "http://up.example.com:8080/port")], ""),
        ("/back", _) => reply(200, &[], "layer"),
        _ => reply(307, &[("Location", "/same")], ""),
    });
    network.serve("10.0.0.1:8080", |_| reply(302, &[("Location", "http://cdn.test/x")], ""));
    network.serve(CDN, |_| reply(302, &[("Location", "http://up.example.com/back")], ""));
    let options = UpstreamOptions {
        redirect_hosts: vec!["up.example.com".parse().unwrap()],
        ..with_password("pw")
    };

    assert_eq!(pull(&upstream(&network, &options)).await.unwrap(), "layer");

    let sent = network.seen();
    let sent: Vec<_> =
        sent.iter().map(|seen| (&*seen.host, seen.header("authorization").is_some())).collect();
    let want = [
        ("up.example.com", false),
        ("up.example.com", true),
        ("up.example.com", true),
        ("up.example.com:8080", false),
        ("cdn.test", false),
        ("up.example.com", false),
    ];
    assert_eq!(sent, want);
}

#[tokio::test(start_paused = true)]
async fn the_fifth_redirect_is_followed_and_the_sixth_is_not() {
    for (hops, is_followed) in [(5, true), (6, false), (usize::MAX, false)] {
        let network = world();
        network.serve(UP, move |seen| {
            let at: usize = seen.target.strip_prefix("/hop").map_or(0, |n| n.parse().unwrap());
            if at == hops {
                reply(200, &[], "layer")
            } else {
                reply(308, &[("Location", &format!("/hop{}", at + 1))], "")
            }
        });

        let pulled = pull(&upstream(&network, &options())).await;

        assert_eq!(pulled.is_ok(), is_followed, "{hops} {pulled:?}");
        assert_eq!(network.count("up.example.com"), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_nowhere_or_to_another_scheme_is_no_answer() {
    for (location, forbidden) in [
        ("", false),
        ("http://", false),
        ("ftp://cdn.test/x", true),
        ("javascript:alert(1)", true),
        ("http://user:pw@cdn.test/x", true),
    ] {
        let network = world();
        redirecting(&network, location);
        let error = pull(&upstream(&network, &options())).await.unwrap_err();
        assert_eq!(
            matches!(error, UpstreamError::Forbidden { .. }),
            forbidden,
            "{location}: {error:?}"
        );
        assert_eq!(network.dialled(), [UP], "{location}");
    }
}

/// Storage that refuses says nothing about the repository: taken for a denial, it would drop
/// what is cached.
#[tokio::test(start_paused = true)]
async fn a_refusal_by_storage_is_not_a_denial() {
    let paths = ["x", "docker/registry/v2/blobs/sha256/ab/abcd/data?signature=1", "v2/a/b?sig=1"];
    let statuses = [401, 403, 404, 410];
    for (status, path) in statuses.iter().flat_map(|status| paths.map(|path| (*status, path))) {
        let network = world();
        redirecting(&network, format!("http://cdn.test/{path}").leak());
        network.serve(CDN, move |_| reply(status, &[("WWW-Authenticate", "Basic")], ""));

        let error = pull(&upstream(&network, &with_password("pw"))).await.unwrap_err();

        assert!(!error.is_an_answer() && !error.is_about_the_asker());
        let UpstreamError::StorageRefused { host, status: got } = error else {
            panic!("{error:?}")
        };
        assert_eq!((&*host, got.as_u16()), ("cdn.test", status));
        assert_eq!(network.seen().len(), 4, "a second signed URL, and no more");
    }
}

/// moby#50065: URLs that are signed for GET answer 403 to a HEAD.
#[tokio::test(start_paused = true)]
async fn a_head_that_storage_refuses_is_learnt_from_the_first_byte() {
    for (status, length) in [(400, "70"), (403, "70"), (405, "0"), (501, "70")] {
        let network = world();
        redirecting(&network, "http://cdn.test/x");
        network.serve(CDN, move |seen| match (&*seen.method, length) {
            ("HEAD", _) => reply(status, &[], ""),
            (_, "0") => reply(416, &[("Content-Range", "bytes */0")], ""),
            _ => reply(206, &[("Content-Range", "bytes 0-0/70"), ("ETag", "x")], "a"),
        });

        // One place in the queue, which the second question must find free.
        let options = UpstreamOptions { max_connections: 1, ..options() };
        let answer = ask(&upstream(&network, &options), &blob(ReadMethod::Head, 0)).await.unwrap();

        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers[CONTENT_LENGTH], length);
        assert!(!answer.headers.contains_key("content-range"));
        assert_eq!(answer.body.collect(0).await.unwrap(), "");
        let seen = network.seen();
        assert_eq!(seen[2].header("range"), Some("bytes=0-0"));
        assert_eq!((seen.len(), &*seen[2].host), (4, "up.example.com"));
    }
}

#[tokio::test(start_paused = true)]
async fn storage_that_ignores_the_range_still_tells_the_length() {
    let network = world();
    redirecting(&network, "http://cdn.test/x");
    network.serve(CDN, |seen| match &*seen.method {
        "HEAD" => reply(403, &[], ""),
        _ => vec![Step::Send(head(200, &[("Content-Length", "900000000")])), Step::Hang],
    });

    let answer = ask(&upstream(&network, &options()), &blob(ReadMethod::Head, 0)).await.unwrap();

    assert_eq!(answer.headers[CONTENT_LENGTH], "900000000");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_the_registry_itself_refuses_is_not_asked_another_way() {
    let network = world();
    network.serve(UP, |_| reply(405, &[], ""));

    let error = ask(&upstream(&network, &options()), &blob(ReadMethod::Head, 0)).await.unwrap_err();

    assert!(matches!(
        error,
        UpstreamError::Rejected { status: StatusCode::METHOD_NOT_ALLOWED, .. }
    ));
    assert_eq!(network.seen().len(), 1);
}

/// Registries that do not know referrers may redirect to what they stand in front of.
#[tokio::test(start_paused = true)]
async fn referrers_that_are_elsewhere_are_not_there() {
    let network = world();
    redirecting(&network, "http://cdn.test/x");
    network.serve(CDN, |_| reply(200, &[], "<html>"));
    let resource = Resource::Referrers(format!("sha256:{HEX}").parse().unwrap());
    let question = Question { resource, ..blob(ReadMethod::Get, 0) };

    let error = ask(&upstream(&network, &options()), &question).await.unwrap_err();

    assert!(matches!(error, UpstreamError::NotFound { .. }), "{error:?}");
    assert_eq!(network.dialled(), [UP]);
}
