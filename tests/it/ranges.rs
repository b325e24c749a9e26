//! Ranges and conditions, on a hit and on a miss alike.

use crate::support::{Blob, Image, Proxy, Reply, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";
pub const LEN: usize = 150_000;

/// The expected answer to a range.
pub enum Want {
    /// 206 with these bytes.
    Part(usize, usize),
    /// 416 with the total.
    Nothing,
    /// 200 with all bytes: the header means nothing here.
    Whole,
    /// 200 or 416: RFC 9110 lets a server ignore or refuse it, but nothing else.
    WholeOrNothing,
}

use Want::{Nothing, Part, Whole, WholeOrNothing};

/// With the rows of `tests/lists/hostile.tsv`.
pub fn table() -> Vec<(u16, String, Want)> {
    let last = LEN - 1;
    let rows = [
        (71, "bytes=0-0", Part(0, 0)),
        (0, "bytes=0-1", Part(0, 1)),
        (72, "bytes=0-", Part(0, last)),
        (0, "bytes=500-1499", Part(500, 1499)),
        (0, "bytes=140000-", Part(140_000, last)),
        (76, "bytes=149999-", Part(last, last)),
        (0, "bytes=149000-200000", Part(149_000, last)),
        (81, "bytes=0-18446744073709551615", Part(0, last)),
        (73, "bytes=-1", Part(last, last)),
        (0, "bytes=-500", Part(LEN - 500, last)),
        (0, "bytes=-150000", Part(0, last)),
        (0, "bytes=-999999", Part(0, last)),
        (75, "bytes=150000-", Nothing),
        (0, "bytes=150000-150001", Nothing),
        (0, "bytes=999999-1000000", Nothing),
        (77, "bytes=500-0", Nothing),
        (74, "bytes=-0", Nothing),
        (82, "bytes=18446744073709551616-", WholeOrNothing),
        (80, "bytes=abc", WholeOrNothing),
        (78, "bytes=", WholeOrNothing),
        (79, "bytes=-", WholeOrNothing),
        (0, "bytes 0-5", Whole),
        (86, "items=0-5", Whole),
        (0, "garbage", Whole),
        (0, "bytes=0x0-0x5", WholeOrNothing),
        (0, "bytes=0-\u{663}", WholeOrNothing),
    ];
    rows.into_iter().map(|(row, range, want)| (row, range.to_owned(), want)).collect()
}

#[track_caller]
pub fn assert_answers(reply: &Reply, want: &Want, blob: &Blob, case: &str) {
    let is_nothing = reply.status == 416;
    match want {
        Part(first, last) => {
            assert_eq!(reply.status, 206, "{case}: {}", reply.text());
            assert!(reply.is_complete(), "{case}");
            let content_range = format!("bytes {first}-{last}/{LEN}");
            assert_eq!(reply.header("content-range"), Some(content_range.as_str()), "{case}");
            assert!(reply.body == blob.bytes[*first..=*last], "{case}: other bytes");
            let length = (last - first + 1).to_string();
            assert_eq!(reply.header("content-length"), Some(length.as_str()), "{case}");
            let etag = format!("\"{}\"", blob.digest);
            assert_eq!(reply.header("etag"), Some(etag.as_str()), "{case}");
        }
        Nothing => assert!(is_nothing, "{case}: {} instead of 416", reply.status),
        Whole => reply.assert_is(blob),
        WholeOrNothing if !is_nothing => reply.assert_is(blob),
        WholeOrNothing => {}
    }
    if is_nothing {
        let total = format!("bytes */{LEN}");
        assert_eq!(reply.header("content-range"), Some(total.as_str()), "{case}");
    }
}

async fn mirrored() -> (ScriptedRegistry, Blob, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    (hub, blob, proxy)
}

/// Resuming clients and lazy pullers live on this; podman fails on a 200, containerd restarts.
#[tokio::test(start_paused = true)]
async fn a_range_of_a_stored_blob_is_exact() {
    let (hub, blob, proxy) = mirrored().await;
    let path = blob.path(REPOSITORY);
    proxy.get(&path).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    hub.forget();

    for (row, range, want) in table() {
        let reply = proxy.get_with(&path, &[("range", &range)]).await;

        assert_answers(&reply, &want, &blob, &format!("row {row}, {range:?} on a hit"));
        assert!(reply.decision().is_hit(), "{range:?}");
    }
    hub.assert_not_asked();
}

/// distribution answers every range of a cold blob with the whole: resumed pulls start again.
#[tokio::test(start_paused = true)]
async fn a_range_of_a_missing_blob_is_exact_too() {
    let (hub, _blob, proxy) = mirrored().await;
    for (seed, (row, range, want)) in (100..).zip(table()) {
        let blob = Blob::random(seed, LEN);
        hub.put_blob(REPOSITORY, &blob);
        let path = blob.path(REPOSITORY);

        let reply = proxy.get_with(&path, &[("range", &range)]).await;

        assert_answers(&reply, &want, &blob, &format!("row {row}, {range:?} on a miss"));
        assert!(!reply.decision().is_hit(), "{range:?}");
        proxy.get(&path).await.assert_is(&blob);
    }
}

/// A HEAD has no body to take a part of (RFC 9110, 14.2).
#[tokio::test(start_paused = true)]
async fn a_range_on_head_is_ignored() {
    let (_hub, blob, proxy) = mirrored().await;
    let path = blob.path(REPOSITORY);
    let range = [("range", "bytes=5-9")];

    for is_warm in [false, true] {
        let head = proxy.client.call(http::Method::HEAD, &path, &range).await;

        head.assert_status(200);
        assert_eq!(head.header("content-length"), Some("150000"), "warm: {is_warm}");
        assert!(!head.headers.contains_key("content-range"), "warm: {is_warm}");
        proxy.get(&path).await.assert_is(&blob);
        proxy.until_stored(&blob.digest).await;
    }
}

/// `If-Range` asks: a part if it is still this, else all of it.
#[tokio::test(start_paused = true)]
async fn if_range_gives_a_part_of_the_same_and_the_whole_of_another() {
    for is_warm in [false, true] {
        let (_hub, blob, proxy) = mirrored().await;
        let path = blob.path(REPOSITORY);
        let etag = format!("\"{}\"", blob.digest);
        let case = format!("warm: {is_warm}");
        if is_warm {
            proxy.get(&path).await.assert_is(&blob);
            proxy.until_stored(&blob.digest).await;
        }

        let same = [("range", "bytes=5-9"), ("if-range", etag.as_str())];
        let same = proxy.get_with(&path, &same).await;
        let other = [("range", "bytes=5-9"), ("if-range", "\"sha256:other\"")];
        let other = proxy.get_with(&path, &other).await;

        assert_answers(&same, &Part(5, 9), &blob, &case);
        other.assert_is(&blob);
    }
}

/// Content that the client has already need not be sent again.
#[tokio::test(start_paused = true)]
async fn if_none_match_saves_the_body() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    let layer = &image.layers[0];
    proxy.until_stored(&layer.digest).await;
    let things = [
        (layer.path(REPOSITORY), &layer.digest),
        (image.manifest.path(REPOSITORY), image.manifest.digest()),
        ("/v2/library/alpine/manifests/latest".to_owned(), image.manifest.digest()),
    ];

    for (path, digest) in things {
        let etag = format!("\"{digest}\"");
        let list = format!("\"other\", {etag}");
        for matching in [etag.as_str(), list.as_str(), "*"] {
            let reply = proxy.get_with(&path, &[("if-none-match", matching)]).await;

            reply.assert_status(304);
            assert!(reply.body.is_empty() && reply.is_complete(), "{path} {matching}");
            assert_eq!(reply.header("etag"), Some(etag.as_str()), "{path} {matching}");
        }
        let other = proxy.get_with(&path, &[("if-none-match", "\"other\"")]).await;
        other.assert_status(200);
        assert!(!other.body.is_empty(), "{path}");
    }
}

