//! Registries that answer in ways of their own, with which clients get along directly.

use http::Method;

use crate::support::{Blob, Fault, Image, Proxy, ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

/// A HEAD answered by hand.
fn head(fields: &str) -> Fault {
    Fault::raw(&format!("HTTP/1.1 200 OK\r\n{fields}Connection: close"), b"")
}

/// distribution#4895, containerd#5124, moby#15264: some registries send no `Content-Length` to a
/// HEAD, or a wrong one. Docker needs it, and a manifest states it.
#[tokio::test(start_paused = true)]
async fn head_of_a_blob_states_the_length_that_a_manifest_states() {
    let image = Image::random(1, &[70_000]);
    let layer = &image.layers[0];
    for fields in [
        "",
        "Content-Type: application/octet-stream\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 1234\r\n",
        "Content-Length: 700000\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 70000\r\n",
    ] {
        for push in [false, true] {
            let hub = ScriptedRegistry::new();
            hub.put_image(REPOSITORY, "latest", &image);
            hub.breaks(When::asked(&layer.digest).head(), head(fields));
            let mut setup = Setup::new();
            setup.registry("docker.io", &hub).rules.push = push;
            let proxy = setup.start().await;
            proxy.get(LATEST).await.assert_status(200);

            for _ in ["asked", "asked before"] {
                let reply = proxy.head(&layer.path(REPOSITORY)).await;
                reply.assert_status(200);
                assert_eq!(reply.header("content-length"), Some("70000"), "{fields:?} {push}");
            }
            proxy.get(&layer.path(REPOSITORY)).await.assert_is(layer);
            let reply = proxy.head(&layer.path(REPOSITORY)).await;
            assert_eq!(reply.header("content-length"), Some("70000"), "cached {fields:?}");
        }
    }
}

/// A length that cannot be is not kept for the ranges that follow.
#[tokio::test(start_paused = true)]
async fn no_length_is_stated_where_none_is_known() {
    let blob = Blob::random(1, 1000);
    for (fields, want) in [
        ("", None),
        ("Content-Length: 0\r\n", None),
        ("Content-Length: x\r\n", None),
        ("Content-Length: 1000\r\n", Some("1000")),
    ] {
        let hub = ScriptedRegistry::new();
        hub.put_blob(REPOSITORY, &blob);
        let fault = if fields.contains(": x") { Fault::HeadNotAllowed } else { head(fields) };
        hub.breaks(When::asked(&blob.digest).head(), fault);
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub).rules.fill_on_range = false;
        let proxy = setup.start().await;

        let reply = proxy.head(&blob.path(REPOSITORY)).await;

        reply.assert_status(200);
        // A GET has the length where there is no HEAD.
        let want = if fields.contains(": x") { Some("1000") } else { want };
        assert_eq!(reply.header("content-length"), want, "{fields:?}");
        let part = proxy.get_with(&blob.path(REPOSITORY), &[("range", "bytes=10-19")]).await;
        part.assert_status(206);
        assert_eq!(part.body, blob.bytes[10..20], "{fields:?}");
    }
}

/// Some registries answer 204 for the blob of no bytes, which containerd takes.
#[tokio::test(start_paused = true)]
async fn the_blob_of_no_bytes_may_be_answered_with_204_and_no_other_one() {
    let nothing = Blob::new("");
    let sha512 = nothing.by_sha512();
    let other = Blob::random(1, 10);
    for (blob, head, get) in [
        (&nothing, true, true),
        (&nothing, false, true),
        (&nothing, true, false),
        (&sha512, true, true),
        (&other, true, false),
        (&other, false, true),
    ] {
        let hub = ScriptedRegistry::new();
        hub.put_blob(REPOSITORY, blob);
        let none = || Fault::Status(204, Vec::new(), "");
        if head {
            hub.breaks(When::asked(&blob.digest).head(), none());
        }
        if get {
            hub.breaks(When::asked(&blob.digest).get(), none());
        }
        let proxy = Proxy::before(&hub).await;
        let path = blob.path(REPOSITORY);
        let is_empty = blob.len() == 0;
        for _ in ["cold", "warm"] {
            let reply = proxy.head(&path).await;
            if is_empty {
                reply.assert_status(200);
                assert_eq!(reply.header("content-length"), Some("0"), "{head} {get}");
            } else if head {
                reply.assert_status(502);
            }
            let reply = proxy.get(&path).await;
            if is_empty || !get {
                reply.assert_is(blob);
                assert_eq!(reply.header("content-length"), Some(&*blob.len().to_string()));
            } else {
                reply.error(502);
            }
            if !is_empty && !get {
                break;
            }
        }
    }
}

