//! Which page of a list is meant: the query of `tags/list` and `referrers/<digest>`.
//!
//! `last` is opaque, and so is every key that a registry puts into its links beside those of the
//! specification. Two queries that mean the same page have the same [`PageQuery::to_query`].

use form_urlencoded::Serializer;

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageQuery {
    count: Option<u32>,
    artifact_types: Vec<String>,
    last: Option<String>,
    /// Keys that mean something to the upstream only, sorted.
    opaque: Vec<(String, String)>,
}

impl PageQuery {
    /// The most entries that are asked for at once; who wants more gets a link to the rest
    /// (CVE-2023-2253: registries allocated what `n` said).
    pub const COUNT_MAX: u32 = 10_000;

    /// The longest query that is looked at, in bytes: a filter of 8 KiB fits, encoded or not.
    pub const QUERY_LEN_MAX: usize = 32 << 10;

    /// The page of `tags/list` that a query means.
    ///
    /// # Errors
    ///
    /// [`InvalidPage`] tells what is wrong, which a key that is not known never is.
    pub fn of_tags(query: &str) -> Result<Self, InvalidPage> {
        Self::parse(query, false, false)
    }

    /// The page of `referrers/<digest>` that a query means.
    ///
    /// # Errors
    ///
    /// As [`PageQuery::of_tags`].
    pub fn of_referrers(query: &str) -> Result<Self, InvalidPage> {
        Self::parse(query, true, false)
    }

    /// The page that an upstream's own link leads to: an `n` that says nothing is left out, as an
    /// `n=0` by which the registry decides (GHCR), and the first of two counts.
    ///
    /// # Errors
    ///
    /// [`InvalidPage::TooLong`].
    pub fn of_link(query: &str, filtered: bool) -> Result<Self, InvalidPage> {
        Self::parse(query, filtered, true)
    }

    fn parse(query: &str, has_filter: bool, is_lenient: bool) -> Result<Self, InvalidPage> {
        if query.len() > Self::QUERY_LEN_MAX {
            return Err(InvalidPage::TooLong);
        }
        let mut page = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "" | "ns" => {}
                "n" if is_lenient => {
                    page.count = page.count.or(count(&value).ok().filter(|count| *count > 0));
                }
                "last" if is_lenient && page.last.is_some() => {}
                "n" if page.count.is_some() => return Err(InvalidPage::Twice("n")),
                "n" => page.count = Some(count(&value)?),
                "last" if page.last.is_some() => return Err(InvalidPage::Twice("last")),
                "last" => page.last = Some(value.into_owned()),
                "artifactType" if has_filter && value.is_empty() => {}
                "artifactType" if has_filter => page.artifact_types.push(value.into_owned()),
                _ => page.opaque.push((key.into_owned(), value.into_owned())),
            }
        }
        page.last = page.last.filter(|last| !last.is_empty());
        page.opaque.sort();
        Ok(page)
    }

    /// The same page with fewer entries, or with as many as the registry chooses, for one that
    /// refuses so many; `None` if it is not the count that can be to blame.
    pub fn with_fewer(&self) -> Option<Self> {
        let count = self.count.filter(|count| *count >= 100)?;
        let count = [1000, 100].into_iter().find(|fewer| *fewer < count);
        Some(Self { count, ..self.clone() })
    }

    /// The most entries that are asked for, if the query says so.
    pub fn count(&self) -> Option<u32> {
        self.count
    }

    /// The entry behind which the page begins.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The page of so many entries behind this one.
    #[must_use]
    pub fn behind(&self, last: &str) -> Self {
        Self { last: Some(last.to_owned()), ..self.clone() }
    }

    /// Whether no entries are asked for at all, `n=0`.
    pub fn is_of_nothing(&self) -> bool {
        self.count == Some(0)
    }

    /// Whether it has keys that only the upstream understands.
    pub fn is_opaque(&self) -> bool {
        !self.opaque.is_empty()
    }

    /// The page without the keys that only the upstream understands.
    #[must_use]
    pub fn plain(&self) -> Self {
        Self { opaque: Vec::new(), ..self.clone() }
    }

    /// As a query, encoded, in an order that does not depend on how it was written; may be empty.
    pub fn to_query(&self) -> String {
        let mut query = Serializer::new(String::new());
        if let Some(count) = self.count {
            query.append_pair("n", &count.to_string());
        }
        query.extend_pairs(self.artifact_types.iter().map(|kind| ("artifactType", kind)));
        query.extend_pairs(self.last.iter().map(|last| ("last", last)));
        query.extend_pairs(&self.opaque);
        query.finish()
    }
}

