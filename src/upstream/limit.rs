//! Whether an answer limits us, and for how long.

use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

/// Whether an answer limits us: 429, or a 503 that names a time.
pub(super) fn is_limit(status: StatusCode, headers: &HeaderMap) -> bool {
    match status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::SERVICE_UNAVAILABLE => headers.contains_key(RETRY_AFTER),
        _ => false,
    }
}

/// `Retry-After` in either form, within our bounds. A date is compared with the answer's own
/// `Date`: the two clocks need not agree.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        let then = httpdate::parse_http_date(text).ok()?;
        then.duration_since(now).unwrap_or_default()
    };
    Some(wait.clamp(WAIT_MIN, WAIT_MAX))
}

/// The limit that Docker Hub states with each manifest: `ratelimit-limit: 100;w=21600` and
/// `ratelimit-remaining: 20;w=21600`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateAllowance {
    /// How many requests are allowed in a window.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: Option<u64>,
    /// How long a window is.
    pub window: Option<Duration>,
}

impl RateAllowance {
    /// The sum of both, as far as they say it; the window is the first that is known.
    pub(super) fn and(self, other: Self) -> Self {
        let sum =
            |one: Option<u64>, other| one.into_iter().chain(other).reduce(u64::saturating_add);
        Self {
            limit: sum(self.limit, other.limit),
            remaining: sum(self.remaining, other.remaining),
            window: self.window.or(other.window),
        }
    }
}

/// The allowance that an answer states; `None` if it states none, as when there is no limit.
pub(super) fn allowance(headers: &HeaderMap) -> Option<RateAllowance> {
    let (limit, of_limit) = quantity(headers, "ratelimit-limit").unzip();
    let (remaining, of_rest) = quantity(headers, "ratelimit-remaining").unzip();
    let window = of_limit.flatten().or(of_rest.flatten()).map(Duration::from_secs);
    limit.or(remaining).map(|_| RateAllowance { limit, remaining, window })
}

/// `<number>`, or `<number>;w=<seconds>` among other parameters.
fn quantity(headers: &HeaderMap, name: &str) -> Option<(u64, Option<u64>)> {
    let mut parts = headers.get(name)?.to_str().ok()?.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    Some((number, parts.find_map(|part| part.strip_prefix("w=")?.parse().ok())))
}

/// The shortest and the longest that a `Retry-After` is believed.
pub(super) const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_wait_is_read_in_both_forms_and_kept_within_bounds() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (text, want) in [
            ("30", Some(30)),
            ("0", Some(1)),
            ("1000000000", Some(900)),
            ("99999999999999999999", Some(900)),
            ("-1", None),
            ("", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 07:00:00 GMT", Some(1)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(900)),
        ] {
            let wait = retry_after(&headers(&[("retry-after", text), date]));
            assert_eq!(wait, want.map(Duration::from_secs), "{text:?}");
        }
        let undated = headers(&[("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")]);
        assert_eq!(retry_after(&undated), None);
    }

    #[test]
    fn docker_hub_says_how_many_pulls_are_left() {
        let all = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", " 20 ; x=1; w=60")];
        let said = |limit, remaining, window: Option<u64>| {
            Some(RateAllowance { limit, remaining, window: window.map(Duration::from_secs) })
        };
        assert_eq!(allowance(&headers(&all)), said(Some(100), Some(20), Some(21600)));
        assert_eq!(allowance(&headers(&all[1..])), said(None, Some(20), Some(60)));
        let bare = [("ratelimit-limit", "100"), ("ratelimit-remaining", "-1;w=5")];
        assert_eq!(allowance(&headers(&bare)), said(Some(100), None, None));
        assert_eq!(allowance(&headers(&[("ratelimit-limit", "unlimited")])), None);
        assert_eq!(allowance(&headers(&[])), None);

        let both = said(Some(100), Some(20), None).unwrap();
        let sum = both.and(said(Some(200), None, Some(60)).unwrap());
        assert_eq!(Some(sum), said(Some(300), Some(20), Some(60)));
    }
}
