//! A disk that is too small for what is pulled: the pull goes on, past the cache.

use std::path::{Path, PathBuf};

use crate::support::curl::Curl;
use crate::support::hash;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::registry::{Guard, Registry};
use crate::support::skopeo::Skopeo;
use crate::support::tools::{self, requires};
use crate::support::work::Work;

#[test]
fn a_layer_of_100_mib_passes_a_cache_of_32_mib() {
    let test = requires!("root", "mount", "skopeo", "docker-registry", "curl");
    let image = Image::medium();
    let work = Work::new(test);
    let disk = Tmpfs::mount(&work, "32m");
    let upstream = Registry::start(&work, &Guard::Open);
    // So that the disk itself is what is too small, not the reserve that is kept free by default.
    let larder = Larder::with_cache(&work, &disk.dir, "min_free = \"1MiB\"", &upstream.url(), "");
    let layer = &image.layers[0];

    let whole = work.data().join("whole");
    let url = larder.url(&format!("{}/blobs/{layer}", image.repository));
    let reply = Curl::get(&url).to(&whole).send();
    assert_eq!((reply.status, hash::of_file(&whole)), (200, layer.clone()), "{reply:?}");
    assert!(reply.cache_status().contains("bypass"), "{reply:?}");

    let skopeo = Skopeo::new(&work, &format!("{}/docker.io", larder.address()));
    skopeo.pull(&image).expect("a pull succeeds on a disk that is too small");
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
