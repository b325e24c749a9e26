//! Fuzz target of the lists that registries answer.

use bytes::Bytes;
use http::header::LINK;
use http::{HeaderMap, HeaderValue};

use super::ListKind;
use crate::oci::PageQuery;

/// An answer to `tags/list`: its first line is the `Link`, the rest the body. A link is to another
/// page than this one.
pub(crate) fn list(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    let (link, body) = bytes.split_at(end);
    let mut headers = HeaderMap::new();
    if let Ok(link) = HeaderValue::from_bytes(link) {
        headers.insert(LINK, link);
    }
    let page = PageQuery::default();
    if let Ok(list) = ListKind::Tags.read(&page, &headers, Bytes::copy_from_slice(body)) {
        assert!(list.next.is_none_or(|next| next != page));
        assert_eq!(list.body, body);
    }
}
