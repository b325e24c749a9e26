//! Fuzz targets of headers that both sides send.

use http::header::{CONTENT_RANGE, HeaderName, LINK};
use http::{HeaderMap, HeaderValue};

use super::range::RANGES_MAX;
use super::{ContentRange, RangeSelection, next_query};

/// `Range`, behind the content's length in its first two bytes: no part lies outside of the
/// content, and all parts together are no more than it.
pub(crate) fn range(bytes: &[u8]) {
    let Some((len, header)) = bytes.split_first_chunk::<2>() else { return };
    let len = u64::from(u16::from_le_bytes(*len));
    let parts = match RangeSelection::of(&String::from_utf8_lossy(header), len) {
        RangeSelection::Parts(parts) => parts,
        RangeSelection::Part(part) | RangeSelection::Footer(part) => vec![part],
        RangeSelection::TooMuch | RangeSelection::Unsatisfiable | RangeSelection::Whole => return,
    };
    assert!(parts.len() <= RANGES_MAX);
    assert!(parts.iter().all(|part| part.start < part.end && part.end <= len), "{parts:?} {len}");
    assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= len);
}

/// `Content-Range`: the bytes are within the total.
pub(crate) fn content_range(bytes: &[u8]) {
    let Some(headers) = headers(CONTENT_RANGE, bytes) else { return };
    let Some(range) = ContentRange::of(&headers) else { return };
    if let (Some((first, last)), total) = (range.bytes, range.total) {
        assert!(first <= last && total.is_none_or(|total| last < total), "{range:?}");
    }
}

/// `Link`: of the target nothing but the query is taken.
pub(crate) fn link(bytes: &[u8]) {
    let Some(headers) = headers(LINK, bytes) else { return };
    if let Some(query) = next_query(&headers) {
        assert!(!query.contains('#'), "{query}");
        assert!(query.len() <= 3 * bytes.len());
    }
}

fn headers(name: HeaderName, bytes: &[u8]) -> Option<HeaderMap> {
    Some(HeaderMap::from_iter([(name, HeaderValue::from_bytes(bytes).ok()?)]))
}
