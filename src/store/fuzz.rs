//! Fuzz target of the small files that the store keeps: a crash or a disk may leave anything.

use bytes::Bytes;

use super::member_log::MemberLog;
use super::records::{media_type_from_bytes, tag_from_bytes};
use super::{AbsentRecord, ListRecord};
use crate::clock::BootId;

/// The record of a tag, an absence, a list, a manifest's type, and a log of members.
pub(crate) fn records(bytes: &[u8]) {
    let Some(boot) = BootId::of_id("0") else { return };
    if let Some(tag) = tag_from_bytes(bytes, boot) {
        assert!(tag.digest.is_some());
    }
    media_type_from_bytes(bytes);
    AbsentRecord::from_bytes("a", bytes, boot);
    let whole = Bytes::copy_from_slice(bytes);
    if let Some(list) = ListRecord::from_bytes("a", &whole, boot) {
        assert!(list.body.len() < bytes.len());
    }
    let log = MemberLog::read(bytes);
    assert!(log.present.is_disjoint(&log.gone));
    let compacted = MemberLog::compacted(bytes, usize::MAX, |_| true);
    assert_eq!(MemberLog::read(compacted.as_bytes()), log);
}
