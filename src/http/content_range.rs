//! The `Content-Range` of an answer (RFC 9110, 14.4).
//!
//! Only reads what an upstream says. Whether that is what was asked for is decided by the asker.

use http::HeaderMap;
use http::header::CONTENT_RANGE;

/// `bytes first-last/total` or `bytes */total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first and the last byte, both included; `None` in a 416.
    pub bytes: Option<(u64, u64)>,
    /// The whole length, in bytes, if it told.
    pub total: Option<u64>,
}

impl ContentRange {
    /// The range that `headers` give; `None` for none, and for one that is not of bytes.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (bytes, total) = rest.trim_start().split_once('/')?;
        let total = if total == "*" { None } else { Some(number(total)?) };
        if bytes == "*" {
            return Some(Self { bytes: None, total });
        }
        let (first, last) = bytes.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        if first > last || total.is_some_and(|total| last >= total) {
            return None;
        }
        Some(Self { bytes: Some((first, last)), total })
    }
}

/// `parse` alone would also take `+5`.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_exactly_or_not_at_all() {
        let range = |bytes, total| Some(ContentRange { bytes, total });
        assert_eq!(ContentRange::parse("bytes 5-9/10"), range(Some((5, 9)), Some(10)));
        assert_eq!(ContentRange::parse("Bytes 0-0/*"), range(Some((0, 0)), None));
        assert_eq!(ContentRange::parse("bytes */0"), range(None, Some(0)));
        for bad in [
            "",
            "bytes",
            "bytes 5-9",
            "bytes 5/10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes -5-9/10",
            "bytes +5-9/10",
            "bytes 5-/10",
            "bytes 5-9/-",
            "bytes 5-9/99999999999999999999",
            "items 5-9/10",
            "bytes=5-9/10",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad:?}");
        }
    }
}
