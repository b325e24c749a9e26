//! Which records go when there are too many: of the registries that have most of them, those that
//! were not used for longest.
//!
//! A record is a fact that can be asked again, so any of them may go. Only a log of members says
//! what its repository has no longer, whatever its manifests name: it goes with all of them.
//! The records of pinned images stay.
//!
//! A thread of its own counts the records, at first and then each hour, and removes some before
//! there are as many as there may be. Their times are read in one walk, and those that are old
//! enough removed in another, so that few bytes are held of each.

use std::cell::Cell;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::time::Instant;

use super::eviction::DiskBudget;
use super::index::IndexRow;
use super::record_share::{FULL_TENTHS, RecordShare};
use super::record_store::{MANIFESTS, MEMBERS, TAGS, VANISHED};
use super::space::SpacePart;
use crate::oci::Reference;

/// The thread.
#[derive(Debug)]
pub(super) struct RecordSweeper {
    thread: Option<Thread>,
}

impl RecordSweeper {
    /// Starts the thread. It ends with the store.
    pub(super) fn start(budget: &Arc<DiskBudget>) -> Self {
        let weak = Arc::downgrade(budget);
        let started = thread::Builder::new().name("sweeper".to_owned()).spawn(move || keep(&weak));
        let started = started.inspect_err(|error| {
            tracing::error!(%error, "cannot start the thread that removes old records");
        });
        Self { thread: started.ok().map(|handle| handle.thread().clone()) }
    }

    /// Has it look at the records at once.
    pub(super) fn wake(&self) {
        self.thread.iter().for_each(Thread::unpark);
    }
}

fn keep(budget: &Weak<DiskBudget>) {
    let mut in_vain: Option<Instant> = None;
    loop {
        let Some(running) = budget.upgrade().filter(|budget| !budget.is_stopping()) else { return };
        let walked_at = running.space().records_walked_at();
        if walked_at.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
            RecordCensus::take(&running, true);
        }
        // If all that is old is pinned, the next walk is for later.
        if in_vain.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
            let swept = sweep(&running);
            in_vain = swept.as_ref().is_ok_and(|helped| !helped).then(Instant::now);
            if let Err(error) = swept {
                tracing::warn!(%error, "cannot remove old records");
            }
        }
        drop(running);
        thread::park_timeout(ROUND_EVERY);
    }
}

/// Removes the oldest records if there are too many. Returns whether there are few enough then, or
/// at least fewer.
fn sweep(budget: &DiskBudget) -> io::Result<bool> {
    let most = budget.space().most_records()?;
    if !budget.space().records().exceeds(most.tenths(FULL_TENTHS)) {
        return Ok(true);
    }
    let census = RecordCensus::take(budget, false);
    let before = census.share();
    let wanted = most.tenths(SWEPT_TENTHS);
    if !before.exceeds(wanted) {
        return Ok(true);
    }
    let level = census.level(wanted);
    for (dir, registry) in census.registries {
        let less = registry.share - level;
        if less != RecordShare::default() {
            let sweep = RecordSweep { budget, less: Cell::new(less) };
            sweep.directory(&dir, registry.cutoff(less));
        }
    }
    let gone = before - budget.space().records();
    tracing::info!(
        removed = gone.files,
        bytes = gone.bytes,
        most = most.files,
        most_bytes = most.bytes,
        "removed the oldest records: there were too many"
    );
    Ok(gone.files > 0)
}

/// All records at one time, by the directory of their registry.
#[derive(Debug, Default)]
struct RecordCensus {
    registries: Vec<(PathBuf, RegistryCensus)>,
    /// The directory above them, and what is in it beside them.
    above: RecordShare,
}

/// The records of one registry.
#[derive(Debug, Default)]
struct RegistryCensus {
    share: RecordShare,
    ages: Vec<RecordAge>,
}

/// The last use of a record, in milliseconds since 1970, and the bytes that it takes.
#[derive(Clone, Copy, Debug)]
struct RecordAge {
    used: i64,
    bytes: u64,
}

