//! An upstream that limits: one refusal in the middle of a cold pull ends no client's pull.

use std::fs;
use std::sync::{Arc, Mutex};

use crate::lookalikes::wire::{self, VendorReply, VendorRequest};
use crate::support::client::{BUILDKIT, KINDS, Kind};
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::registry::DISTRIBUTION;
use crate::support::tools::present;
use crate::support::way::{Door, Wanted};
use crate::support::work::Work;

/// The refusals of the upstream, once each, for one layer.
const REFUSALS: [(u16, Option<&str>); 4] =
    [(429, None), (429, Some("1")), (503, Some("1")), (429, Some("2"))];

#[test]
fn dockerd_pulls_cold_though_a_layer_is_refused_once() {
    pulls_though_a_layer_is_refused_once("dockerd");
}

#[test]
fn containerd_pulls_cold_though_a_layer_is_refused_once() {
    pulls_though_a_layer_is_refused_once("containerd");
}

#[test]
fn containerd_pull_pulls_cold_though_a_layer_is_refused_once() {
    pulls_though_a_layer_is_refused_once("containerd-pull");
}

#[test]
fn newest_containerd_pulls_cold_though_a_layer_is_refused_once() {
    pulls_though_a_layer_is_refused_once("newest-containerd");
}

#[test]
fn buildkit_pulls_cold_though_a_layer_is_refused_once() {
    pulls_though_a_layer_is_refused_once("buildkit");
}

#[test]
fn podman_pulls_cold_though_a_layer_is_refused_once() {
    pulls_though_a_layer_is_refused_once("podman");
}

#[test]
fn skopeo_pulls_cold_though_a_layer_is_refused_once() {
    pulls_though_a_layer_is_refused_once("skopeo");
}

fn pulls_though_a_layer_is_refused_once(name: &str) {
    let mut kinds = KINDS.into_iter().chain([BUILDKIT]);
    let kind = kinds.find(|kind| kind.name == name).expect("it is in the table");
    let test = format!("{}_pulls_cold_though_a_layer_is_refused_once", name.replace('-', "_"));
    if !present(&test, &[kind.tools, DISTRIBUTION]) {
        return;
    }
    let work = Work::new(&test);
    let [image, _] = Image::small();
    for (status, retry_after) in REFUSALS {
        let case = format!("{name}, {status} with {retry_after:?}");
        let asked = cold_pull(&work, kind, &image, status, retry_after)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let times = |digest: &str| asked.iter().filter(|path| path.ends_with(digest)).count();
        for digest in image.blobs() {
            let expected = if *digest == image.layers[0] { 2 } else { 1 };
            assert_eq!(times(digest), expected, "{case}: {digest}: {asked:#?}");
        }
    }
    println!("client: {name}: {}; one layer refused once", kind.version());
}

/// The paths of the GETs that the upstream was asked.
fn cold_pull(
    work: &Work,
    kind: &Kind,
    image: &Image,
    status: u16,
    retry_after: Option<&'static str>,
) -> Result<Vec<String>, String> {
    let asked = Arc::new(Mutex::new(Vec::<String>::new()));
    let (log, content) = (Arc::clone(&asked), image.clone());
    let port = wire::serve(move |request, _| {
        let is_get = request.method == "GET";
        let mut log = log.lock().expect("no handler panics");
        let is_first = is_get && !log.contains(&request.path);
        if is_get {
            log.push(request.path.clone());
        }
        if is_first && request.path.ends_with(&content.layers[0]) {
            let refusal = VendorReply::error(status, "TOOMANYREQUESTS");
            return match retry_after {
                Some(after) => refusal.with("Retry-After", after),
                None => refusal,
            };
        }
        answer(request, &content)
    });
    let larder = Larder::mirror(work, &format!("http://127.0.0.1:{port}"), "");
    let way = larder.by(Door::Mirror);
    (kind.start)(work, &way).pull(&way, &Wanted::by_tag(image))?;
    let asked = asked.lock().expect("no handler panics");
    Ok(asked.clone())
}

/// The answer of distribution, from its own storage.
fn answer(request: &VendorRequest, image: &Image) -> VendorReply {
    if request.path == "/v2/" {
        return VendorReply::new(200, "application/json", "{}");
    }
    let reference = request.path.rsplit('/').next().unwrap_or_default();
    let digest = if reference == image.tag { &image.index } else { reference };
    let Ok(bytes) = fs::read(Image::blob_file(digest)) else {
        return VendorReply::error(404, "NOT_FOUND");
    };
    let is_manifest = request.path.contains("/manifests/");
    let manifest = is_manifest.then(|| serde_json::from_slice(&bytes).ok()).flatten();
    let media_type =
        manifest.as_ref().and_then(|text: &serde_json::Value| text["mediaType"].as_str());
    let media_type = media_type.unwrap_or("application/octet-stream").to_owned();
    VendorReply::new(200, &media_type, bytes).with("Docker-Content-Digest", digest)
}