/// An answer by hand with the headers of a manifest and these.
fn manifest_with(image: &Image, fields: &str) -> Fault {
    let manifest = &image.manifest;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nDocker-Content-Digest: {}\r\n{fields}\
         Content-Length: {}",
        manifest.media_type,
        manifest.digest(),
        manifest.blob.len()
    );
    Fault::raw(&head, &manifest.blob.bytes)
}

fn many(count: usize) -> String {
    "X-Trace: y\r\n".repeat(count)
}

/// Go's clients read folded lines and any number of headers, which tracing gateways send.
#[tokio::test(start_paused = true)]
async fn folded_and_many_headers_of_an_upstream_are_read() {
    let folded = "X-Folded: a\r\n b\r\n\tc\r\n";
    for fields in [
        folded.to_owned(),
        format!("Set-Cookie: a=b;\r\n Path=/\r\n{folded}"),
        "Content-Security-Policy: default-src 'self';\r\n   img-src *\r\n".to_owned(),
        many(100),
        many(300),
        many(900),
        format!("{}{folded}", many(200)),
        format!("X-Long: {}\r\n", "y".repeat(60_000)),
    ] {
        let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[]));
        hub.put_image(REPOSITORY, "latest", &image);
        hub.breaks(When::asked("/manifests/").get(), manifest_with(&image, &fields));
        let proxy = Proxy::before(&hub).await;

        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    }
}

/// A host that answers is not down, however it answers: its other answers may be read.
#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_opens_no_circuit_breaker() {
    for fields in [
        many(1100),
        format!("X-Long: {}\r\n", "y".repeat(300_000)),
        "Bad Name: x\r\n".to_owned(),
        "X-Bad: a\0b\r\n".to_owned(),
        ": x\r\n".to_owned(),
    ] {
        let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[10]));
        hub.put_image(REPOSITORY, "latest", &image);
        hub.breaks(When::asked("/manifests/"), manifest_with(&image, &fields));
        let proxy = Proxy::before(&hub).await;
        for _ in 0..10 {
            let (_, message) = proxy.get(LATEST).await.error(502);
            assert!(!message.contains("breaker"), "{fields:.20}: {message}");
        }

        let layer = &image.layers[0];
        proxy.get(&layer.path(REPOSITORY)).await.assert_is(layer);
        hub.heal();
        let reply = proxy.client.call(Method::GET, LATEST, &[]).await;
        reply.assert_is(&image.manifest.blob);
    }
}

const DEPRECATED: &str = "299 - \"deprecated, use x/y\"";

/// distribution-spec, "Warnings": containerd, podman and oras show them to people.
#[tokio::test(start_paused = true)]
async fn a_warning_of_the_registry_reaches_the_client_that_pulls() {
    let (head, get) = (When::asked("/manifests/").head(), When::asked("/manifests/").get());
    for when in [vec![head.clone()], vec![get.clone()], vec![head, get]] {
        let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[]));
        hub.put_image(REPOSITORY, "latest", &image);
        for when in when {
            hub.breaks(when, Fault::Header("Warning", DEPRECATED.to_owned()));
        }
        let proxy = Proxy::before(&hub).await;
        for method in [Method::GET, Method::HEAD, Method::GET] {
            let reply = proxy.call(method.clone(), LATEST).await;
            reply.assert_status(200);
            let warnings = reply.headers.get_all("warning").iter().count();
            assert_eq!((warnings, reply.header("warning")), (1, Some(DEPRECATED)), "{method}");
        }

        // A stale answer has both warnings, and a tag that is no more warned of has none.
        tokio::time::advance(TAG_TTL * 2).await;
        hub.heal();
        hub.breaks(When::asked("/v2/"), Fault::status(500));
        let reply = proxy.get(LATEST).await;
        let all: Vec<_> = reply.headers.get_all("warning").iter().collect();
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[1], DEPRECATED);
        hub.heal();
        tokio::time::advance(TAG_TTL * 2).await;
        assert_eq!(proxy.get(LATEST).await.header("warning"), None);
    }
}