impl RecordCensus {
    /// Counts the records. A slow count leaves half of one CPU and of the disk to others. A
    /// record that is made meanwhile may be counted twice, by the walk and by its writer, until the
    /// next count: that is at the latest when there seem to be too many.
    fn take(budget: &DiskBudget, is_slow: bool) -> Self {
        let before = budget.space().records();
        let mut census = Self::default();
        for (path, metadata) in entries(&budget.layout().registries()) {
            if metadata.is_dir() {
                let own = RecordShare { files: 1, bytes: metadata.blocks() * 512 };
                let registry = RegistryCensus { share: own, ages: Vec::new() };
                census.registries.push((path.clone(), registry.walked(budget, path, is_slow)));
            } else {
                let bytes = metadata.blocks() * 512;
                census.above = census.above + RecordShare { files: 1, bytes };
            }
        }
        budget.space().set_records(census.share(), before);
        census
    }

    fn share(&self) -> RecordShare {
        let shares = self.registries.iter().map(|(_, registry)| registry.share);
        shares.fold(self.above, |sum, share| sum + share)
    }

    /// The most of each registry at which all of them are no more than is `wanted`: those that have
    /// less keep it, whatever clients of another make up.
    fn level(&self, wanted: RecordShare) -> RecordShare {
        let wanted = wanted - self.above;
        let of = |number: fn(&RecordShare) -> u64| {
            let shares = self.registries.iter().map(|(_, registry)| number(&registry.share));
            level(shares.collect(), number(&wanted))
        };
        RecordShare { files: of(|share| share.files), bytes: of(|share| share.bytes) }
    }
}

/// The largest number to which each of `all` can be cut so that their sum is at most `wanted`.
fn level(mut all: Vec<u64>, wanted: u64) -> u64 {
    all.sort_unstable();
    let mut left = wanted;
    for (index, number) in all.iter().enumerate() {
        let fair = left / (all.len() - index) as u64;
        if *number > fair {
            return fair;
        }
        left -= number;
    }
    u64::MAX
}

impl RegistryCensus {
    fn walked(mut self, budget: &DiskBudget, dir: PathBuf, is_slow: bool) -> Self {
        let mut dirs = vec![dir];
        while let Some(dir) = dirs.pop().filter(|_| !budget.is_stopping()) {
            let begun = Instant::now();
            for (path, metadata) in entries(&dir) {
                let bytes = metadata.blocks() * 512;
                self.share = self.share + RecordShare { files: 1, bytes };
                if metadata.is_dir() {
                    dirs.push(path);
                } else {
                    self.ages.push(RecordAge { used: used(&metadata), bytes });
                }
            }
            if is_slow {
                thread::sleep(begun.elapsed());
            }
        }
        self
    }

    /// The last use up to which records have to go so that there is so much less of them.
    fn cutoff(mut self, less: RecordShare) -> i64 {
        self.ages.sort_unstable_by_key(|age| age.used);
        // Directories go with what is in them.
        let files = less.files * self.ages.len() as u64 / self.share.files.max(1);
        let mut gone = RecordShare::default();
        let mut cutoff = i64::MIN;
        for RecordAge { used, bytes } in self.ages {
            if gone.files >= files && gone.bytes >= less.bytes {
                break;
            }
            gone = gone + RecordShare { files: 1, bytes };
            cutoff = used;
        }
        cutoff
    }
}

/// The removal of records.
struct RecordSweep<'b> {
    budget: &'b DiskBudget,
    /// As many as still have to go.
    less: Cell<RecordShare>,
}

