//! Parts of a blob, while the cache lacks it and when it has it: by curl, and by containerd.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::support::client::Client as _;
use crate::support::curl::Curl;
use crate::support::hash;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::one_shot::{self, OneShot};
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::requires;
use crate::support::way::{Door, Wanted};
use crate::support::work::Work;

#[test]
fn single_suffix_and_open_ranges_are_the_files_bytes_cold() {
    let test = requires!(DISTRIBUTION);
    let image = Image::debian();
    let work = Work::new(test);
    let upstream = Registry::start(&work, &Guard::Open);
    let layer = &image.layers[0];
    let want = fs::read(Image::blob_file(layer)).expect("the upstream keeps the layer");

    for range in ranges(want.len()) {
        let larder = Larder::mirror(&work, &upstream.url(), "");
        let url = larder.url(&format!("{}/blobs/{layer}", image.repository));
        is_that_part(&work.data().join("part"), &url, &range, &want);
    }
}

#[test]
fn single_suffix_and_open_ranges_are_the_files_bytes_warm() {
    let test = requires!(DISTRIBUTION);
    let image = Image::debian();
    let work = Work::new(test);
    let mut upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let layer = &image.layers[0];
    let want = fs::read(Image::blob_file(layer)).expect("the upstream keeps the layer");
    let url = larder.url(&format!("{}/blobs/{layer}", image.repository));

    let whole = work.data().join("whole");
    let reply = Curl::get(&url).to(&whole).send();
    assert_eq!((reply.status, hash::of_file(&whole)), (200, layer.clone()), "{reply:?}");
    upstream.stop();

    for range in ranges(want.len()) {
        let reply = is_that_part(&work.data().join("part"), &url, &range, &want);
        assert!(reply.contains("hit"), "{reply}");
    }
    let beyond = Curl::get(&url).range(&format!("{}-", want.len())).send();
    assert_eq!(beyond.status, 416, "{beyond:?}");
    assert_eq!(beyond.header("content-range"), format!("bytes */{}", want.len()));
}

/// Today's containerd asks for a layer from many places at once, each time to the end, and hangs up
/// when it has its part.
#[test]
fn a_layer_in_parallel_ranges_costs_the_upstream_little_more_than_its_length() {
    let work = Work::new(requires!(&["containerd-pull"], DISTRIBUTION));
    let image = Image::medium();
    let mut upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let client = OneShot::new(&work, one_shot::containerd_pull_wide);
    let (way, wanted) = (larder.by(Door::Ns), Wanted::by_tag(&image));
    let layer = &image.layers[0];
    let len = fs::metadata(Image::blob_file(layer)).expect("the upstream keeps the layer").len();
    upstream.forget();

    client.pull(&way, &wanted).expect("a cold pull succeeds");
    let asked = upstream.requests();
    let of_layer = asked.iter().filter(|request| request.path.contains(layer));
    let sent: u64 = of_layer.map(|request| request.bytes).sum();
    println!("the upstream sent {sent} bytes of a layer of {len}");
    assert!((len..=len + len / 10).contains(&sent), "{sent} bytes of {len}: {asked:#?}");
    assert_eq!(larder.verified_blobs().len(), 4, "index, manifest, configuration, layer");
    let log = larder.log();
    let parts = log.lines().filter(|line| line.contains(layer) && line.contains("status=206"));
    assert!(parts.count() > 8, "it did ask for ranges:\n{log}");

    upstream.stop();
    client.pull(&way, &wanted).expect("a warm pull succeeds while the upstream is down");
}

/// SOCI's parallel pull: ranges of 8 MB, ten at once, the next when one is done.
#[test]
fn a_layer_in_bounded_parallel_ranges_costs_the_upstream_its_length() {
    const CHUNK: usize = 8_000_000;
    let work = Work::new(requires!(DISTRIBUTION));
    let image = Image::medium();
    let mut upstream = Registry::start(&work, &Guard::Open);
    let layer = &image.layers[0];
    let want = fs::read(Image::blob_file(layer)).expect("the upstream keeps the layer");

    for keys in ["", "fill_on_range = false"] {
        let larder = Larder::mirror(&work, &upstream.url(), keys);
        let url = larder.url(&format!("{}/blobs/{layer}", image.repository));
        upstream.forget();
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    loop {
                        let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                        if first >= want.len() {
                            break;
                        }
                        let end = want.len().min(first + CHUNK);
                        let text = format!("{first}-{}", end - 1);
                        let file = work.data().join(format!("part-{first}"));
                        is_that_part(&file, &url, &Part { text, first, end }, &want);
                        fs::remove_file(file).expect("curl wrote it");
                    }
                });
            }
        });
        let asked = upstream.requests();
        let gets = asked.iter().filter(|it| it.path.contains(layer) && it.method == "GET");
        let sent: u64 = gets.map(|request| request.bytes).sum();
        let len = want.len() as u64;
        println!("{keys}: the upstream sent {sent} bytes of a layer of {len}");
        // On a busy machine ten curls may not start within the 200 ms that the first one waits.
        assert!((len..=len + len / 6).contains(&sent), "{keys}: {asked:#?}");
    }
}

/// The ranges that a stargz snapshotter reads of a layer before it mounts it.
#[test]
fn a_footer_comes_before_the_layer() {
    let work = Work::new(requires!(DISTRIBUTION));
    let image = Image::medium();
    let mut upstream = Registry::start(&work, &Guard::Open);
    let layer = &image.layers[0];
    let want = fs::read(Image::blob_file(layer)).expect("the upstream keeps the layer");
    let larder = Larder::mirror(&work, &upstream.url(), "fill_on_range = false");
    let url = larder.url(&format!("{}/blobs/{layer}", image.repository));
    upstream.forget();

    let (first, end) = (want.len() - 51, want.len());
    let part = Part { text: format!("{first}-{}", end - 1), first, end };
    let status = is_that_part(&work.data().join("part"), &url, &part, &want);

    assert!(status.contains("unverified"), "{status}");
    let asked = upstream.requests();
    let gets: Vec<_> = asked.iter().filter(|request| request.method == "GET").collect();
    assert!(matches!(&gets[..], [one] if one.bytes == 51), "{asked:#?}");
}

/// A range as curl writes it, with the first byte and the one after the last.
struct Part {
    text: String,
    first: usize,
    end: usize,
}

fn ranges(len: usize) -> [Part; 5] {
    let middle = len / 2;
    [
        Part { text: "0-0".into(), first: 0, end: 1 },
        Part { text: "500-1499".into(), first: 500, end: 1500 },
        Part { text: "-500".into(), first: len - 500, end: len },
        Part { text: format!("{middle}-"), first: middle, end: len },
        Part { text: format!("{}-{}", len - 10, len + 10), first: len - 10, end: len },
    ]
}

/// Fetches it and compares; what `Cache-Status` said.
fn is_that_part(into: &Path, url: &str, part: &Part, want: &[u8]) -> String {
    let Part { text, first, end } = part;
    let reply = Curl::get(url).range(text).to(into).send();
    let got = fs::read(into).expect("curl wrote the body");

    assert_eq!((reply.status, reply.trouble.as_str()), (206, ""), "{text}: {reply:?}");
    let content_range = format!("bytes {first}-{}/{}", end - 1, want.len());
    assert_eq!(reply.header("content-range"), content_range, "{reply:?}");
    assert_eq!(reply.header("content-length"), (end - first).to_string(), "{reply:?}");
    assert!(got == want[*first..*end], "{text}: {} bytes differ: {reply:?}", got.len());
    reply.cache_status()
}