/// Warnings that are none do not pass, nor does anything that is about the registry itself.
#[tokio::test(start_paused = true)]
async fn only_warnings_of_the_specification_pass_and_nothing_internal() {
    let long = format!("299 - \"{}\"", "y".repeat(5000));
    for (name, value, passes) in [
        ("Warning", DEPRECATED, true),
        ("Warning", "299 - \"\"", true),
        ("Warning", "299 - \"caf\u{e9}\"", true),
        ("Warning", "299 - deprecated", false),
        ("Warning", "299 host \"deprecated\"", false),
        ("Warning", "110 - \"Response is Stale\"", false),
        ("Warning", "299 - \"a\" \"Sat, 01 Jan 2000 00:00:00 GMT\"", false),
        ("Warning", "299 - \"a\", 299 - \"b\"", false),
        ("Warning", long.as_str(), false),
        ("Set-Cookie", "session=s3cr3t", false),
        ("X-Internal", "db7.corp", false),
        ("Docker-RateLimit-Source", "1.2.3.4", false),
        ("Cache-Control", "no-store, private", false),
        ("Vary", "*", false),
        ("Expires", "0", false),
        ("Strict-Transport-Security", "max-age=1", false),
        ("WWW-Authenticate", "Basic realm=\"up\"", false),
        ("Link", "</x>; rel=\"next\"", false),
    ] {
        let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[10]));
        hub.put_image(REPOSITORY, "latest", &image);
        hub.breaks(When::asked("/v2/"), Fault::Header(name, value.to_owned()));
        let proxy = Proxy::before(&hub).await;
        for path in [LATEST, &image.manifest.path(REPOSITORY), &image.layers[0].path(REPOSITORY)] {
            for _ in ["miss", "hit"] {
                let reply = proxy.get(path).await;
                reply.assert_status(200);
                let has = reply.headers.get_all(name).iter().any(|it| it == value);
                assert_eq!(has, passes && path == LATEST, "{name}: {value} {path}");
            }
        }
    }
}

/// A signature may be over the very text, and clients written in Go send it back as it came.
const TARGETS: [&str; 11] = [
    "/blob?sig=a'b",
    "/blob?name=''x%20y.tar&sig=%2fA%2Fb+c==",
    "/b'lob?x",
    "/blob?a={b}|c^d",
    "/{b}/c|d^e",
    "/a//b///c?d//e",
    "/blob?",
    "/blob?a&&b=&=c",
    "/%41%7e%2F?%41%7e",
    "/blob?a=b?c=/../d",
    "?a='b",
];