/// The empty layer is asked for often, and any range of nothing is unsatisfiable.
#[tokio::test(start_paused = true)]
async fn the_empty_blob_is_a_blob() {
    let hub = ScriptedRegistry::new();
    let empty = Blob::new("");
    hub.put_blob(REPOSITORY, &empty);
    let proxy = Proxy::before(&hub).await;
    let path = empty.path(REPOSITORY);

    for is_warm in [false, true] {
        let whole = proxy.get(&path).await;
        whole.assert_is(&empty);
        assert_eq!(whole.header("content-length"), Some("0"), "warm: {is_warm}");
        proxy.until_stored(&empty.digest).await;

        let part = proxy.get_with(&path, &[("range", "bytes=0-0")]).await;
        part.assert_status(416);
        assert_eq!(part.header("content-range"), Some("bytes */0"), "warm: {is_warm}");
        assert_eq!(proxy.head(&path).await.header("content-length"), Some("0"));
    }
}

/// Manifests are small and are read whole; a part of one would not match its digest.
#[tokio::test(start_paused = true)]
async fn a_range_on_a_manifest_is_ignored() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;

    for path in ["/v2/library/alpine/manifests/latest", &image.manifest.path(REPOSITORY)] {
        for _ in ["cold", "warm"] {
            let reply = proxy.get_with(path, &[("range", "bytes=0-4")]).await;
            reply.assert_is(&image.manifest.blob);
        }
    }
}

/// Rows 83 to 85, 87 and 88: what a cheap request may not cost, and what it may not mean.
#[tokio::test(start_paused = true)]
async fn a_range_in_an_odd_request_gives_right_bytes_or_none() {
    let (hub, blob, proxy) = mirrored().await;
    let path = blob.path(REPOSITORY);
    let many = format!("bytes={}", "0-,".repeat(1000));
    let more = format!("bytes={}", "0-0,".repeat(2000));
    for _ in ["cold", "warm"] {
        for (row, headers) in [
            // CVE-2017-7529: lengths whose sum wraps.
            (83, vec![("range", "bytes=-17208,-9223372036854758792")]),
            (84, vec![("range", many.as_str())]),
            (84, vec![("range", &more)]),
            (87, vec![("range", "bytes=0-9"), ("range", "bytes=5-15")]),
            (88, vec![("range", "bytes=0-9"), ("accept-encoding", "gzip")]),
        ] {
            let reply = proxy.get_with(&path, &headers).await;

            assert!(!reply.headers.contains_key("content-encoding"), "row {row}");
            match reply.status.as_u16() {
                200 => reply.assert_is(&blob),
                206 => assert!(row == 88 && reply.body == blob.bytes[..10], "row {row}"),
                status => assert!(matches!(status, 400 | 416), "row {row}: {status}"),
            }
        }
        let reply = proxy.get_with(&path, &[("range", "bytes=0-9,5-15")]).await;
        let parts: Vec<_> = reply.parts().into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(parts, [blob.bytes.slice(..10), blob.bytes.slice(5..16)], "row 85");
        proxy.until_stored(&blob.digest).await;
    }
    assert_eq!(hub.gets(&blob.digest).len(), 1);
}
