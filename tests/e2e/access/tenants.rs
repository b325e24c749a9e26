//! Tenants of one registry are isolated, passwords go to their own registry alone, and a credential
//! can end.

use std::fs;

use serde_json::Value;

use super::{
    ASKING, LIBRARY, NEVER_ASKING, TEAM, Tenants, WRONG_OF_LIBRARY, asked_by_clients, auth,
    says_no_secret, shown, trusting,
};
use crate::support::client::Login;
use crate::support::curl::Curl;
use crate::support::image::Image;
use crate::support::larder::{Larder, Setup};
use crate::support::token_server::{Guarded, TOKENS};
use crate::support::tools::requires;
use crate::support::wait;
use crate::support::work::Work;

/// Cached content of another tenant looks like content that does not exist, by every way to ask for
/// it.
#[test]
fn content_of_another_tenant_is_answered_like_content_that_does_not_exist() {
    let work = Work::new(requires!(TOKENS));
    let mut tenants = Tenants::start(&work);
    let [image, _] = Image::small();
    let things = things(&image);
    let paths = |repository: &str| {
        let doors = ["v2", "v2/docker.io", "docker.io/v2"];
        let at = |door: &str| {
            things.iter().map(|it| format!("{door}/{repository}/{it}")).collect::<Vec<_>>()
        };
        doors.map(at).concat()
    };
    for path in paths("library/small") {
        tenants.ask(&path, LIBRARY, &[]);
    }
    for digest in image.digests() {
        let kind = if image.blobs().any(|blob| blob == digest) { "blobs" } else { "manifests" };
        let reply = tenants.ask(&format!("v2/library/small/{kind}/{digest}"), LIBRARY, &[]);
        assert_eq!(reply.0.status, 200, "{reply:?}");
    }
    tenants.guarded.upstream.forget();
    let (asked, logged) =
        (tenants.guarded.server.logged(), tenants.guarded.upstream.raw_log().len());

    let warm = paths("library/small").into_iter().zip(paths("no/such"));
    for (warm, absent) in warm {
        for how in [&[][..], &["-I"], &["-r", "0-0"], &["-r", "5-"]] {
            let theirs = tenants.ask(&warm, TEAM, how);
            // 405: a list has no HEAD.
            assert!(matches!(theirs.0.status, 404 | 405), "{warm} {how:?}: {theirs:?}");
            assert_eq!(shown(theirs), shown(tenants.ask(&absent, TEAM, how)), "{warm} {how:?}");
        }
        let refused = tenants.ask(&warm, WRONG_OF_LIBRARY, &[]);
        assert_eq!(refused.0.status, 401, "{warm}: {refused:?}");
        assert!(refused.1.len() < 1000, "an error and no more");
    }
    assert!(tenants.guarded.server.asked_by(TEAM.user, asked));
    assert!(
        !tenants.guarded.server.asked_by(LIBRARY.user, asked),
        "nobody asked in another's name"
    );
    let log = tenants.guarded.upstream.raw_log();
    assert!(!log[logged..].contains("auth.user.name=library"), "{}", &log[logged..]);
    says_no_secret(&tenants.larder);
}

/// All that a client can ask for that has heard of an image.
fn things(image: &Image) -> [String; 9] {
    [
        "manifests/1".to_owned(),
        format!("manifests/{}", image.index),
        format!("manifests/{}", image.manifest),
        format!("blobs/{}", image.layers[0]),
        format!("blobs/{}", image.config),
        format!("blobs/{}", image.manifest),
        format!("referrers/{}", image.index),
        "tags/list".to_owned(),
        "tags/list?n=1".to_owned(),
    ]
}

/// The token that Larder holds is good for a quarter of an hour, and the registry believes it. The
/// right ends with `grant_ttl` all the same.
#[test]
fn a_credential_that_is_revoked_ends_here_before_its_token_does() {
    let work = Work::new(requires!(TOKENS));
    let tenants = Tenants::start(&work);
    let [image, _] = Image::small();
    let layer = format!("v2/library/small/blobs/{}", image.layers[0]);
    for path in ["v2/library/small/manifests/1".to_owned(), layer.clone()] {
        assert_eq!(tenants.ask(&path, LIBRARY, &[]).0.status, 200, "{path}");
    }

    tenants.guarded.server.admit(&[TEAM]);

    wait::until("the right has ended", wait::DAEMON, || {
        (tenants.ask(&layer, LIBRARY, &[]).0.status == 401).then_some(())
    });
    assert_eq!(tenants.ask("v2/library/small/manifests/1", LIBRARY, &[]).0.status, 401);
    says_no_secret(&tenants.larder);
}

