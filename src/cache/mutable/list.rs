//! Lists as they are served, and what an upstream's answer has to be to become one.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::http::next_query;
use crate::oci::{Digest, InvalidPage, PageQuery, Resource, is_error, members};
use crate::store::ListRecord;

/// Which list of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// `referrers/<digest>`
    Referrers(Digest),
    /// `tags/list`
    Tags,
}

/// A page of a list. The bytes are the upstream's own, with the upstream's `name` in them: the
/// client knows by which name it asked.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// Its `Content-Type`.
    pub media_type: String,
    /// `OCI-Filters-Applied`, if the upstream said so.
    pub filters_applied: Option<String>,
    /// The page behind it.
    pub next: Option<PageQuery>,
    /// A JSON object.
    pub body: Bytes,
}

impl ListKind {
    /// Its path in the repository.
    pub fn path(&self) -> String {
        self.resource().path()
    }

    /// The page that a query means.
    pub fn page(&self, query: &str) -> Result<PageQuery, InvalidPage> {
        match self {
            Self::Referrers(_) => PageQuery::of_referrers(query),
            Self::Tags => PageQuery::of_tags(query),
        }
    }

    pub(in crate::cache) fn resource(&self) -> Resource {
        match self {
            Self::Referrers(digest) => Resource::Referrers(digest.clone()),
            Self::Tags => Resource::Tags,
        }
    }

    /// The media type to ask for, and of an answer that states none.
    pub(in crate::cache) fn media_type(&self) -> &'static str {
        match self {
            Self::Referrers(_) => "application/vnd.oci.image.index.v1+json",
            Self::Tags => "application/json",
        }
    }

    /// The name under which a page is kept.
    pub(in crate::cache) fn name(&self, page: &PageQuery) -> String {
        match page.to_query() {
            query if query.is_empty() => self.path(),
            query => format!("{}?{query}", self.path()),
        }
    }

    /// Reads an upstream's answer to the question for `page`.
    pub(in crate::cache) fn read(
        &self,
        page: &PageQuery,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<ListPage, &'static str> {
        self.check(&body)?;
        let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
        let media_type = text(CONTENT_TYPE.as_str()).filter(|text| is_json(text));
        let media_type = media_type.unwrap_or_else(|| self.media_type().to_owned());
        let next = match next_query(headers) {
            None => None,
            // Without the link the list would look complete.
            Some(query) => match PageQuery::of_link(&query, matches!(self, Self::Referrers(_))) {
                Ok(next) if next != *page && next != PageQuery::default() => Some(next),
                Ok(_) => return Err("the link to its next page leads nowhere"),
                Err(_) => return Err("the link to its next page is unusable"),
            },
        };
        Ok(ListPage { media_type, filters_applied: text(FILTERS_APPLIED), next, body })
    }

    /// Whether a body is a list. An HTML page is none, nor half a list, nor the error that a
    /// gateway sends with a 200.
    fn check(&self, body: &[u8]) -> Result<(), &'static str> {
        const NOT_JSON: &str = "it is no list: not a JSON object";
        // Annotations of referrers may have bytes that are not UTF-8.
        let json = String::from_utf8_lossy(body);
        let entries = if *self == Self::Tags { "tags" } else { "manifests" };
        let [entries] = members(&json, &[entries]).map_err(|_| NOT_JSON)?;
        if entries.is_none() && is_error(&json) {
            return Err("it is no list but an error");
        }
        Ok(())
    }

    /// A list that was kept.
    pub(in crate::cache) fn restore(&self, record: ListRecord) -> ListPage {
        let next = record.next.as_deref().and_then(|query| self.page(query).ok());
        let ListRecord { media_type, filters_applied, body, .. } = record;
        ListPage { media_type, filters_applied, next, body }
    }
}

/// Whether a browser that is led here would see no page in it.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.to_ascii_lowercase().ends_with("json")
}

const FILTERS_APPLIED: &str = "oci-filters-applied";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(query: &str, headers: &[(&'static str, &'static str)], body: &str) -> String {
        let headers =
            headers.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v)));
        let page = ListKind::Tags.page(query).unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes());
        match ListKind::Tags.read(&page, &headers.collect(), body) {
            Ok(list) => {
                let next = list.next.map(|next| next.to_query()).unwrap_or_default();
                format!("{} {next}", list.media_type)
            }
            Err(reason) => reason.to_owned(),
        }
    }

    #[test]
    fn a_list_is_a_json_object_whose_next_page_is_another_one() {
        let link = |text| [("link", text)];
        assert_eq!(read("", &[], "{}"), "application/json ");
        assert_eq!(read("", &[("content-type", "a/x+JSON; q")], "{}"), "a/x+JSON; q ");
        assert_eq!(read("", &[("content-type", "text/html")], "{}"), "application/json ");
        assert_eq!(read("n=1", &link("<?n=1&last=b&x=y>;rel=next"), "{}"), {
            "application/json n=1&last=b&x=y"
        });
        for body in ["", "[]", "null", "<html>", "{", "{}x"] {
            assert!(read("", &[], body).contains("not a JSON object"), "{body}");
        }
        for error in [
            r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#,
            r#"{"errors":null}"#,
            r#"{"name":"a","error":"quota"}"#,
            r#"{"message":"x"}"#,
        ] {
            assert!(read("", &[], error).contains("an error"), "{error}");
        }
        for list in [r#"{"name":"a"}"#, r#"{"errors":[],"tags":null}"#, r#"{"tags":[{}],"x":[]}"#] {
            assert_eq!(read("", &[], list), "application/json ", "{list}");
        }
        assert_eq!(read("n=1", &link("<?last=b&n=0>;rel=next"), "{}"), "application/json last=b");
        for nowhere in ["<>;rel=next", "</v2/x>;rel=next", "<?last=b&n=1>;rel=next"] {
            assert!(read("n=1&last=b", &link(nowhere), "{}").contains("nowhere"), "{nowhere}");
        }
        for nowhere in ["<?n=-1>;rel=next", "<?n=0>;rel=next", "<?n=0>"] {
            assert!(read("", &link(nowhere), "{}").contains("nowhere"), "{nowhere}");
        }
    }
}
