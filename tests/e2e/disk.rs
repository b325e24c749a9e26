//! A disk that is too small for what is pulled: the pull goes on, past the cache.

use std::path::{Path, PathBuf};

use crate::support::client::Client as _;
use crate::support::curl::Curl;
use crate::support::hash;
use crate::support::image::Image;
use crate::support::larder::Setup;
use crate::support::one_shot::{self, OneShot};
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{self, requires};
use crate::support::way::{Door, Wanted};
use crate::support::work::Work;

#[test]
fn a_layer_of_100_mib_passes_a_cache_of_32_mib() {
    let test = requires!(&["root", "mount", "skopeo"], DISTRIBUTION);
    let image = Image::medium();
    let work = Work::new(test);
    let disk = Tmpfs::mount(&work, "32m");
    let upstream = Registry::start(&work, &Guard::Open);
    // So that the disk itself is what is too small, not the reserve that is kept free by default.
    let url = upstream.url();
    let setup = Setup { cache: Some(&disk.dir), ..Setup::new(&work, &url) };
    let larder = Setup { cache_keys: "min_free = \"1MiB\"", ..setup }.start();
    let layer = &image.layers[0];

    let whole = work.data().join("whole");
    let url = larder.url(&format!("{}/blobs/{layer}", image.repository));
    let reply = Curl::get(&url).to(&whole).send();
    assert_eq!((reply.status, hash::of_file(&whole)), (200, layer.clone()), "{reply:?}");
    assert!(reply.cache_status().contains("bypass"), "{reply:?}");

    let skopeo = OneShot::new(&work, one_shot::skopeo);
    let (way, wanted) = (larder.by(Door::Prefix), Wanted::by_tag(&image));
    skopeo.pull(&way, &wanted).expect("a pull succeeds on a disk that is too small");
    let kept = larder.verified_blobs();
    assert_eq!(kept.len(), 3, "index, manifest and configuration fit: {kept:?}");
    let left: u64 = larder.fills().iter().map(|(_, len)| len).sum();
    assert_eq!(left, 0, "no space is held by what cannot be finished");
}

/// A file system of a given size, as long as it lives.
struct Tmpfs {
    dir: PathBuf,
}

impl Tmpfs {
    fn mount(work: &Work, size: &str) -> Self {
        let dir = work.dir("tmpfs");
        let mut mount = tools::command("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "larder-e2e"]).arg(&dir);
        tools::run(&mut mount).expect("root mounts a tmpfs");
        Self { dir }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.dir) {
            println!("{error}");
        }
    }
}

fn unmount(dir: &Path) -> Result<String, String> {
    // Lazily: the test's Larder may be on its way out still.
    tools::run(tools::command("umount").arg("--lazy").arg(dir))
}