/// Each has a token server of its own, and Larder has a host for each. A password that is presented
/// at one host is for the registry of that host, whichever the path names.
#[test]
fn the_password_for_one_registry_is_never_seen_by_the_token_server_of_another() {
    let work = Work::new(requires!(TOKENS));
    let ([small, _], own) = (Image::small(), Image::of_a_team());
    let one = Guarded::for_users(&work, &[LIBRARY]);
    let other = Guarded::for_users(&work, &[TEAM]);
    let port = wait::free_port();
    let keys = format!(
        "{}\n[registry.\"other.test\"]\nupstream = \"{}\"\nhosts = [\"127.0.0.1:{port}\"]\n{}",
        asked_by_clients(&one),
        other.upstream.url(),
        asked_by_clients(&other),
    );
    let larder = Setup {
        registry_keys: &keys,
        access_keys: ASKING,
        port: Some(port),
        ..Setup::new(&work, &one.upstream.url())
    }
    .start();
    let status = |host: &str, path: &str, login: Login| {
        let url = format!("http://{host}:{port}/{path}");
        Curl::get(&url).arg("-u").arg(login.to_string()).send().status
    };
    let layers = [
        format!("library/small/blobs/{}", small.layers[0]),
        format!("team/app/blobs/{}", own.layers[0]),
    ];
    for _ in ["cold", "warm"] {
        assert_eq!(status("localhost", "v2/", LIBRARY), 200);
        assert_eq!(status("localhost", &format!("v2/{}", layers[0]), LIBRARY), 200);
        assert_eq!(status("127.0.0.1", "v2/", TEAM), 200);
        assert_eq!(status("127.0.0.1", &format!("v2/{}", layers[1]), TEAM), 200);
    }
    for path in [
        format!("v2/{}?ns=other.test", layers[1]),
        format!("v2/other.test/{}", layers[1]),
        format!("other.test/v2/{}", layers[1]),
    ] {
        assert_ne!(status("localhost", &path, LIBRARY), 200, "{path}");
    }
    for path in [
        format!("v2/{}?ns=docker.io", layers[0]),
        format!("v2/docker.io/{}", layers[0]),
        format!("docker.io/v2/{}", layers[0]),
    ] {
        assert_ne!(status("127.0.0.1", &path, TEAM), 200, "{path}");
    }

    for (server, its, others) in [(&one.server, LIBRARY, TEAM), (&other.server, TEAM, LIBRARY)] {
        assert!(server.was_told_of(its.user), "{} was let in", its.user);
        // It writes down who is let in, and who is not.
        assert!(!server.was_told_of(others.user), "{} is nobody there", others.user);
    }
    says_no_secret(&larder);
}

/// Cached content was fetched with a credential that has ended since: it goes on being served, and
/// the operator is told.
#[test]
fn a_credential_of_larders_that_has_expired_everywhere_is_an_outage() {
    let work = Work::new(requires!(TOKENS));
    let [image, _] = Image::small();
    let guarded = Guarded::for_users(&work, &[LIBRARY]);
    let cache = work.new_dir("cache");
    let keys = format!("{}\n{}", trusting(&guarded), auth(LIBRARY));
    let url = guarded.upstream.url();
    let setup = || Setup {
        registry_keys: &keys,
        access_keys: NEVER_ASKING,
        cache: Some(&cache),
        ..Setup::new(&work, &url)
    };
    let mut larder = setup().start();
    let tag = format!("{}/manifests/{}", image.repository, image.tag);
    let ask = |larder: &Larder, path: &str| Curl::get(&larder.url(path)).send();
    assert_eq!(ask(&larder, &tag).status, 200);
    assert_eq!(reasons(&larder), "[]");

    guarded.server.admit(&[TEAM]);
    // The token that it has is good for a quarter of an hour.
    larder.restart();
    let stale = ask(&larder, &tag);
    assert_eq!(stale.status, 200, "{stale:?}");
    assert!(stale.cache_status().contains("ttl=-"), "{stale:?}");
    assert_eq!(ask(&larder, "library/small/manifests/none").status, 502);
    assert_eq!(reasons(&larder), "[credential-refused]");

    guarded.server.admit(&[LIBRARY]);
    wait::until("the credential is taken again", wait::DAEMON, || {
        let fresh = ask(&larder, &tag);
        (!fresh.cache_status().contains("ttl=-")).then_some(())
    });
    assert_eq!(reasons(&larder), "[]");
    says_no_secret(&larder);
}

/// One that is good, and no longer for this: that is an answer, and obeyed.
#[test]
fn a_repository_that_refuses_a_credential_of_larders_is_obeyed() {
    let work = Work::new(requires!(TOKENS));
    let image = Image::of_a_team();
    let guarded = Guarded::for_users(&work, &[LIBRARY, TEAM]);
    let (cache, url) = (work.new_dir("cache"), guarded.upstream.url());
    let start = |login: Login| {
        let keys = format!("{}\n{}", trusting(&guarded), auth(login));
        Setup {
            registry_keys: &keys,
            access_keys: NEVER_ASKING,
            cache: Some(&cache),
            ..Setup::new(&work, &url)
        }
        .start()
    };
    let tag = format!("{}/manifests/{}", image.repository, image.tag);
    let ask = |larder: &Larder| Curl::get(&larder.url(&tag)).send();
    let mut larder = start(TEAM);
    assert_eq!(ask(&larder).status, 200);
    larder.stop();

    // The token server gives a token, and nothing with it.
    let larder = start(LIBRARY);
    let refused = ask(&larder);
    assert!(matches!(refused.status, 403 | 404), "{refused:?}");
    assert_eq!(reasons(&larder), "[]", "the credential is good");
    let by_digest = format!("{}/manifests/{}", image.repository, image.index);
    let again = ask(&larder);
    assert!(matches!(again.status, 403 | 404), "{again:?}");
    println!("by digest it is still: {}", Curl::get(&larder.url(&by_digest)).send().status);
    says_no_secret(&larder);
}

/// The reasons in `/readyz`.
fn reasons(larder: &Larder) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let ready = Curl::get(&larder.admin_url("readyz")).to(file.path()).send();
    assert_eq!(ready.status, 200, "{ready:?}");
    let text = fs::read_to_string(file.path()).expect("curl wrote the body");
    let body: Value = serde_json::from_str(&text).expect("it is JSON");
    let reasons = body["reasons"].as_array().cloned().unwrap_or_default();
    let reasons: Vec<_> = reasons.iter().filter_map(|it| it["reason"].as_str()).collect();
    format!("[{}]", reasons.join(", "))
}
