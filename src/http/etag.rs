//! Conditional requests, where the entity tag of everything is its digest.

use http::HeaderMap;
use http::header::{IF_NONE_MATCH, IF_RANGE};

/// Whether `If-None-Match` names this tag (RFC 9110, 13.1.2: a weak comparison), so that the
/// client has what it asks for.
pub fn etag_matches(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|line| line.to_str().ok()).any(|line| {
        line.split(',').map(str::trim).any(|item| {
            let item = item.strip_prefix("W/").unwrap_or(item);
            item == "*" || unquoted(item) == tag
        })
    })
}

/// Whether a range may be given: there is no `If-Range`, or it names this tag (RFC 9110, 13.1.5: a
/// strong comparison; a date never matches).
pub fn range_applies(headers: &HeaderMap, tag: &str) -> bool {
    headers.get(IF_RANGE).is_none_or(|value| value.to_str().is_ok_and(|text| unquoted(text) == tag))
}

fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_tag_matches_itself_in_a_list_and_nothing_else() {
        let matches = |value| etag_matches(&headers(IF_NONE_MATCH, value), "sha256:a");
        assert!(matches("\"sha256:a\"") && matches("W/\"sha256:a\"") && matches("*"));
        assert!(matches("\"x\", \"sha256:a\"") && matches("sha256:a"));
        assert!(!matches("\"sha256:b\"") && !matches(""));
        assert!(!etag_matches(&HeaderMap::new(), "sha256:a"));
    }

    #[test]
    fn a_range_is_given_unless_another_version_was_begun() {
        let applies = |value| range_applies(&headers(IF_RANGE, value), "sha256:a");
        assert!(applies("\"sha256:a\"") && range_applies(&HeaderMap::new(), "sha256:a"));
        assert!(!applies("\"wrong\"") && !applies("W/\"sha256:a\""));
        assert!(!applies("Wed, 21 Oct 2015 07:28:00 GMT"));
    }
}
