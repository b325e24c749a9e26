//! Records of tags that the upstream no longer has: what each named last, for pins and protection.
//!
//! Clients are not served by these records, and get the upstream's answer.

use std::io;

use super::record_store::{PutCondition, RecordName, RecordStore};
use super::records::RECORD_BYTES_MAX;
use crate::oci::Tag;

/// Keeps the record of a tag of this repository that is to be removed.
/// Returns whether there was one. A record that cannot be read is none.
pub(super) fn keep(
    records: &dyn RecordStore,
    repository: &RecordName,
    tag: &Tag,
) -> io::Result<bool> {
    let found = records.get(&repository.tag(tag, None), RECORD_BYTES_MAX).unwrap_or_default();
    let kept =
        found.map(|it| records.put(&repository.vanished(tag), &it.bytes, PutCondition::Always));
    Ok(kept.transpose()?.is_some())
}

/// Forgets what a tag named. Returns whether that was recorded.
pub(super) fn forget(
    records: &dyn RecordStore,
    repository: &RecordName,
    tag: &Tag,
) -> io::Result<bool> {
    let name = repository.vanished(tag);
    let is_there = records.get(&name, RECORD_BYTES_MAX)?.is_some();
    if is_there {
        records.delete(&name)?;
    }
    Ok(is_there)
}