impl RecordSweep<'_> {
    /// Removes what was last used until `cutoff` in a directory, and the directory if it is empty.
    fn directory(&self, dir: &Path, cutoff: i64) {
        for (path, metadata) in entries(dir) {
            if metadata.is_dir() {
                self.directory(&path, cutoff);
            } else if used(&metadata) <= cutoff
                && !self.is_done()
                && !self.is_pinned(dir, &path).unwrap_or_default()
            {
                self.remove(dir, &path, &metadata);
            }
        }
        let taken = dir.symlink_metadata().map_or(0, |metadata| metadata.blocks() * 512);
        if fs::remove_dir(dir).is_ok() {
            self.count(taken);
        }
    }

    /// Removes a record. The log of a repository's members goes last.
    fn remove(&self, dir: &Path, path: &Path, metadata: &Metadata) {
        if path.ends_with(MEMBERS) {
            let manifests = dir.join(MANIFESTS);
            self.directory(&manifests, i64::MAX);
            if manifests.exists() {
                return;
            }
        }
        if fs::remove_file(path).is_ok() {
            self.count(metadata.blocks() * 512);
            self.note_gone(dir, path);
        }
    }

    /// Whether a record is of a pinned tag, or of a manifest of a pinned image; `None` where it is
    /// of another kind.
    fn is_pinned(&self, dir: &Path, path: &Path) -> Option<bool> {
        let pins = self.budget.catalog().pins();
        let (folder, name) = (dir.file_name()?.to_str()?, path.file_name()?.to_str()?);
        let (layout, above) = (self.budget.layout(), dir.parent()?);
        if folder.starts_with(TAGS) || folder == VANISHED {
            let (registry, repository) = layout.name_of(above)?;
            let tag = Reference::Tag(name.parse().ok()?);
            return Some(pins.rules().matches(&registry, &repository, &tag));
        }
        if !above.ends_with(MANIFESTS) {
            return None;
        }
        let (registry, repository) = layout.name_of(above.parent()?)?;
        let digest = format!("{folder}:{name}").parse().ok()?;
        Some(pins.may_mean(&registry, &repository, &digest))
    }

    fn count(&self, bytes: u64) {
        self.budget.space().count(SpacePart::Records, bytes, 0);
        self.budget.space().count_record_file(-1);
        self.less.set(self.less.get() - RecordShare { files: 1, bytes });
    }

    /// Tells the index of a tag, or of a manifest in the directory of its algorithm.
    fn note_gone(&self, dir: &Path, path: &Path) {
        let Some((above, name)) = dir.parent().zip(path.file_name().and_then(|it| it.to_str()))
        else {
            return;
        };
        let layout = self.budget.layout();
        if dir.ends_with(TAGS)
            && let Some((registry, repository)) = layout.name_of(above)
            && let Ok(tag) = name.parse()
        {
            self.budget.index().gone(IndexRow::Tag(&registry, &repository, &tag));
        } else if above.ends_with(MANIFESTS)
            && let Some((registry, repository)) = above.parent().and_then(|it| layout.name_of(it))
            && let Some(algorithm) = dir.file_name().and_then(|it| it.to_str())
            && let Ok(digest) = format!("{algorithm}:{name}").parse()
        {
            self.budget.index().gone(IndexRow::Manifest(&registry, &repository, &digest));
        }
    }

    fn is_done(&self) -> bool {
        self.budget.is_stopping() || self.less.get() == RecordShare::default()
    }
}

/// The files and directories in a directory, as far as they can be read.
fn entries(dir: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
}

/// Most file systems note a day's first reading; a tag is written again whenever it is revalidated.
fn used(metadata: &Metadata) -> i64 {
    let read = metadata.atime() * 1000 + metadata.atime_nsec() / 1_000_000;
    read.max(metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000)
}

/// The pause between two looks at the count.
const ROUND_EVERY: Duration = Duration::from_secs(1);

/// The pause between two walks that count.
const MEASURE_EVERY: Duration = Duration::from_secs(3600);

