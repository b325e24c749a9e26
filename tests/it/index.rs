//! The index of the program itself: lost, damaged, hanging. It serves all the same, and the index
//! is whole again afterwards.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use larder::oci::{Algorithm, Digest};
use larder::store::{index_rows, index_rows_of_files};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::support::{Image, Process, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

/// Logged when a comparison of the index with the files is done.
const COMPARED: &str = "index compared with the files";

/// Damage that can happen to an index while no process uses it.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    /// `rm -rf index/`
    Removed,
    /// The data file has lost its second half.
    Truncated,
    /// 4 KiB of the data file are noise, at so many parts of a hundred. sled may read on, fail,
    /// panic or never return.
    Garbled(u64),
}

const DAMAGES: [Damage; 6] = [
    Damage::None,
    Damage::Removed,
    Damage::Truncated,
    Damage::Garbled(25),
    Damage::Garbled(50),
    Damage::Garbled(75),
];

/// A cache that has an image and some thousand blobs more, and who serves it.
struct Lab {
    hub: ScriptedRegistry,
    image: Image,
    larder: Process,
    /// The cache directory.
    dir: TempDir,
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        lay_out(&dir.path().join("cache"), 1000);
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[10_000, 20_000]);
        hub.put_image(REPOSITORY, "latest", &image);
        let larder = Process::with_cache_in(&dir.path().join("cache"), hub.listen().await).await;
        let this = Self { hub, image, larder, dir };
        this.pull().await;
        this
    }

    async fn pull(&self) {
        self.larder.client().get(LATEST).await.assert_is(&self.image.manifest.blob);
        for layer in self.image.blobs() {
            self.larder.client().get(&layer.path(REPOSITORY)).await.assert_is(layer);
        }
    }

    /// How often the index was compared with the files.
    fn compared(&self) -> usize {
        self.larder.log().matches(COMPARED).count()
    }

    async fn until_compared(&self, times: usize) {
        let is_so = |larder: &Process| larder.log().matches(COMPARED).count() >= times;
        self.larder.until(is_so, "the index is not compared with the files").await;
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("cache/index")
    }

    /// Fails unless the index of the stopped program is what one made from the files is.
    fn assert_index_is_whole(&self, case: &str) {
        let (copy, scratch) = (self.dir.path().join("copy"), self.dir.path().join("scratch"));
        copy_files(&self.index().join("db"), &copy);
        let want = index_rows_of_files(&self.dir.path().join("cache"), &scratch).unwrap();
        let rows = index_rows(&copy).unwrap();
        assert!(rows == want, "{case}: {:?} rather than {:?}", rows.last(), want.last());
        assert!(want.len() > 1000, "{case}: {:?}", want.last());
        for dir in [copy, scratch] {
            fs::remove_dir_all(dir).unwrap();
        }
    }
}

/// Sparse files that look like blobs.
fn lay_out(cache: &Path, count: u64) {
    for number in 0..count {
        let digest = Digest::of(Algorithm::Sha256, &number.to_le_bytes());
        let dir = cache.join("blobs/sha256").join(&digest.hex()[..2]);
        fs::create_dir_all(&dir).unwrap();
        fs::File::create(dir.join(digest.hex())).unwrap().set_len(number).unwrap();
    }
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn damage(index: &Path, damage: Damage) {
    let data = index.join("db/db");
    let open = || fs::OpenOptions::new().write(true).open(&data).unwrap();
    let len = fs::metadata(&data).unwrap().len();
    match damage {
        Damage::None => {}
        Damage::Removed => fs::remove_dir_all(index).unwrap(),
        Damage::Truncated => open().set_len(len / 2).unwrap(),
        Damage::Garbled(part) => {
            let mut noise = [0; 4096];
            fastrand::Rng::with_seed(part).fill(&mut noise);
            open().write_all_at(&noise, len * part / 100).unwrap();
        }
    }
}

/// Whatever became of it, and however the last process ended.
#[tokio::test]
async fn a_lost_or_damaged_index_is_made_anew_while_serving() {
    let mut lab = Lab::new().await;
    lab.until_compared(1).await;
    for case in DAMAGES {
        for is_killed in [true, false] {
            let case = (case, is_killed);
            if is_killed {
                lab.larder.kill();
            } else {
                assert!(lab.larder.terminate().await.success(), "{case:?}");
                lab.assert_index_is_whole(&format!("before {case:?}"));
            }
            damage(&lab.index(), case.0);
            lab.hub.forget();
            let compared = lab.compared();

            lab.larder.start_again().await;
            lab.pull().await;

            lab.hub.assert_not_asked();
            // An index that was closed in order, and is unchanged, needs no comparison.
            let is_needed = is_killed || !matches!(case.0, Damage::None);
            if is_needed {
                lab.until_compared(compared + 1).await;
            }
            assert!(lab.larder.terminate().await.success(), "{case:?}");
            lab.assert_index_is_whole(&format!("after {case:?}"));
            lab.larder.start_again().await;
        }
    }
    let bad = fs::read_dir(lab.index()).unwrap().map(|entry| entry.unwrap().file_name());
    let bad: Vec<_> = bad.filter(|name| name.to_string_lossy().contains("bad")).collect();
    assert!(bad.len() <= 1, "one is kept to be looked at: {bad:?}");
}

/// A start does not wait for a check that never ends. This one reads from a pipe without a writer;
/// a damaged database reads in circles.
#[tokio::test]
async fn clients_are_served_while_a_check_hangs() {
    let mut lab = Lab::new().await;
    lab.until_compared(1).await;
    lab.larder.kill();
    let conf = lab.index().join("db/conf");
    fs::remove_file(&conf).unwrap();
    mknodat(CWD, &conf, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let before = lab.larder.log().len();

    lab.larder.start_again().await;
    lab.pull().await;

    lab.until_compared(2).await;
    let log = lab.larder.log().split_off(before);
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{log}"));
    let (served, given_up) = (at("/v2/library/alpine"), at("the check took longer"));
    assert!(served < given_up, "{log}");
}
