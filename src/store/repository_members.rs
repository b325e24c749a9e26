//! The log of a repository's members as a record, with a bound.
//!
//! The form of its lines is told in `member_log.rs`; what is noted, in `repository_records.rs`.

use std::collections::HashSet;
use std::io;

use super::member_log::MemberLog;
use super::record_store::{AppendCondition, PutCondition, RecordName, RecordStore, StoredRecord};
use crate::oci::Digest;

/// The log. All methods block. One caller at a time adds to it.
#[derive(Debug)]
pub(super) struct MemberRecord<'r> {
    pub(super) records: &'r dyn RecordStore,
    pub(super) name: RecordName,
}

impl MemberRecord<'_> {
    /// Adds lines. Returns whether the log is to be compacted then.
    pub(super) fn append(&self, lines: &str, condition: AppendCondition) -> io::Result<bool> {
        Ok(!lines.is_empty() && self.records.append(&self.name, lines, condition)? > BYTES_MAX)
    }

    /// Says the same in fewer lines, where manifests name these digests. Returns whether it did:
    /// more may be gone of what is named than fits.
    pub(super) fn compact(&self, named: &HashSet<Digest>) -> io::Result<bool> {
        let Some(log) = self.stored()? else { return Ok(true) };
        let log = MemberLog::compacted(&log.bytes, KEPT_BYTES, |digest| named.contains(digest));
        if log.len() as u64 > BYTES_MAX {
            return Ok(false);
        }
        self.records.put(&self.name, log.as_bytes(), PutCondition::Always)?;
        Ok(true)
    }

    /// The word of the upstream on each blob.
    pub(super) fn read(&self) -> io::Result<MemberLog> {
        Ok(self.stored()?.map(|log| MemberLog::read(&log.bytes)).unwrap_or_default())
    }

    /// The log, with the lines after which it is compacted.
    fn stored(&self) -> io::Result<Option<StoredRecord>> {
        self.records.get(&self.name, 2 * BYTES_MAX)
    }
}

/// A log that becomes longer is compacted: half a million blobs in one repository.
const BYTES_MAX: u64 = 64 << 20;

/// The longest that it is after that, but for what is gone. The rest is room for the next lines.
const KEPT_BYTES: usize = 48 << 20;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;
    use crate::oci::{Algorithm, MediaType};
    use crate::store::{
        BootClock, RepositoryRecords, SpaceAmount, SpaceLimits, Store, StoreOptions,
        VerifiedContent,
    };

    struct Lab {
        records: RepositoryRecords,
        log: PathBuf,
        _store: (Store, tempfile::TempDir),
    }

    impl Lab {
        fn new(limits: SpaceLimits) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = StoreOptions { limits, ..StoreOptions::for_test(dir.path()) };
            let store = Store::open(options, BootClock::default()).unwrap();
            let records = store.records(&"docker.io".parse().unwrap(), &"o/a".parse().unwrap());
            let log = dir.path().join("registries/docker.io/o/a/_blobs");
            Self { records, log, _store: (store, dir) }
        }

        /// Has a manifest that names these.
        fn hold(&self, named: &[Digest]) {
            let named: Vec<_> =
                named.iter().map(|it| format!(r#"{{"digest":"{it}","size":1}}"#)).collect();
            let body = Bytes::from(format!(r#"{{"layers":[{}]}}"#, named.join(",")));
            let manifest = VerifiedContent::hash(Algorithm::Sha256, body);
            let media_type: MediaType =
                "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
            self.records.put_manifest(&media_type, &manifest).unwrap();
        }

        fn has(&self, digests: &[Digest]) -> Vec<bool> {
            let members = self.records.members().unwrap();
            digests.iter().map(|digest| members.contains_key(digest)).collect()
        }
    }

    fn digest(number: u32) -> Digest {
        Digest::of(Algorithm::Sha256, &number.to_le_bytes())
    }

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn no_word_is_lost_beyond_the_bound_and_the_log_is_compacted() {
        let lab = Lab::new(SpaceLimits::NONE);
        let [early, late, new, gone] = [1, 2, 3, 4].map(digest);
        lab.hold(std::slice::from_ref(&gone));
        let lines = [
            MemberLog::present_line(&early, AT).into_bytes(),
            // Whatever fills a log.
            vec![b'x'; usize::try_from(BYTES_MAX).unwrap()],
            b"\n".to_vec(),
            MemberLog::present_line(&late, AT).into_bytes(),
            MemberLog::gone_line(&gone, AT).into_bytes(),
        ];
        fs::write(&lab.log, lines.concat()).unwrap();
        let all = [early, late, new.clone(), gone];
        assert_eq!(lab.has(&all), [true, true, false, false]);

        lab.records.put_member(&new, AT).unwrap();

        assert_eq!(lab.has(&all), [true, true, true, false]);
        assert!(fs::metadata(&lab.log).unwrap().len() < 1000);
    }

    /// No manifest may make a member of what is gone, however long the list of that is.
    #[test]
    fn what_is_gone_and_does_not_fit_takes_the_manifests_that_name_it() {
        let lab = Lab::new(SpaceLimits::NONE);
        let named: Vec<_> = (0..3).map(digest).collect();
        lab.hold(&named);
        let long = "y".repeat(usize::try_from(BYTES_MAX).unwrap());
        let said = format!("!{} {long}", named[0]);
        let sum = crate::store::records::sum_of(&[said.as_bytes()]);
        fs::write(&lab.log, format!("{said} {sum}\n")).unwrap();
        lab.records.put_member(&digest(9), AT).unwrap();
        assert_eq!(lab.has(&named), [false; 3]);
        assert!(!lab.log.exists());
    }

    /// A refusal of a manifest can name sixteen thousand members.
    #[test]
    fn what_is_noted_leaves_the_space_that_is_to_be_left() {
        let max_size = Some(SpaceAmount::Bytes(1 << 20));
        let lab = Lab::new(SpaceLimits { max_size, ..SpaceLimits::NONE });
        let many: Vec<_> = (0..16_000).map(digest).collect();
        lab.records.put_member(&many[0], AT).unwrap();
        let before = fs::metadata(&lab.log).unwrap().len();

        lab.records.drop_members(&many, AT).unwrap_err();

        assert_eq!(fs::metadata(&lab.log).unwrap().len(), before);
        lab.records.drop_members(&many[..20], AT).unwrap();
        assert_eq!(lab.has(&many[..1]), [false]);
    }
}
