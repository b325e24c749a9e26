//! A layer of more than 1 GiB, whole, and how often the upstream is asked for it.

use crate::support::client::Client as _;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::one_shot::{self, OneShot};
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::requires;
use crate::support::way::{Door, Wanted};
use crate::support::work::Work;

#[test]
fn a_layer_over_one_gibibyte_comes_whole_cold_and_warm() {
    let work = Work::new(requires!(&["skopeo"], DISTRIBUTION));
    let image = Image::large();
    let mut upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let skopeo = OneShot::new(&work, one_shot::skopeo);
    let (way, wanted) = (larder.by(Door::Prefix), Wanted::by_tag(&image));
    upstream.forget();

    // A pull checks every digest.
    skopeo.pull(&way, &wanted).expect("a cold pull succeeds");
    let asked = upstream.requests();
    let times = asked.iter().filter(|request| request.path.contains(&image.layers[0])).count();
    assert_eq!(times, 1, "the layer is fetched once: {asked:#?}");

    upstream.stop();
    skopeo.pull(&way, &wanted).expect("a warm pull succeeds while the upstream is down");
    assert_eq!(larder.verified_blobs().len(), 4, "index, manifest, configuration, layer");
}
