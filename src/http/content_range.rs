//! The `Content-Range` of an answer (RFC 9110, 14.4).
//!
//! Only reads what an upstream says. Whether that is what was asked for is decided by the asker.

use std::str::FromStr;

/// `bytes first-last/total` or `bytes */total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first and the last byte, both included; `None` in a 416.
    pub bytes: Option<(u64, u64)>,
    /// The whole length, if it told.
    pub total: Option<u64>,
}

impl FromStr for ContentRange {
    type Err = InvalidContentRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (unit, rest) = text.trim().split_once(' ').ok_or(InvalidContentRange)?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return Err(InvalidContentRange);
        }
        let (bytes, total) = rest.trim_start().split_once('/').ok_or(InvalidContentRange)?;
        let total = if total == "*" { None } else { Some(number(total)?) };
        if bytes == "*" {
            return Ok(Self { bytes: None, total });
        }
        let (first, last) = bytes.split_once('-').ok_or(InvalidContentRange)?;
        let (first, last) = (number(first)?, number(last)?);
        if first > last || total.is_some_and(|total| last >= total) {
            return Err(InvalidContentRange);
        }
        Ok(Self { bytes: Some((first, last)), total })
    }
}

/// `parse` alone would also take `+5`.
fn number(text: &str) -> Result<u64, InvalidContentRange> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidContentRange);
    }
    text.parse().map_err(|_| InvalidContentRange)
}

/// The text is not a `Content-Range` of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a range of bytes")]
pub struct InvalidContentRange;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_exactly_or_not_at_all() {
        let range = |bytes, total| Ok(ContentRange { bytes, total });
        assert_eq!("bytes 5-9/10".parse(), range(Some((5, 9)), Some(10)));
        assert_eq!("Bytes 0-0/*".parse(), range(Some((0, 0)), None));
        assert_eq!("bytes */0".parse(), range(None, Some(0)));
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
            assert_eq!(bad.parse::<ContentRange>(), Err(InvalidContentRange), "{bad:?}");
        }
    }
}