#[tokio::test(start_paused = true)]
async fn a_location_is_followed_byte_for_byte() {
    let blob = Blob::random(1, 1000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", blob.len());
    for target in TARGETS {
        for is_absolute in [true, false] {
            if !is_absolute && target.starts_with('?') {
                continue;
            }
            let (hub, store) = (ScriptedRegistry::new(), ScriptedRegistry::new());
            let mut setup = Setup::new();
            setup.registry("docker.io", &hub);
            setup.network.put("store.test", 80, store.clone());
            let asked = if is_absolute { &store } else { &hub };
            let base = if is_absolute { "http://store.test" } else { "" };
            let location = format!("{base}{target}#fragment");
            hub.breaks(When::asked("/blobs/").first(1), Fault::RedirectTo(location));
            asked.breaks(When::asked("/"), Fault::raw(&head, &blob.bytes));
            let proxy = setup.start().await;

            proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

            let seen = asked.asked().last().unwrap().target.clone();
            let want =
                if target.starts_with('?') { format!("/{target}") } else { target.to_owned() };
            assert_eq!(seen, want);
        }
    }
}

/// A location that two readers may read in two ways is written in one before it is followed.
#[tokio::test(start_paused = true)]
async fn an_ambiguous_location_is_followed_in_its_plain_form() {
    let blob = Blob::random(1, 1000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", blob.len());
    for (location, want) in [
        ("http://store.test/a/../b?c", "/b?c"),
        ("http://store.test/a/%2e%2E/b", "/b"),
        ("http://store.test/./a/.", "/a/"),
        ("http://store.test/a\\b", "/a/b"),
        ("http:\\\\store.test\\a", "/a"),
        ("http:/store.test/a b?c d", "/store.test/a%20b?c%20d"),
        ("http://store.test/a`b?c<d>", "/a%60b?c%3Cd%3E"),
        ("http://store.test/a?b=\"c\"", "/a?b=%22c%22"),
        ("HTTP://STORE.TEST:80/A?B", "/A?B"),
        ("//store.test/a?'b", "/a?'b"),
    ] {
        let (hub, store) = (ScriptedRegistry::new(), ScriptedRegistry::new());
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub);
        setup.network.put("store.test", 80, store.clone());
        store.breaks(When::asked("/"), Fault::raw(&head, &blob.bytes));
        hub.breaks(When::asked("/blobs/"), Fault::RedirectTo(location.to_owned()));
        let proxy = setup.start().await;

        let reply = proxy.get(&blob.path(REPOSITORY)).await;

        // `http:/store.test/…` is relative to where it came from.
        let seen = if location.starts_with("http:/s") { &hub } else { &store };
        let seen = seen.asked().last().map(|asked| asked.target.clone());
        assert_eq!(seen.as_deref(), Some(want), "{location}: {}", reply.status);
    }
}

/// ECR's pull-through rules and Quay's proxy organisations give a blob only after a manifest that
/// names it was pulled there, and forget it some time later. A manifest that is a hit here is not.
#[tokio::test(start_paused = true)]
async fn a_blob_that_an_upstream_cache_has_lost_is_pulled_after_its_manifest() {
    let image = Image::random(1, &[70_000]);
    let layer = &image.layers[0];
    let pull = async |lost: usize, range: Option<&'static str>| {
        let hub = ScriptedRegistry::new();
        hub.put_image(REPOSITORY, "latest", &image);
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub).rules.fill_on_range = false;
        let proxy = setup.start().await;
        proxy.get(LATEST).await.assert_status(200);
        hub.forget();
        let unknown = r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#;
        let lost = When::asked(&layer.digest).first(lost);
        hub.breaks(lost, Fault::Status(404, Vec::new(), unknown));
        let headers: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
        let reply = proxy.get_with(&layer.path(REPOSITORY), &headers).await;
        let asked: Vec<_> =
            hub.asked().iter().map(|it| (it.path().to_owned(), it.status())).collect();
        (reply, asked)
    };
    let (blob, manifest) = (layer.path(REPOSITORY), image.manifest.path(REPOSITORY));
    let lost_once = [(blob.clone(), 404), (manifest.clone(), 200), (blob.clone(), 200)];

    let (whole, asked) = pull(1, None).await;
    whole.assert_is(layer);
    assert_eq!(asked, lost_once);

    // A part is asked for once more, by the fill that takes its place.
    let (part, asked) = pull(2, Some("bytes=0-9")).await;
    part.assert_status(206);
    assert_eq!(part.body, layer.bytes[..10]);
    assert_eq!(asked[1..], lost_once);

    let (gone, asked) = pull(9, None).await;
    assert_eq!(gone.error(404).0, "BLOB_UNKNOWN");
    assert_eq!(asked[..2], lost_once[..2], "one manifest is asked for, once");
    assert_eq!(asked[2..], lost_once[..1]);
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_no_manifest_names_is_asked_for_once() {
    let (hub, blob) = (ScriptedRegistry::new(), Blob::random(1, 10));
    hub.put_image(REPOSITORY, "latest", &Image::random(2, &[10]));
    let proxy = Proxy::before(&hub).await;
    proxy.get(LATEST).await.assert_status(200);
    hub.forget();

    assert_eq!(proxy.get(&blob.path(REPOSITORY)).await.error(404).0, "BLOB_UNKNOWN");

    assert_eq!(hub.asked().len(), 1);
}
