//! The link to the next page (RFC 8288), as registries write it.
//!
//! Only its query is ever used: which list it belongs to is known, and where a page is served is
//! decided by the door that the client came in by. So no client is led to the host or path that a
//! link names.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::LINK;

/// The query of the first link whose relation is `next`, or that has no brackets or no relation:
/// clients follow that too.
pub fn next_query(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).into_iter().find_map(|line| {
        let line = String::from_utf8_lossy(line.as_bytes());
        let target = next_target(&line).or_else(|| bare_target(&line))?;
        let target = target.split('#').next().unwrap_or_default();
        Some(target.split_once('?').map_or("", |(_, query)| query).to_owned())
    })
}

fn next_target(line: &str) -> Option<&str> {
    let mut rest = line;
    loop {
        let (_, tail) = rest.split_once('<')?;
        let (target, parameters) = tail.split_once('>')?;
        let (is_next, behind) = read_parameters(parameters);
        if is_next {
            return Some(target.trim());
        }
        rest = behind;
    }
}

fn bare_target(line: &str) -> Option<&str> {
    let (target, parameters) = line.split_at(line.find(';').unwrap_or(line.len()));
    let is_bare = !parameters.contains("rel") || read_parameters(parameters).0;
    (is_bare && target.contains('?')).then(|| target.trim_matches([' ', '<', '>']))
}

/// Whether one of a link's parameters says `next`, and what stands behind them all.
fn read_parameters(mut rest: &str) -> (bool, &str) {
    let mut is_next = false;
    while let Some(parameter) = rest.trim_start().strip_prefix(';') {
        let end = parameter.find(['=', ';', ',']).unwrap_or(parameter.len());
        let (name, tail) = parameter.split_at(end);
        let (value, tail) = match tail.strip_prefix('=') {
            Some(tail) => read_value(tail.trim_start()),
            None => (Cow::Borrowed(""), tail),
        };
        is_next |= name.trim().eq_ignore_ascii_case("rel")
            && value.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case("next"));
        rest = tail;
    }
    (is_next, rest)
}

/// A token or a quoted string, and what stands behind it.
fn read_value(text: &str) -> (Cow<'_, str>, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        return (text[..end].trim().into(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value.into(), &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            char => value.push(char),
        }
    }
    (value.into(), "")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn query(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(LINK, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        next_query(&headers)
    }

    #[test]
    fn the_query_of_the_next_link_is_taken_however_a_registry_writes_it() {
        for (line, want) in [
            (r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("n=2&last=b")),
            ("<https://evil.test/x?last=b#f>;rel=next", Some("last=b")),
            (r#"<?last=b>; title="a, <b>; rel=prev"; REL="prev Next""#, Some("last=b")),
            (r#"<?last=a>; rel="prev", <?last=b>; rel="next""#, Some("last=b")),
            (r#"<?a>; title="\"; rel=next"; x; rel=prev"#, None),
            ("<?last=b;c,d>; rel=next", Some("last=b;c,d")),
            ("<javascript:alert(1)>; rel=next", Some("")),
            ("<>; rel=next", Some("")),
            ("<?last=b>", Some("last=b")),
            ("?last=b; rel=next", Some("last=b")),
            ("/v2/a/tags/list?last=b&n=2", Some("last=b&n=2")),
            (r#"https://x.test/v2/a/tags/list?n=2&last=b;rel="next""#, Some("n=2&last=b")),
            ("<?last=b; rel=next", Some("last=b")),
            ("?last=b; rel=prev", None),
            (r#"<?last=b>; rel="help""#, None),
            (", ,", None),
            ("", None),
            ("<?last=ä>; rel=next", Some("last=ä")),
            (r#"<?last=b>; rel="next"#, Some("last=b")),
        ] {
            assert_eq!(query(&[line]).as_deref(), want, "{line}");
        }
        assert_eq!(query(&["<?a>; rel=prev", "<?b>; rel=next"]).as_deref(), Some("b"));
        assert_eq!(query(&["<?a>", "<?b>"]).as_deref(), Some("a"));
        assert_eq!(query(&[]), None);
    }
}
