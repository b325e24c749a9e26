//! Manifests: verbatim when they are right, 502 when they cannot be, and never kept then.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::image::{DOCKER_IMAGE, OCI_IMAGE, OCI_INDEX, SCHEMA_1};
use crate::support::{Blob, Fault, Image, Manifest, Place, Proxy, ScriptedRegistry, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

/// The largest manifest that is taken.
const LEN_MAX: usize = 4 << 20;

async fn serving(manifest: &Manifest) -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.put_tagged(REPOSITORY, "latest", manifest);
    let proxy = Proxy::before(&hub).await;
    (hub, proxy)
}

/// Fails unless this manifest is refused by tag and by digest, and nothing of it is kept.
async fn assert_refused(manifest: &Manifest, case: &str) {
    for path in [LATEST.to_owned(), manifest.path(REPOSITORY)] {
        let (_hub, proxy) = serving(manifest).await;

        let (_, message) = proxy.get(&path).await.error(502);

        assert!(message.contains("docker.io"), "{case}: names the upstream: {message}");
        assert_eq!(proxy.stored(), [""; 0], "{case}");
        proxy.get(&path).await.error(502);
    }
}

/// JSON of exactly this length.
fn padded(len: usize) -> Vec<u8> {
    let frame = format!(r#"{{"mediaType":"{OCI_IMAGE}","layers":[],"pad":""}}"#);
    frame.replace(r#""pad":"""#, &format!(r#""pad":"{}""#, "x".repeat(len - frame.len()))).into()
}

/// A digest is over bytes: one space less and every client refuses the image.
#[tokio::test(start_paused = true)]
async fn a_manifest_is_served_as_it_came() {
    let odd = format!(
        "\r\n{{ \"mediaType\" :\t\"{OCI_IMAGE}\",\"layers\":[ ],\"layers\":[],\
         \"annotations\":{{\"a\":\"\\u003cscript\\u003e é \\u00e9\"}} , \"n\":1.0e2}} \n\n"
    );
    let manifest = Manifest::raw(OCI_IMAGE, odd);
    let (hub, proxy) = serving(&manifest).await;

    for case in ["cold", "warm", "after a restart"] {
        for path in [LATEST, &manifest.path(REPOSITORY)] {
            let reply = proxy.get(path).await;
            reply.assert_is(&manifest.blob);
            assert_eq!(reply.header("content-type"), Some(OCI_IMAGE), "{case}");
            assert!(!reply.headers.contains_key("content-encoding"), "{case}");
        }
        if case == "warm" {
            proxy.restart().await;
        }
    }
    assert_eq!(hub.gets("/manifests/").len(), 1);
}

/// 4 MiB is what registries must take and clients read; more is an attack or a mistake.
#[tokio::test(start_paused = true)]
async fn a_manifest_of_4_mib_is_the_largest_that_is_taken() {
    let largest = Manifest::raw(OCI_IMAGE, padded(LEN_MAX));
    let (_hub, proxy) = serving(&largest).await;
    proxy.get(LATEST).await.assert_is(&largest.blob);

    let larger = Manifest::raw(OCI_IMAGE, padded(LEN_MAX + 1));
    assert_refused(&larger, "4 MiB and a byte").await;
    for framing in [Fault::Chunked, Fault::CloseDelimited] {
        let (hub, proxy) = serving(&larger).await;
        hub.breaks(When::asked("/manifests/").get(), framing.clone());

        proxy.get(&larger.path(REPOSITORY)).await.error(502);

        assert_eq!(proxy.stored(), [""; 0], "{framing:?}");
    }
}

/// Two readers of one manifest must not see two images (CVE-2021-41190).
#[tokio::test(start_paused = true)]
async fn a_manifest_that_can_be_read_in_two_ways_is_refused() {
    let both = r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#;
    for media_type in [OCI_IMAGE, OCI_INDEX, "application/json"] {
        assert_refused(&Manifest::raw(media_type, both), media_type).await;
    }
    let body = format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
    for media_type in [OCI_IMAGE, DOCKER_IMAGE] {
        assert_refused(&Manifest::raw(media_type, body.clone()), media_type).await;
    }
}

/// A body that is no JSON object is no manifest, whatever its digest.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_manifest_is_refused() {
    let mut deep = "[".repeat(100_000);
    write!(deep, "{}", "]".repeat(100_000)).unwrap();
    for body in ["[]", "null", "1", "\"\"", "", "{", "<html>", "{} {}", &deep] {
        assert_refused(&Manifest::raw(OCI_IMAGE, body.to_owned()), &format!("{body:.20}")).await;
    }
}

/// Object stores and simple servers say `application/json`; the body knows better.
#[tokio::test(start_paused = true)]
async fn a_generic_content_type_gives_way_to_the_bodys() {
    let generic =
        ["application/json", "application/octet-stream", "text/plain", "Text/Plain; charset=utf-8"];
    for content_type in generic {
        let body = format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        let manifest = Manifest::raw(content_type, body);
        let (_hub, proxy) = serving(&manifest).await;

        for _ in ["cold", "warm"] {
            let reply = proxy.get(LATEST).await;
            reply.assert_is(&manifest.blob);
            assert_eq!(reply.header("content-type"), Some(OCI_INDEX), "{content_type}");
            assert_eq!(proxy.head(LATEST).await.header("content-type"), Some(OCI_INDEX));
        }
        proxy.restart().await;
        let reply = proxy.get(&manifest.path(REPOSITORY)).await;
        assert_eq!(reply.header("content-type"), Some(OCI_INDEX), "{content_type}");
    }
}

/// Types are the same whatever their case and parameters; and a body may say nothing of it.
#[tokio::test(start_paused = true)]
async fn a_content_type_is_kept_when_the_body_does_not_contradict() {
    let same = format!(r#"{{"mediaType":"{OCI_IMAGE}","layers":[]}}"#);
    let silent = r#"{"schemaVersion":2,"layers":[]}"#.to_owned();
    let adorned = format!("{}; charset=utf-8", OCI_IMAGE.to_uppercase());
    for (content_type, body) in [(adorned.as_str(), same), (OCI_IMAGE, silent)] {
        let manifest = Manifest::raw(content_type, body);
        let (_hub, proxy) = serving(&manifest).await;
        proxy.get(LATEST).await.assert_is(&manifest.blob);
        proxy.restart().await;

        let reply = proxy.get(&manifest.path(REPOSITORY)).await;

        let seen = reply.header("content-type").unwrap().to_ascii_lowercase();
        assert!(seen.starts_with(OCI_IMAGE), "{content_type}: {seen}");
    }
}

/// Schema 1 is signed inside: its digest is not over its body, so it cannot be checked or kept.
#[tokio::test(start_paused = true)]
async fn schema_1_is_passed_on_and_not_kept() {
    let signed = r#"{"schemaVersion":1,"signatures":[]}"#;
    let manifest = Manifest::raw(SCHEMA_1, signed);
    let (hub, proxy) = serving(&manifest).await;
    let payload = Blob::new("the payload without its signatures");
    let claim = Fault::WrongDigestHeader(payload.digest.to_string());
    hub.breaks(When::asked("/manifests/"), claim);
    // Asked for by the digest of the payload, the registry gives the same body.
    let by_payload = Manifest { blob: payload.clone(), ..manifest.clone() };
    hub.put_manifest(REPOSITORY, &Manifest { blob: payload, ..manifest.clone() });
    hub.breaks(
        When::asked(by_payload.digest()),
        Fault::Status(200, vec![("Content-Type", SCHEMA_1.to_owned())], signed),
    );

    for _ in 0..2 {
        let before = hub.asked().len();
        let reply = proxy.get_with(LATEST, &[("accept", SCHEMA_1), ("accept", "*/*")]).await;

        reply.assert_is(&manifest.blob);
        assert_eq!(reply.header("content-type"), Some(SCHEMA_1));
        assert!(reply.decision().is_bypass(), "{:?}", reply.decision());
        assert!(hub.asked().len() > before, "asked again each time");
    }
    assert_eq!(proxy.stored(), [""; 0]);
}

/// Wrong bytes of a manifest are small enough to be found out before the first leaves.
#[tokio::test(start_paused = true)]
async fn wrong_bytes_of_a_manifest_are_an_error_and_not_kept() {
    let faults = [
        Fault::FlipByte(Place::First),
        Fault::FlipByte(Place::Middle),
        Fault::FlipByte(Place::Last),
        Fault::TooShort(1),
        Fault::TooLong(1),
        Fault::Truncated(1),
        Fault::Html200,
    ];
    for fault in faults {
        let (hub, proxy) = serving(&Image::random(1, &[]).manifest).await;
        for (seed, framing) in (2..).zip([None, Some(Fault::Chunked), Some(Fault::CloseDelimited)])
        {
            let case = format!("{fault:?} {framing:?}");
            let (image, tag) = (Image::random(seed, &[]), format!("v{seed}"));
            hub.put_image(REPOSITORY, &tag, &image);
            let by_tag = format!("/v2/{REPOSITORY}/manifests/{tag}");
            hub.breaks(When::asked("/manifests/").get(), fault.clone());
            if let Some(framing) = &framing {
                hub.breaks(When::asked("/manifests/").get(), framing.clone());
            }

            for path in [&by_tag, &image.manifest.path(REPOSITORY)] {
                let status = proxy.get(path).await.status.as_u16();
                assert!(matches!(status, 502 | 504), "{case} {path}: {status}");
            }
            assert!(!proxy.has_stored(image.manifest.digest()), "{case}");
            hub.heal();
            for path in [&by_tag, &image.manifest.path(REPOSITORY)] {
                proxy.get(path).await.assert_is(&image.manifest.blob);
            }
        }
    }
}

/// A HEAD may be of yesterday: the record must name what was really got.
#[tokio::test(start_paused = true)]
async fn a_tag_is_recorded_as_what_came_not_as_what_was_announced() {
    let image = Image::random(1, &[]);
    let (hub, proxy) = serving(&image.manifest).await;
    let announced = Blob::random(9, 10);
    let lie = Fault::WrongDigestHeader(announced.digest.to_string());
    hub.breaks(When::asked("manifests/latest").head(), lie);

    let reply = proxy.get(LATEST).await;

    if reply.status == 200 {
        reply.assert_is(&image.manifest.blob);
        assert_eq!(reply.header("docker-content-digest"), Some(image.manifest.digest().as_str()));
    } else {
        reply.error(reply.status.as_u16());
    }
    hub.heal();
    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    assert!(proxy.stored().iter().all(|stored| stored == image.manifest.digest().as_str()));
}

/// The file has the stamp of a verification, and still another length: bytes were lost, or added,
/// behind the back of the file system.
#[tokio::test(start_paused = true)]
async fn a_stored_file_whose_length_contradicts_the_manifest_is_not_served_as_whole() {
    for len in [5000, (2 << 20) + 777] {
        for other in [0, len - 1, len + 1] {
            let hub = ScriptedRegistry::new();
            let image = Image::random(1, &[len]);
            hub.put_image(REPOSITORY, "latest", &image);
            let proxy = Proxy::before(&hub).await;
            proxy.pull(REPOSITORY, "latest", &image).await;
            let layer = &image.layers[0];
            proxy.until_filled(&layer.digest).await;
            hub.forget();
            let path = proxy.blob_file(&layer.digest);
            let verified_at = fs::metadata(&path).unwrap().modified().unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(other as u64).unwrap();
            file.set_modified(verified_at).unwrap();

            let head = proxy.head(&layer.path(REPOSITORY)).await;
            let reply = proxy.get(&layer.path(REPOSITORY)).await;

            let length = head.header("content-length").map(str::to_owned);
            assert_eq!(length, Some(len.to_string()), "{len} as {other}");
            reply.assert_is(layer);
            assert_eq!(hub.gets(&layer.digest).len(), 1, "{len} as {other}: fetched anew");
            proxy.until_stored(&layer.digest).await;
            proxy.get(&layer.path(REPOSITORY)).await.assert_is(layer);
            assert_eq!(hub.gets(&layer.digest).len(), 1, "{len} as {other}: once");
        }
    }
}
