//! The promises of every record store, and the records of a repository on top of it: on files, and
//! on a second implementation in memory, which shows that nothing needs files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;

use super::record_store::{
    AppendCondition, PutCondition, RecordName, RecordStore, RecordVersion, StoredRecord,
};
use super::{
    AbsentRecord, BootClock, ListRecord, RepositoryRecords, Store, StoreOptions, TagRecord,
    VerifiedContent,
};
use crate::oci::{Algorithm, Digest, MediaType, RegistryName, RepositoryName, Tag};

/// Records by name, each with the number of the put that made it.
#[derive(Debug, Default)]
struct MemoryRecords {
    records: Mutex<BTreeMap<String, (u64, Vec<u8>)>>,
}

impl MemoryRecords {
    fn version(number: u64) -> RecordVersion {
        RecordVersion::of(&number.to_le_bytes())
    }
}

impl RecordStore for MemoryRecords {
    fn get(&self, name: &RecordName, max: u64) -> io::Result<Option<StoredRecord>> {
        Ok(self.records.lock().get(name.as_str()).map(|(number, bytes)| StoredRecord {
            bytes: bytes.iter().copied().take(usize::try_from(max).unwrap()).collect(),
            version: Self::version(*number),
        }))
    }

    fn put(&self, name: &RecordName, bytes: &[u8], condition: PutCondition) -> io::Result<bool> {
        let mut records = self.records.lock();
        let now = records.get(name.as_str());
        let now = now.map_or(RecordVersion::ABSENT, |(number, _)| Self::version(*number));
        let is_met = match condition {
            PutCondition::Always => true,
            PutCondition::IfVersion(version) => version == now,
        };
        if is_met {
            let number = records.values().map(|(number, _)| *number).max().unwrap_or_default() + 1;
            records.insert(name.as_str().to_owned(), (number, bytes.to_vec()));
        }
        Ok(is_met)
    }

    fn append(&self, name: &RecordName, lines: &str, _: AppendCondition) -> io::Result<u64> {
        let before = self.get(name, u64::MAX)?.map(|record| record.bytes).unwrap_or_default();
        let all = [&before[..], lines.as_bytes()].concat();
        self.put(name, &all, PutCondition::Always).map(|_| all.len() as u64)
    }

    fn delete(&self, name: &RecordName) -> io::Result<()> {
        self.records.lock().remove(name.as_str());
        Ok(())
    }

    fn list(&self, folder: &RecordName) -> io::Result<Vec<String>> {
        let prefix = format!("{}/", folder.as_str());
        let records = self.records.lock();
        let parts = records.keys().filter_map(|name| name.strip_prefix(&prefix)?.split('/').next());
        let mut parts: Vec<_> = parts.map(str::to_owned).collect();
        parts.dedup();
        Ok(parts)
    }

    fn trim(&self, folder: &RecordName, max: usize) -> io::Result<()> {
        let prefix = format!("{}/", folder.as_str());
        let mut records = self.records.lock();
        let inside = records.iter().filter(|(name, _)| name.starts_with(&prefix));
        let mut inside: Vec<_> =
            inside.map(|(name, (number, _))| (*number, name.clone())).collect();
        inside.sort_unstable();
        if let Some(over) = inside.len().checked_sub(max).filter(|over| *over > 0) {
            for (_, name) in inside.iter().take(over + max / 10) {
                records.remove(name);
            }
        }
        Ok(())
    }
}

/// A store, and the records of a repository on its files and in memory.
struct Lab {
    store: Store,
    dir: tempfile::TempDir,
    memory: Arc<MemoryRecords>,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::for_test(&dir.path().join("cache"));
        let store = Store::open(options, BootClock::default()).unwrap();
        Self { store, dir, memory: Arc::default() }
    }

    fn stores(&self) -> [Arc<dyn RecordStore>; 2] {
        [Arc::clone(&self.store.records), Arc::clone(&self.memory) as _]
    }

    fn repositories(&self) -> [RepositoryRecords; 2] {
        let registry: RegistryName = "docker.io".parse().unwrap();
        let repository: RepositoryName = "library/alpine".parse().unwrap();
        let on_files = self.store.records(&registry, &repository);
        self.stores().map(|records| RepositoryRecords { records, ..on_files.clone() })
    }
}

