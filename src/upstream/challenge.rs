//! The challenge of an upstream: reads `WWW-Authenticate` (RFC 9110, 11.6.1).
//!
//! There may be several lines, several challenges in a line, schemes in any case, and schemes
//! that we do not speak, first. This file picks one. Whether the realm it names may be asked is
//! decided in `realm`.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;

/// The longest line that is read, in bytes. Real ones take some hundred.
const LINE_LEN_MAX: usize = 8 * 1024;

/// The most lines, and the most challenges in each, that are looked at.
const CHALLENGES_MAX: usize = 32;

/// A challenge that we can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChallengeOffer {
    /// User and password with each request.
    Basic,
    /// A token, to be had at a URL.
    Bearer {
        /// The URL, as it was written.
        realm: String,
        /// The service that the token is to be for.
        service: Option<String>,
    },
}

/// The fault of a token that was shown (RFC 6750, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenFault {
    /// It is good, and does not allow what was asked.
    InsufficientScope,
    /// It is expired, malformed, not valid yet, or signed with an unknown key.
    InvalidToken,
}

/// The fault that a Bearer challenge names; `None` if it names none.
pub(super) fn token_fault(headers: &HeaderMap) -> Option<TokenFault> {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter().take(CHALLENGES_MAX);
    let mut lines = lines.filter_map(|line| line.to_str().ok());
    lines.find_map(|line| {
        let parsed = ChallengeParser::new(line).take(CHALLENGES_MAX).filter_map(Result::ok);
        let mut bearer = parsed.filter(|it| it.scheme.eq_ignore_ascii_case("bearer"));
        match &*bearer.find_map(|it| parameter(&it, "error"))? {
            "insufficient_scope" => Some(TokenFault::InsufficientScope),
            "invalid_token" => Some(TokenFault::InvalidToken),
            _ => None,
        }
    })
}

/// The best challenge in `headers`: Bearer before Basic, the first of each.
pub(super) fn read(headers: &HeaderMap) -> Option<ChallengeOffer> {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter().take(CHALLENGES_MAX);
    let offers: Vec<_> = lines
        .filter_map(|line| line.to_str().ok())
        .filter(|line| line.len() <= LINE_LEN_MAX)
        .flat_map(read_line)
        .collect();
    let bearer = offers.iter().find(|offer| matches!(offer, ChallengeOffer::Bearer { .. }));
    bearer.or_else(|| offers.first()).cloned()
}

/// The parser stops at what the grammar does not have, as `Negotiate dG9rZW4=`; the challenges
/// behind it are found by starting anew after the next comma.
fn read_line(line: &str) -> Vec<ChallengeOffer> {
    let mut rest = line;
    for _ in 0..CHALLENGES_MAX {
        let parsed: Vec<_> = ChallengeParser::new(rest).take(CHALLENGES_MAX).collect();
        let is_clean = parsed.iter().all(Result::is_ok);
        let offers: Vec<_> = parsed.iter().flatten().filter_map(offer).collect();
        match rest.split_once(',') {
            Some((_, behind)) if !is_clean && offers.is_empty() => rest = behind.trim_start(),
            _ => return offers,
        }
    }
    Vec::new()
}

fn offer(challenge: &ChallengeRef<'_>) -> Option<ChallengeOffer> {
    if challenge.scheme.eq_ignore_ascii_case("basic") {
        return Some(ChallengeOffer::Basic);
    }
    if !challenge.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let [realm, service] = ["realm", "service"].map(|name| parameter(challenge, name));
    Some(ChallengeOffer::Bearer { realm: realm?, service })
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_unescaped())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read_lines(lines: &[&str]) -> Option<ChallengeOffer> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        read(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> ChallengeOffer {
        ChallengeOffer::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn bearer_is_found_wherever_it_stands_and_however_it_is_written() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#;
        assert_eq!(
            read_lines(&[hub]),
            Some(bearer("https://auth.docker.io/token", Some("registry.docker.io")))
        );
        let found = Some(bearer("https://a.test/t", None));
        for lines in [
            &[r#"bEARER Realm="https://a.test/t""#][..],
            &["Bearer realm=\"https://a.test/t\" , error=\"invalid_token\""],
            &[r#"Negotiate, Basic realm="x", Bearer realm="https://a.test/t""#],
            &[r#"Negotiate dG9rZW4=, Bearer realm="https://a.test/t""#],
            &["Negotiate", r#"Basic realm="x""#, r#"Bearer realm="https://a.test/t""#],
            &["\u{1f600}", r#"Bearer realm="https://a.test/t""#],
            &[r#"Bearer realm="https:\/\/a.test/t""#],
        ] {
            assert_eq!(read_lines(lines), found, "{lines:?}");
        }
    }

    #[test]
    fn basic_is_second_best_and_the_rest_is_nothing() {
        assert_eq!(read_lines(&[r#"BASIC realm="x""#]), Some(ChallengeOffer::Basic));
        assert_eq!(read_lines(&["Basic"]), Some(ChallengeOffer::Basic));
        assert_eq!(read_lines(&[r#"Bearer service="x""#, "Basic"]), Some(ChallengeOffer::Basic));
        let long = format!("Bearer realm=\"https://a.test/{}\"", "a".repeat(1 << 20));
        let many = format!("{}Basic", "Negotiate, ".repeat(1000));
        for lines in [
            &[][..],
            &[""],
            &["Negotiate"],
            &["Digest realm=\"x\", nonce=\"y\""],
            &["Bearer"],
            &["Bearer realm=\"https://a.test/t"],
            &["Bearerrealm=\"https://a.test/t\""],
            &[long.as_str()],
            &[many.as_str()],
        ] {
            assert_eq!(read_lines(lines), None, "{:.60}", format!("{lines:?}"));
        }
    }

    #[test]
    fn the_fault_of_a_token_is_read_from_a_bearer_challenge_only() {
        let (scope, invalid) =
            (Some(TokenFault::InsufficientScope), Some(TokenFault::InvalidToken));
        for (line, want) in [
            (r#"Bearer realm="x",error="insufficient_scope""#, scope),
            (r#"bearer error=insufficient_scope, realm="x""#, scope),
            (r#"Bearer realm="x",service="y",scope="z",error="invalid_token""#, invalid),
            (r#"Basic realm="x", Bearer realm="x", ERROR="invalid_token""#, invalid),
            (r#"Bearer realm="x",error="invalid_request""#, None),
            (r#"Bearer realm="error=invalid_token""#, None),
            (r#"Basic realm="x",error="invalid_token""#, None),
            (r#"Bearer realm="x""#, None),
            ("Negotiate", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, line.parse().unwrap())]);
            assert_eq!(token_fault(&headers), want, "{line}");
        }
    }
}
