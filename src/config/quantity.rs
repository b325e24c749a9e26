//! Sizes and durations: texts to numbers, with the reasons why not.

use std::time::Duration;

use bytesize::ByteSize;

use super::diagnostics::{ValueFault, quoted};
use crate::store::SpaceAmount;

/// Whether nothing at all is a meaningful amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroRule {
    Meaningful,
    Rejected,
}

/// Bytes, as in `64MiB` (of 1024) or `64MB` (of 1000).
pub(super) fn size(text: &str, zero: ZeroRule) -> Result<u64, ValueFault> {
    const HINT: &str = "write a number and a unit, such as `64MiB` (64 times 1024 times 1024 \
                        bytes) or `64MB` (64 million bytes)";
    let text = text.trim();
    let bytes = text.parse::<ByteSize>().ok().map(|size| size.0);
    // A bare number would be bytes, which an operator who writes `64` does not mean.
    let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic()) || text == "0";
    match bytes {
        Some(0) if zero == ZeroRule::Rejected => {
            Err(ValueFault::new(format!("{} is nothing", quoted(text)))
                .hint("it must be more than 0"))
        }
        // The parser stops at the largest number instead of refusing what is larger.
        Some(u64::MAX) => Err(ValueFault::new(format!("{} is too much", quoted(text)))),
        Some(bytes) if has_unit => Ok(bytes),
        Some(_) => Err(ValueFault::new(format!("{} has no unit", quoted(text))).hint(HINT)),
        None => Err(ValueFault::new(format!("{} is not a size", quoted(text))).hint(HINT)),
    }
}

/// Bytes as in [`size`], or hundredths of a file system, as in `80%`.
pub(super) fn space(text: &str) -> Result<SpaceAmount, ValueFault> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        return size(text, ZeroRule::Meaningful).map(SpaceAmount::Bytes);
    };
    let percent = percent.trim().parse().ok().filter(|percent| *percent <= 100);
    percent.map(SpaceAmount::Percent).ok_or_else(|| {
        ValueFault::new(format!("{} is not a whole number from 0% to 100%", quoted(text)))
    })
}

/// A time, as in `90s`, `1h 30m` or `30d`.
pub(super) fn duration(text: &str, zero: ZeroRule) -> Result<Duration, ValueFault> {
    let too_long =
        || ValueFault::new(format!("{} is too long", quoted(text))).hint("at most `100years`");
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) if zero == ZeroRule::Rejected => {
            Err(ValueFault::new(format!("{} is nothing", quoted(text)))
                .hint("it must be more than 0"))
        }
        Ok(duration) if duration > DURATION_MAX => Err(too_long()),
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::NumberOverflow) => Err(too_long()),
        Err(_) => Err(ValueFault::new(format!("{} is not a duration", quoted(text)))
            .hint("write a number and a unit, such as `500ms`, `30s`, `5m`, `12h` or `30d`")),
    }
}

/// Added to any clock this overflows nothing, and it is longer than any real duration.
const DURATION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_fit() {
        let good = [
            ("64MiB", 64 << 20),
            ("64MB", 64_000_000),
            ("64M", 64_000_000),
            ("64Mi", 64 << 20),
            (" 1.5 GiB ", 3 << 29),
            ("512B", 512),
            ("0", 0),
        ];
        for (text, want) in good {
            assert_eq!(size(text, ZeroRule::Meaningful).ok(), Some(want), "{text}");
        }
        let bad = [
            ("", "is not a size"),
            ("10XB", "is not a size"),
            ("-1", "is not a size"),
            ("-1MiB", "is not a size"),
            ("1e99 TiB", "is not a size"),
            ("1e99", "is not a size"),
            ("MiB", "is not a size"),
            ("1.2.3MiB", "is not a size"),
            ("64", "has no unit"),
            ("99999999EiB", "is too much"),
            ("99999999999999999999999B", "is too much"),
            ("0", "is nothing"),
            ("0MiB", "is nothing"),
        ];
        for (text, want) in bad {
            let fault = size(text, ZeroRule::Rejected).expect_err(text);
            assert!(fault.what.ends_with(want), "{text}: {}", fault.what);
        }
    }

    #[test]
    fn space_is_a_size_or_a_share_of_the_file_system() {
        let good = [
            ("20GiB", SpaceAmount::Bytes(20 << 30)),
            ("80%", SpaceAmount::Percent(80)),
            (" 5 % ", SpaceAmount::Percent(5)),
            ("100%", SpaceAmount::Percent(100)),
            ("0", SpaceAmount::Bytes(0)),
        ];
        for (text, want) in good {
            assert_eq!(space(text).ok(), Some(want), "{text}");
        }
        for text in ["101%", "-1%", "1.5%", "%", "a%", "80", "80%%"] {
            assert!(space(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_fit() {
        let good = [
            ("30s", 30),
            ("1h 30m", 5400),
            ("1d", 86400),
            ("0s", 0),
            ("100years", 100 * 31_557_600),
        ];
        for (text, want) in good {
            let want = Some(Duration::from_secs(want));
            assert_eq!(duration(text, ZeroRule::Meaningful).ok(), want, "{text}");
        }
        let bad = [
            ("", "is not a duration"),
            ("-5s", "is not a duration"),
            ("5", "is not a duration"),
            ("5 parsecs", "is not a duration"),
            ("1e3s", "is not a duration"),
            ("100000000000000000000", "is too long"),
            ("100000000000000000000s", "is too long"),
            ("101years", "is too long"),
            ("0s", "is nothing"),
            ("0ms 0s", "is nothing"),
        ];
        for (text, want) in bad {
            let fault = duration(text, ZeroRule::Rejected).expect_err(text);
            assert!(fault.what.ends_with(want), "{text}: {}", fault.what);
        }
    }
}
