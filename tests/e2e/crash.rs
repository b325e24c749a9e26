//! SIGKILL in the middle of a fill: nothing wrong is left, and nothing is fetched twice.

use std::fs;
use std::time::Duration;

use crate::support::curl::Curl;
use crate::support::hash;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::requires;
use crate::support::wait;
use crate::support::work::Work;

#[test]
fn a_fill_goes_on_from_where_sigkill_met_it() {
    let test = requires!(DISTRIBUTION);
    let image = Image::large();
    let work = Work::new(test);
    let mut upstream = Registry::start(&work, &Guard::Open);
    let layer = &image.layers[0];
    let size = fs::metadata(Image::blob_file(layer)).expect("the upstream keeps it").len();
    let path = format!("{}/blobs/{layer}", image.repository);
    let mut larder = Larder::mirror(&work, &upstream.url(), "");

    let reached = killed_in_the_middle(&mut larder, &path, size);
    assert_eq!(larder.verified_blobs().len(), 0, "nothing was verified yet");
    upstream.forget();

    larder.start();
    let whole = work.data().join("whole");
    let reply = Curl::get(&larder.url(&path)).to(&whole).send();
    assert_eq!((reply.status, hash::of_file(&whole)), (200, layer.clone()), "{reply:?}");
    assert_eq!(larder.verified_blobs().len(), 1, "the layer, and it is what its name says");

    let asked = upstream.requests();
    let of_layer: Vec<_> =
        asked.iter().filter(|request| request.path.contains(layer) && request.bytes > 0).collect();
    println!("killed at {reached} of {size} bytes; then asked: {of_layer:#?}");
    assert!(of_layer.iter().all(|request| request.status == 206), "{asked:#?}");
    let fetched: u64 = of_layer.iter().map(|request| request.bytes).sum();
    assert!((1..=size - ENOUGH).contains(&fetched), "{fetched} bytes again of {size}");
}

/// Kills Larder when a good part of the layer is on disk; how much that was.
fn killed_in_the_middle(larder: &mut Larder, path: &str, size: u64) -> u64 {
    let url = larder.url(path);
    std::thread::scope(|scope| {
        // A slow client: the fill has to go on at its own speed.
        scope.spawn(move || Curl::get(&url).arg("--limit-rate").arg("8M").send());
        let reached = || larder.fills().iter().map(|(_, len)| *len).find(|len| *len > ENOUGH);
        wait::until("a part of the layer is on disk", Duration::from_secs(60), reached);
        larder.kill();
    });
    let fills = larder.fills();
    let reached = fills.iter().map(|(_, len)| *len).max();
    let reached = reached.expect("the fill was not over when SIGKILL came");
    assert!(reached < size, "{fills:?}");
    reached
}

/// 32 MiB of the 1 GiB may have been in flight; at least this much is on disk.
const ENOUGH: u64 = 64 << 20;
