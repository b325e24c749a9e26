//! Lists of a registry that is offline, made of what the cache holds: an import brings manifests
//! and tags, and no lists.

use std::io;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::cache::{ListKind, ListPage};
use crate::oci::{Digest, MANIFEST_BYTES_MAX, PageQuery, Tag};
use crate::store::RepositoryRecords;

/// The page of a list of what is held; `None` if nothing is. Blocks.
pub(in crate::cache) fn held_list(
    records: &RepositoryRecords,
    listing: &ListKind,
    page: &PageQuery,
) -> io::Result<Option<ListPage>> {
    let (body, next) = match listing {
        ListKind::Tags => held_tags(records, page)?,
        ListKind::Referrers(subject) => (held_referrers(records, subject)?, None),
    };
    let media_type = listing.media_type().to_owned();
    Ok(body.map(|body| ListPage {
        media_type,
        filters_applied: None,
        next,
        body: Bytes::from(body.to_string()),
    }))
}

/// The tags of a page, and the page behind it.
fn held_tags(
    records: &RepositoryRecords,
    page: &PageQuery,
) -> io::Result<(Option<Value>, Option<PageQuery>)> {
    let tags = records.tags()?;
    if tags.is_empty() {
        return Ok((None, None));
    }
    let behind = tags.iter().map(Tag::as_str);
    let mut behind = behind.filter(|tag| page.last().is_none_or(|last| *tag > last));
    let max = page.count().unwrap_or(PageQuery::COUNT_MAX) as usize;
    let shown: Vec<&str> = behind.by_ref().take(max).collect();
    let next = shown.last().filter(|_| behind.next().is_some()).map(|last| page.behind(last));
    let body = json!({ "name": records.repository().to_string(), "tags": shown });
    Ok((Some(body), next))
}

/// The index of the manifests that refer to one that is held. It is empty where none does: from a
/// 404 oras concludes that no image of the registry has such a list.
fn held_referrers(records: &RepositoryRecords, subject: &Digest) -> io::Result<Option<Value>> {
    if records.manifest_type(subject)?.is_none() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for digest in records.manifests_held()? {
        let held = records.manifest(&digest, MANIFEST_BYTES_MAX as u64)?;
        let Some((media_type, body)) = held else { continue };
        let body = body.content();
        let Ok(manifest) = serde_json::from_slice::<Value>(body) else { continue };
        if manifest.pointer("/subject/digest").and_then(Value::as_str) != Some(subject.as_str()) {
            continue;
        }
        let (media_type, size) = (media_type.to_string(), body.len());
        let mut entry = json!({ "mediaType": media_type, "digest": digest.as_str(), "size": size });
        // The kind of an artifact is its own word, else that of its configuration
        // (distribution-spec, "Listing Referrers").
        let kind = manifest.get("artifactType").filter(|kind| kind.as_str() != Some(""));
        if let Some(kind) = kind.or(manifest.pointer("/config/mediaType")) {
            entry["artifactType"] = kind.clone();
        }
        if let Some(annotations) = manifest.get("annotations") {
            entry["annotations"] = annotations.clone();
        }
        found.push(entry);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found });
    Ok(Some(index))
}

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
