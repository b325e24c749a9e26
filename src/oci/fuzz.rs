//! Fuzz targets of the protocol's nouns.

use super::{ApiCall, ManifestFacts, PageQuery, Resource};

/// The part of a path after `/v2`: a path that was read is written so that it is read the same.
pub(crate) fn path(bytes: &[u8]) {
    let Ok(ApiCall::In(name, resource)) = ApiCall::parse(&String::from_utf8_lossy(bytes)) else {
        return;
    };
    let written = format!("/{name}/{}", resource.path());
    if !matches!(resource, Resource::Upload(_)) {
        assert_eq!(ApiCall::parse(&written), Ok(ApiCall::In(name, resource)), "{written}");
    }
}

/// The query of a list: what is sent upstream means the same page.
pub(crate) fn query(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for read in [PageQuery::of_tags, PageQuery::of_referrers] {
        let Ok(page) = read(&text) else { continue };
        if page.to_query().len() <= PageQuery::QUERY_LEN_MAX {
            assert_eq!(read(&page.to_query()), Ok(page), "{text}");
        }
    }
}

/// A manifest: the number of descriptors is bounded.
pub(crate) fn manifest(bytes: &[u8]) {
    if let Ok(facts) = ManifestFacts::read(bytes) {
        assert!(facts.descriptors.len() <= ManifestFacts::DESCRIPTORS_MAX);
    }
}