/// Why a query means no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPage {
    /// `n` is not a number.
    #[error("`n` is not a number of decimal digits")]
    Count,
    /// It is longer than [`PageQuery::QUERY_LEN_MAX`].
    #[error("the query is too long")]
    TooLong,
    /// A key that can stand there once does so twice.
    #[error("`{0}` is given more than once")]
    Twice(&'static str),
}

/// However many digits: too much is the most.
fn count(text: &str) -> Result<u32, InvalidPage> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidPage::Count);
    }
    Ok(text.parse().map_or(PageQuery::COUNT_MAX, |count: u32| count.min(PageQuery::COUNT_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_query_however_it_was_written() {
        for (query, want) in [
            ("", ""),
            ("&&=x", ""),
            ("n=5&last=b", "n=5&last=b"),
            ("last=b&ns=docker.io&n=005", "n=5&last=b"),
            ("last=", ""),
            ("n=9223372036854775807", "n=10000"),
            ("n=99999999999999999999999999", "n=10000"),
            ("n=0", "n=0"),
            ("last=..%2F..%2F", "last=..%2F..%2F"),
            ("last=%00%0d%0aLink:%20x", "last=%00%0D%0ALink%3A+x"),
            ("z=1&n=2&a=%26", "n=2&a=%26&z=1"),
            ("artifactType=x", "artifactType=x"),
        ] {
            let page = PageQuery::of_tags(query).unwrap();
            assert_eq!(page.to_query(), want, "{query}");
            assert_eq!(PageQuery::of_tags(want), Ok(page), "{query}");
        }
        assert_eq!(PageQuery::of_tags("z=1&n=2&last=c").unwrap().plain().to_query(), "n=2&last=c");
        let filters =
            PageQuery::of_referrers("last=c&artifactType=b&artifactType=a/%3Cx%3E&y").unwrap();
        assert_eq!(filters.plain().to_query(), "artifactType=b&artifactType=a%2F%3Cx%3E&last=c");
        assert!(filters.is_opaque() && !filters.plain().is_opaque());
        assert!(PageQuery::of_tags("artifactType=x").unwrap().is_opaque());
    }

    #[test]
    fn a_link_is_read_as_its_registry_means_it() {
        for (query, want) in [
            ("last=b&n=0", "last=b"),
            ("n=0", ""),
            ("n=-1&last=b", "last=b"),
            ("n=&last=b", "last=b"),
            ("n=5&n=6&last=b&last=c", "n=5&last=b"),
            ("n=x&n=6&last=&last=c", "n=6"),
            ("n=99999999999999999999&last=b", "n=10000&last=b"),
            ("next_page=t&n=2", "n=2&next_page=t"),
            ("last=b", "last=b"),
        ] {
            assert_eq!(PageQuery::of_link(query, false).unwrap().to_query(), want, "{query}");
        }
        let filtered = PageQuery::of_link("artifactType=x&last=b&n=0", true).unwrap();
        assert_eq!(filtered.to_query(), "artifactType=x&last=b");
        assert!(!filtered.is_opaque());
        let long = format!("last={}", "a".repeat(1 << 20));
        assert_eq!(PageQuery::of_link(&long, false), Err(InvalidPage::TooLong));
    }

    /// ECR and distribution refuse more than 1000, others more than 100.
    #[test]
    fn a_page_that_is_refused_is_asked_for_with_fewer_entries_until_the_registry_chooses() {
        let mut page = PageQuery::of_tags("n=10000&last=b").unwrap();
        let mut tried = Vec::new();
        while let Some(fewer) = page.with_fewer() {
            tried.push(fewer.to_query());
            page = fewer;
        }
        assert_eq!(tried, ["n=1000&last=b", "n=100&last=b", "last=b"]);
        for other in ["n=99", "n=0", "", "last=b"] {
            assert_eq!(PageQuery::of_tags(other).unwrap().with_fewer(), None, "{other}");
        }
    }

    #[test]
    fn a_count_is_digits_and_stands_once() {
        for bad in ["-1", "0x10", "%D9%A3", "1e9", "", "+1", "1.0", "%201"] {
            assert_eq!(PageQuery::of_tags(&format!("n={bad}")), Err(InvalidPage::Count), "{bad}");
        }
        assert_eq!(PageQuery::of_tags("n=5&n=6"), Err(InvalidPage::Twice("n")));
        assert_eq!(PageQuery::of_tags("last=a&last=b"), Err(InvalidPage::Twice("last")));
        let long = format!("last={}", "a".repeat(1 << 20));
        assert_eq!(PageQuery::of_tags(&long), Err(InvalidPage::TooLong));
    }
}
