//! The promises of the index, on a real directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::record_store::RecordName;
use super::*;
use crate::clock::SystemClock;
use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName, Tag};

/// A key that the owner's thread panics on.
pub(super) const PANICS: &[u8] = b"panics";

struct Lab {
    dir: TempDir,
    layout: StoreLayout,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = StoreLayout::new(dir.path().join("cache"));
        Self { dir, layout }
    }

    fn start(&self, checker: Option<&str>) -> StoreIndex {
        let options = IndexOptions { checker: checker.map(PathBuf::from) };
        StoreIndex::start(&self.layout, Some(options), Arc::new(SystemClock))
    }

    /// A program that does this when it is called to check.
    fn checker(&self, script: &str) -> String {
        let path = self.dir.path().join("checker");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A stored blob of this many bytes, and its digest.
    fn blob(&self, number: u64, len: u64) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, &number.to_le_bytes());
        let path = self.layout.blob(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().set_len(len).unwrap();
        digest
    }

    fn rows(&self) -> Vec<String> {
        let (from, to) = (self.layout.index().join("db"), self.dir.path().join("copy"));
        fs::create_dir_all(to.join("blobs")).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        let rows = index_rows(&to).unwrap();
        fs::remove_dir_all(to).unwrap();
        rows
    }

    fn assert_is_what_the_files_are(&self) {
        let db = self.dir.path().join("scratch");
        assert_eq!(self.rows(), index_rows_of_files(self.layout.dir(), &db).unwrap());
        fs::remove_dir_all(db).unwrap();
    }
}