/// Tenths of what there may be down to which records go.
const SWEPT_TENTHS: u64 = 8;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

    use super::*;
    use crate::oci::{Algorithm, Digest, MediaType, RegistryName, RepositoryName, Tag};
    use crate::store::{
        BootClock, PinRules, RepositoryRecords, SpaceAmount, SpaceLimits, Store, StoreOptions,
        TagRecord,
    };

    const OLD_SECONDS: i64 = 1_000_000;

    struct Lab {
        store: Store,
        dir: tempfile::TempDir,
    }

    impl Lab {
        /// Records may take 64 blocks.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let max_size = Some(SpaceAmount::Bytes(1 << 20));
            let limits = SpaceLimits { max_size, ..SpaceLimits::NONE };
            let options = StoreOptions { limits, ..StoreOptions::for_test(dir.path()) };
            let store = Store::open(options, BootClock::default()).unwrap();
            // Its first count would count again what is written meanwhile.
            while store.blobs.budget().space().records_walked_at().is_none() {
                thread::yield_now();
            }
            Self { store, dir }
        }

        fn repository(&self, name: &str) -> RepositoryRecords {
            self.store.records(&"docker.io".parse().unwrap(), &name.parse().unwrap())
        }

        /// Has a record not been used for long.
        fn is_old(&self, record: &str) {
            self.is_old_at("docker.io", record);
        }

        fn is_old_at(&self, registry: &str, record: &str) {
            let time = Timespec { tv_sec: OLD_SECONDS, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            let path = self.dir.path().join("registries").join(registry).join(record);
            utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
        }

        fn sweep(&self) {
            sweep(self.store.blobs.budget()).unwrap();
        }

        fn has_tags(&self, name: &str, numbers: std::ops::Range<usize>) -> Vec<usize> {
            let repository = self.repository(name);
            numbers.filter(|it| repository.tag(&tag(*it), None).unwrap().is_some()).collect()
        }
    }

    fn tag(number: usize) -> Tag {
        format!("t{number}").parse().unwrap()
    }

    fn put_tag(repository: &RepositoryRecords, number: usize) -> bool {
        let digest = Some(Digest::of(Algorithm::Sha256, b"x"));
        let record = TagRecord { digest, checked_at: SystemTime::UNIX_EPOCH, is_doubtful: false };
        repository.put_tag(&tag(number), None, &record).unwrap();
        repository.tag(&tag(number), None).unwrap().is_some()
    }

    #[test]
    fn the_records_that_were_not_used_for_longest_go_when_there_are_too_many() {
        let lab = Lab::new();
        let [old, new] = ["old", "new"].map(|name| lab.repository(name));
        for number in 0..20 {
            assert!(put_tag(&old, number));
            lab.is_old(&format!("old/_tags/t{number}"));
        }
        assert!((0..34).all(|number| put_tag(&new, number)));
        lab.sweep();

        let left = (0..20).filter(|number| old.tag(&tag(*number), None).unwrap().is_some()).count();
        assert!((5..15).contains(&left), "some make room for long: {left}");
        assert!((0..34).all(|number| new.tag(&tag(number), None).unwrap().is_some()));
    }

    /// Clients of one registry may make up as much as they like: the records of another stay, even
    /// where they are older.
    #[test]
    fn too_many_records_of_one_registry_take_none_from_another() {
        let lab = Lab::new();
        let other = lab.store.records(&"ghcr.io".parse().unwrap(), &"o/a".parse().unwrap());
        for number in 0..8 {
            assert!(put_tag(&other, number));
            lab.is_old_at("ghcr.io", &format!("o/a/_tags/t{number}"));
        }
        let flooded = lab.repository("flooded");
        let written = (0..45).filter(|number| put_tag(&flooded, *number)).count();
        assert!(written > 40, "{written}");
        lab.sweep();

        assert!((0..8).all(|number| other.tag(&tag(number), None).unwrap().is_some()));
        let left = (0..45).filter(|it| flooded.tag(&tag(*it), None).unwrap().is_some()).count();
        assert!((25..written).contains(&left), "{left} of {written}");
    }

    #[test]
    fn the_level_cuts_the_largest_only() {
        for (all, wanted, want) in [
            (vec![10, 20, 30], 100, u64::MAX),
            (vec![10, 20, 30], 60, u64::MAX),
            (vec![10, 20, 30], 50, 20),
            (vec![30, 20, 10], 40, 15),
            (vec![5, 5], 0, 0),
            (Vec::new(), 5, u64::MAX),
        ] {
            assert_eq!(level(all.clone(), wanted), want, "{all:?} {wanted}");
        }
    }

    /// Pins the tags 3 to 5 of every repository.
    #[derive(Debug)]
    struct SomeTags;

    impl PinRules for SomeTags {
        fn matches_repository(&self, _: &RegistryName, _: &RepositoryName) -> bool {
            true
        }

        fn matches(&self, _: &RegistryName, _: &RepositoryName, reference: &Reference) -> bool {
            ["t3", "t4", "t5"].contains(&reference.to_string().as_str())
        }
    }

    /// Offline nothing could be asked again.
    #[test]
    fn the_records_of_pinned_images_stay_however_old_they_are() {
        let lab = Lab::new();
        lab.store.set_pins(Arc::new(SomeTags));
        let [old, new] = ["old", "new"].map(|name| lab.repository(name));
        let media_type: MediaType = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"manifest");
        old.put_manifest_type(&digest, &media_type).unwrap();
        lab.is_old(&format!("old/_manifests/sha256/{}", digest.hex()));
        for number in 0..10 {
            assert!(put_tag(&old, number));
            lab.is_old(&format!("old/_tags/t{number}"));
        }
        // The record of a pinned tag that the upstream has no longer.
        let gone =
            TagRecord { digest: None, checked_at: SystemTime::UNIX_EPOCH, is_doubtful: false };
        old.put_tag(&tag(3), None, &gone).unwrap();
        lab.is_old("old/_vanished/t3");
        lab.store.pins_changed();
        let less = Cell::new(RecordShare { files: u64::MAX, bytes: u64::MAX });
        let sweep = RecordSweep { budget: lab.store.blobs.budget(), less };
        assert!(put_tag(&new, 1));
        sweep.directory(&lab.dir.path().join("registries"), OLD_SECONDS * 1000);

        assert_eq!(lab.has_tags("old", 4..10), [4, 5]);
        assert!(lab.dir.path().join("registries/docker.io/old/_vanished/t3").exists());
        assert!(old.manifest_type(&digest).unwrap().is_some(), "it may be one of a pinned image");
    }

    /// Until old ones are removed; what was recorded may be written anew.
    #[test]
    fn a_record_too_many_is_not_written() {
        let lab = Lab::new();
        let repository = lab.repository("a");
        let written = (0..200).filter(|number| put_tag(&repository, *number)).count();
        assert!((20..200).contains(&written), "{written}");
        let first = (0..200).find(|number| repository.tag(&tag(*number), None).unwrap().is_some());
        assert!(put_tag(&repository, first.unwrap()));
        let most = lab.store.blobs.budget().space().most_records().unwrap();
        assert!(!lab.store.blobs.budget().space().records().exceeds(most));
    }

    /// Otherwise the manifest would make a member again of what the upstream no longer has.
    #[test]
    fn a_log_of_members_goes_with_the_manifests_that_it_speaks_of() {
        let lab = Lab::new();
        let repository = lab.repository("a/b");
        let media_type: MediaType = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
        let digest = Digest::of(Algorithm::Sha512, b"manifest");
        repository.put_manifest_type(&digest, &media_type).unwrap();
        repository
            .drop_members(&[Digest::of(Algorithm::Sha256, b"gone")], SystemTime::UNIX_EPOCH)
            .unwrap();
        lab.is_old("a/b/_blobs");
        let others = lab.repository("c");
        assert!(put_tag(&others, 1));
        let less = Cell::new(RecordShare { files: u64::MAX, bytes: u64::MAX });
        let sweep = RecordSweep { budget: lab.store.blobs.budget(), less };
        sweep.directory(&lab.dir.path().join("registries"), OLD_SECONDS * 1000);

        assert_eq!(repository.manifest_type(&digest).unwrap(), None);
        assert!(!lab.dir.path().join("registries/docker.io/a").exists(), "nor directories of it");
        assert!(others.tag(&tag(1), None).unwrap().is_some());
    }
}