fn name(part: &str) -> RecordName {
    let (registry, repository) = ("docker.io".parse().unwrap(), "a/b".parse().unwrap());
    RecordName::repository(&registry, &repository).part(part)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn bytes_of(records: &dyn RecordStore, name: &RecordName) -> Option<Bytes> {
    records.get(name, 100).unwrap().map(|record| record.bytes)
}

/// Two machines that share a store must not undo each other's changes.
#[test]
fn a_record_is_replaced_only_while_it_is_the_version_that_was_read() {
    for records in Lab::new().stores() {
        let name = name("_x");
        let put = |bytes: &[u8], condition| records.put(&name, bytes, condition).unwrap();
        let if_version = |version: &RecordVersion| PutCondition::IfVersion(version.clone());

        assert_eq!(records.get(&name, 100).unwrap(), None);
        assert!(put(b"one", if_version(&RecordVersion::ABSENT)));
        assert!(!put(b"two", if_version(&RecordVersion::ABSENT)), "it is there now");
        let one = records.get(&name, 100).unwrap().unwrap();
        assert_eq!(one.bytes, "one");

        assert!(put(b"two", if_version(&one.version)));
        assert!(!put(b"three", if_version(&one.version)), "another has replaced it");
        assert_eq!(bytes_of(&*records, &name), Some(Bytes::from_static(b"two")));
        assert!(put(b"four", PutCondition::Always));

        records.delete(&name).unwrap();
        records.delete(&name).unwrap();
        assert_eq!(bytes_of(&*records, &name), None);
    }
}

#[test]
fn records_are_listed_by_folder_cut_off_at_the_limit_and_appended_to() {
    for records in Lab::new().stores() {
        assert!(records.list(&name("_t")).unwrap().is_empty());
        for part in ["_t/1", "_t/2", "_t/sub/3", "_u/4"] {
            records.put(&name(part), b"value", PutCondition::Always).unwrap();
        }
        let mut listed = records.list(&name("_t")).unwrap();
        listed.sort();
        assert_eq!(listed, ["1", "2", "sub"]);
        assert_eq!(records.get(&name("_t/1"), 3).unwrap().unwrap().bytes, "val");

        let append = |line| records.append(&name("_log"), line, AppendCondition::IfRoom).unwrap();
        assert_eq!((append("a\n"), append("b\n")), (2, 4), "bytes");
        assert_eq!(bytes_of(&*records, &name("_log")), Some(Bytes::from_static(b"a\nb\n")));
    }
}

/// A client that asks for tags that do not exist must not fill the disk with their names.
#[test]
fn the_oldest_records_go_when_a_folder_has_too_many() {
    let lab = Lab::new();
    for records in lab.stores() {
        let record = |number: usize| name(&format!("_of/{number}"));
        let put = |number: usize| {
            records.put(&record(number), b"", PutCondition::Always).unwrap();
            let path = lab.store.layout.record(&record(number));
            if let Ok(file) = fs::File::open(path) {
                file.set_modified(at(number as u64)).unwrap();
            }
            records.trim(&name("_of"), 20).unwrap();
        };
        (0..20).for_each(put);
        assert!(bytes_of(&*records, &record(0)).is_some());
        put(20);
        let is_there = |number| bytes_of(&*records, &record(number)).is_some();
        assert!(!is_there(0) && !is_there(1) && !is_there(2) && is_there(3));
        (21..100).for_each(put);
        let left = records.list(&name("_of")).unwrap().len();
        assert!((10..=20).contains(&left), "{left}");
    }
}

#[test]
fn a_tag_is_read_as_it_was_put_and_a_damaged_one_is_absent() {
    let lab = Lab::new();
    for records in lab.repositories() {
        let tag: Tag = "latest".parse().unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let record =
            TagRecord { digest: Some(digest.clone()), checked_at: at(1_000), is_doubtful: false };
        assert_eq!(records.tag(&tag, None).unwrap(), None);
        records.put_tag(&tag, None, &record).unwrap();
        assert_eq!(records.tag(&tag, None).unwrap(), Some(record.clone()));
        assert_eq!(records.tag(&tag, Some("v")).unwrap(), None);
        records.put_tag(&tag, Some("v"), &record).unwrap();
        assert_eq!(records.tags_naming(&digest).unwrap(), [tag.clone(), tag.clone()]);
        records.drop_views(&tag).unwrap();
        assert_eq!(records.tags_naming(&digest).unwrap(), std::slice::from_ref(&tag));

        let gone = TagRecord { digest: None, checked_at: at(2_000), is_doubtful: false };
        records.put_tag(&tag, None, &gone).unwrap();
        assert_eq!(records.tag(&tag, None).unwrap(), Some(gone));
        records.put_tag(&tag, None, &record).unwrap();
        assert_eq!(records.tag(&tag, None).unwrap(), Some(record));

        let folder = RecordName::repository(&records.registry, &records.repository);
        let torn = b"{\"digest\":";
        records.records.put(&folder.tag(&tag, None), torn, PutCondition::Always).unwrap();
        assert_eq!(records.tag(&tag, None).unwrap(), None);
        records.drop_tag(&tag, None).unwrap();
        records.drop_tag(&tag, None).unwrap();
    }
}

#[test]
fn a_repository_has_what_its_manifests_name_and_what_was_confirmed_until_it_is_denied() {
    let lab = Lab::new();
    for records in lab.repositories() {
        let layer = Digest::of(Algorithm::Sha256, b"layer");
        let body = format!(r#"{{"layers":[{{"digest":"{layer}","size":7}}]}}"#);
        let digest = Digest::of(Algorithm::Sha256, body.as_bytes());
        let verified = VerifiedContent::check(&digest, Bytes::from(body)).unwrap();
        let media_type: MediaType = "application/x".parse().unwrap();
        records.put_manifest(&media_type, &verified).unwrap();
        let (held, content) = records.manifest(&digest, 1000).unwrap().unwrap();
        assert_eq!((held, content.content()), (media_type, verified.content()));

        let confirmed = Digest::of(Algorithm::Sha256, b"confirmed");
        records.put_member(&confirmed, at(0)).unwrap();
        let members = records.members().unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!((members[&confirmed], members[&layer]), (None, Some(7)));

        records.drop_members(&[layer.clone(), confirmed.clone()], at(1)).unwrap();
        assert!(records.members().unwrap().is_empty());
        records.put_member(&layer, at(2)).unwrap();
        assert_eq!(records.members().unwrap().len(), 1, "the upstream has it again");

        records.drop_manifest(&digest).unwrap();
        assert!(records.manifest(&digest, 1000).unwrap().is_none());
    }
}

#[test]
fn a_list_is_read_as_it_was_put_under_its_name_only_and_is_present_or_absent() {
    let lab = Lab::new();
    for records in lab.repositories() {
        let record = ListRecord {
            checked_at: at(5),
            media_type: "a/b".to_owned(),
            filters_applied: None,
            next: Some("n=1&last=x".to_owned()),
            body: Bytes::from_static(b"{\n}\n"),
            is_doubtful: false,
        };
        let said = Some(Bytes::from_static(b"no"));
        let absent = AbsentRecord { checked_at: at(4), said, is_doubtful: false };
        records.put_absent("tags/list", &absent).unwrap();
        assert_eq!(records.absent("tags/list").unwrap(), Some(absent));

        records.put_list("tags/list", &record).unwrap();
        assert_eq!(records.absent("tags/list").unwrap(), None);
        assert_eq!(records.list("tags/list").unwrap(), Some(record.clone()));
        assert_eq!(records.list("tags/list?n=1").unwrap(), None);
        records.put_list("tags/list?n=1", &record).unwrap();
        records.drop_list("tags/list").unwrap();
        assert_eq!(records.list("tags/list").unwrap(), None);

        records.drop_lists().unwrap();
        assert_eq!(records.list("tags/list?n=1").unwrap(), None);
    }
    drop(lab.dir);
}

/// Clients make up what does not exist, and each of it is a record in one folder: looking at all of
/// them for each new one would take longer and longer.
#[test]
fn a_new_absence_does_not_read_those_that_are_there() {
    let lab = Lab::new();
    let [records, _] = lab.repositories();
    let absent = AbsentRecord { checked_at: at(4), said: None, is_doubtful: false };
    records.put_absent("manifests/v0", &absent).unwrap();
    let folder = lab.dir.path().join("cache/registries/docker.io/_absent");
    for number in 0..11_000 {
        fs::write(folder.join(format!("other-{number}")), b"").unwrap();
    }
    let count = || fs::read_dir(&folder).unwrap().count();

    records.put_absent("manifests/v1", &absent).unwrap();

    assert_eq!(count(), 11_002, "nothing was counted, and so nothing removed");
    assert_eq!(records.absent("manifests/v0").unwrap(), Some(absent));
}

/// Uploads that are under way survive a restart only if the key does.
#[test]
fn the_session_key_is_made_once_and_anew_when_it_is_damaged() {
    let lab = Lab::new();
    let key = |byte: u8| lab.store.session_key(vec![byte; 32]).unwrap();
    assert_eq!(key(1), [1; 32]);
    assert_eq!(key(2), [1; 32], "there is one");

    fs::write(lab.dir.path().join("cache/session.key"), b"half").unwrap();
    assert_eq!(key(3), [3; 32]);
}