fn wait_for(index: &StoreIndex, what: impl Fn(IndexReport) -> bool) {
    // The index has a thread of its own, which wakes no task.
    for _ in 0..4000 {
        if what(index.report()) {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{:?}", index.report());
}

fn is_ready(report: IndexReport) -> bool {
    report.state == IndexState::Ready
}

fn names() -> (RegistryName, RepositoryName, Tag) {
    ("docker.io".parse().unwrap(), "library/alpine".parse().unwrap(), "3".parse().unwrap())
}

#[test]
fn an_index_is_built_from_the_files_and_kept_from_then_on() {
    let lab = Lab::new();
    let (one, two) = (lab.blob(1, 100), lab.blob(2, 20));
    let index = lab.start(None);
    wait_for(&index, is_ready);
    let totals = IndexTotals { blobs: 2, bytes: 120, manifests: 0, tags: 0 };
    assert_eq!(index.report().totals, totals);

    let three = lab.blob(3, 3);
    index.kept(IndexRow::Blob(&three), 3);
    fs::remove_file(lab.layout.blob(&one)).unwrap();
    index.gone(IndexRow::Blob(&one));
    index.used(IndexRow::Blob(&two));
    index.used(IndexRow::Blob(&Digest::of(Algorithm::Sha256, b"not stored")));
    index.stop();
    lab.assert_is_what_the_files_are();

    let index = lab.start(None);
    wait_for(&index, is_ready);
    let report = index.report();
    let totals = IndexTotals { blobs: 2, bytes: 23, manifests: 0, tags: 0 };
    assert_eq!((report.totals, report.walks, report.set_aside), (totals, 0, 0), "as it was left");
}

#[test]
fn what_was_used_is_known_afterwards() {
    let lab = Lab::new();
    let (registry, repository, tag) = names();
    let old = lab.blob(1, 1);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let times = fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    fs::File::open(lab.layout.blob(&old)).unwrap().set_times(times).unwrap();
    let index = lab.start(None);
    wait_for(&index, is_ready);
    index.kept(IndexRow::Tag(&registry, &repository, &tag), 0);
    index.stop();
    let used = |row: IndexRow<'_>| {
        let ledger =
            IndexDb::open(&IndexDir::new(lab.layout.index()).db(), IndexTotals::default()).unwrap();
        let facts = ledger.get(&row.key()).unwrap();
        ledger.close().unwrap();
        facts.unwrap().used
    };
    assert_eq!(used(IndexRow::Blob(&old)), 1000, "what the file tells");
    let now = seconds(SystemClock.now());
    assert!(used(IndexRow::Tag(&registry, &repository, &tag)).abs_diff(now) < 1000);

    // Opened by this test in between, so it is no longer as it was left.
    let index =
        lab.start(Some(&lab.checker(r#"echo '{"blobs":1,"bytes":1,"manifests":0,"tags":1}'"#)));
    wait_for(&index, |report| report.state != IndexState::Opening);
    index.used(IndexRow::Blob(&old));
    index.stop();
    assert_eq!(index.report().set_aside, 1, "changed since");
}

/// A walk and the life of the store go on at the same time.
#[test]
fn a_comparison_misses_nothing_that_happens_meanwhile() {
    let lab = Lab::new();
    let before: Vec<_> = (0..500).map(|number| lab.blob(number, number)).collect();
    let index = lab.start(None);
    for number in 500..1000 {
        let digest = lab.blob(number, number);
        index.kept(IndexRow::Blob(&digest), number);
        if number % 3 == 0 {
            let gone = &before[usize::try_from(number).unwrap() - 500];
            fs::remove_file(lab.layout.blob(gone)).unwrap();
            index.gone(IndexRow::Blob(gone));
        }
    }
    wait_for(&index, is_ready);
    index.stop();
    lab.assert_is_what_the_files_are();
}

/// Records of repositories, and such as have gone with their directory.
#[test]
fn a_comparison_finds_and_forgets_repositories() {
    let lab = Lab::new();
    let (registry, repository, tag) = names();
    let put = |path: PathBuf| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"{}").unwrap();
    };
    let nested: RepositoryName = "library/alpine/nested".parse().unwrap();
    let digest = lab.blob(1, 10);
    for repository in [&repository, &nested] {
        let folder = RecordName::repository(&registry, repository);
        put(lab.layout.record(&folder.tag(&tag, None)));
        put(lab.layout.record(&folder.tag(&tag, Some("view"))));
        put(lab.layout.record(&folder.manifest(&digest)));
    }
    put(lab.layout.sums(&digest));
    let orphan = lab.layout.sums(&Digest::of(Algorithm::Sha256, b"orphan"));
    put(orphan.clone());
    let index = lab.start(None);
    wait_for(&index, is_ready);
    assert_eq!(index.report().totals, IndexTotals { blobs: 1, bytes: 10, manifests: 2, tags: 2 });
    assert!(lab.layout.sums(&digest).exists() && !orphan.exists());
    drop(index);

    let gone = lab.layout.record(&RecordName::repository(&registry, &nested));
    fs::remove_dir_all(gone).unwrap();
    let said = r#"echo '{"blobs":1,"bytes":10,"manifests":2,"tags":2}'"#;
    // It was not closed; it is right, and compared all the same.
    wait_for_file_gone(&lab);
    let index = lab.start(Some(&lab.checker(said)));
    wait_for(&index, is_ready);
    let totals = IndexTotals { blobs: 1, bytes: 10, manifests: 1, tags: 1 };
    assert_eq!((index.report().totals, index.report().set_aside), (totals, 0));
    index.stop();
    lab.assert_is_what_the_files_are();
}

/// Waits until the dropped index has closed, and makes it look as if it had not.
fn wait_for_file_gone(lab: &Lab) {
    let seal = lab.layout.index().join("clean");
    while fs::remove_file(&seal).is_err() {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_that_was_not_closed_is_checked_and_what_fails_is_set_aside() {
    let cases = [
        ("exit 101", "it panics"),
        ("echo nonsense", "it says nothing that makes sense"),
        ("kill -9 $$", "it is killed"),
    ];
    for (script, case) in cases {
        let lab = Lab::new();
        lab.blob(1, 10);
        let index = lab.start(None);
        wait_for(&index, is_ready);
        index.stop();
        wait_for_file_gone(&lab);

        let index = lab.start(Some(&lab.checker(script)));
        wait_for(&index, is_ready);
        assert_eq!((index.report().set_aside, index.report().walks), (1, 1), "{case}");
        index.stop();
        lab.assert_is_what_the_files_are();
        assert!(lab.layout.index().join("bad").exists(), "{case}: to be looked at");
        let index = lab.start(None);
        wait_for(&index, is_ready);
        assert!(!lab.layout.index().join("bad").exists(), "{case}: not for ever");
    }
}

/// Neither a start nor a stop waits for a check that hangs.
#[test]
fn a_check_that_hangs_holds_up_nothing() {
    let lab = Lab::new();
    let index = lab.start(None);
    wait_for(&index, is_ready);
    index.stop();
    wait_for_file_gone(&lab);

    let index = lab.start(Some(&lab.checker("exec sleep 1000")));
    wait_for(&index, |report| report.state == IndexState::Opening);
    index.used(IndexRow::Blob(&lab.blob(1, 1)));
    index.stop();
    assert!(index.running.as_ref().unwrap().shared.inbox.lock().has_ended, "the child is killed");
    assert_eq!(index.report().set_aside, 0, "it is for the next start to say");
}

#[test]
fn one_that_panics_is_set_aside_and_built_anew() {
    let lab = Lab::new();
    lab.blob(1, 10);
    let index = lab.start(None);
    wait_for(&index, is_ready);
    let shared = Arc::clone(&index.running.as_ref().unwrap().shared);
    shared.note(|pending| pending.note(PANICS, RowChange::Gone));
    // So that the test need not wait for the next round.
    shared.arrived.notify_one();

    wait_for(&index, |report| report.set_aside == 1 && is_ready(report));
    assert_eq!(index.report().totals.blobs, 1);
    index.stop();
    lab.assert_is_what_the_files_are();
}

/// A database that never works is not tried for ever, and changes do not pile up for it.
#[test]
fn one_that_cannot_be_had_is_done_without() {
    let lab = Lab::new();
    fs::create_dir_all(lab.layout.dir()).unwrap();
    fs::write(lab.layout.index(), b"a file").unwrap();
    let index = lab.start(None);
    let shared = Arc::clone(&index.running.as_ref().unwrap().shared);
    wait_for(&index, |_| shared.inbox.lock().has_ended);
    assert_eq!(index.report().state, IndexState::Off);
    index.used(IndexRow::Blob(&lab.blob(1, 1)));
    assert!(shared.inbox.lock().pending.take().0.is_empty());
    index.stop();
}
