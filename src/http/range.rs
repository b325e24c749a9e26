//! Byte ranges (RFC 9110, section 14), decided from the header's text and the length alone.

use std::ops::Range;

/// What a `Range` header asks of something that is `len` bytes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeSelection {
    /// Several ranges, in the order they were asked for: clients that ask so (zstd:chunked) count
    /// on the order and the number, so nothing is merged. All within the length, none empty.
    Parts(Vec<Range<u64>>),
    /// One range, within the length, not empty.
    Part(Range<u64>),
    /// More ranges than are given in one answer, or more bytes than there are.
    TooMuch,
    /// Nothing of it exists: 416.
    Unsatisfiable,
    /// Everything: no header, another unit, or no sense in it.
    Whole,
}

/// The most ranges in one answer. Lazy pullers ask for up to a thousand chunks at once.
pub const RANGES_MAX: usize = 1024;

impl RangeSelection {
    /// Decides. All arithmetic saturates: a number too large for `u64` is a number behind the
    /// end.
    ///
    /// An inverted range (`500-0`) may be ignored by RFC 9110 but is 416 in the OCI conformance
    /// programme, so it is 416 here. Of several ranges those that cannot be satisfied are left
    /// out (RFC 9110, 14.1.2).
    pub fn of(header: &str, len: u64) -> Self {
        let Some(set) = strip_unit(header) else { return Self::Whole };
        let mut parts = Vec::new();
        let mut count = 0;
        for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
            count += 1;
            if count > RANGES_MAX {
                return Self::TooMuch;
            }
            let Some(spec) = RangeSpec::parse(spec) else { return Self::Whole };
            parts.extend(spec.within(len));
        }
        let bytes = parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add);
        match <[_; 1]>::try_from(parts) {
            Ok([part]) => Self::Part(part),
            Err(parts) if parts.is_empty() => Self::Unsatisfiable,
            // One request must not make more of a blob than there is.
            Err(_) if bytes > len => Self::TooMuch,
            Err(parts) => Self::Parts(parts),
        }
    }
}

#[derive(Clone, Copy)]
enum RangeSpec {
    /// `first-last`, `last` being the greatest number when it is open.
    From(u64, u64),
    /// `-count`
    Suffix(u64),
}

impl RangeSpec {
    fn parse(spec: &str) -> Option<Self> {
        let (first, last) = spec.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", count) => number(count).map(Self::Suffix),
            (first, "") => Some(Self::From(number(first)?, u64::MAX)),
            (first, last) => Some(Self::From(number(first)?, number(last)?)),
        }
    }

    fn within(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Suffix(count) => len.saturating_sub(count)..len,
            Self::From(first, last) => first..last.saturating_add(1).min(len),
        };
        (range.start < range.end).then_some(range)
    }
}

fn strip_unit(header: &str) -> Option<&str> {
    let (unit, set) = header.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(set)
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::RangeSelection::{Part, Parts, TooMuch, Unsatisfiable, Whole};
    use super::*;

    #[test]
    fn every_kind_of_range_gets_its_answer() {
        let table = [
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-", Part(0..100)),
            ("bytes=-1", Part(99..100)),
            ("bytes=-500", Part(0..100)),
            ("bytes=-0", Unsatisfiable),
            ("bytes=100-", Unsatisfiable),
            ("bytes=99-", Part(99..100)),
            ("bytes=5-3", Unsatisfiable),
            ("bytes=500-0", Unsatisfiable),
            ("bytes=", Unsatisfiable),
            ("bytes=-", Whole),
            ("bytes=abc", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-18446744073709551615", Part(0..100)),
            ("bytes=18446744073709551616-", Unsatisfiable),
            ("bytes=-17208,-9223372036854758792", TooMuch),
            ("bytes=0-9,5-15", Parts(vec![0..10, 5..16])),
            ("bytes=50-59, 0-0 ,-1", Parts(vec![50..60, 0..1, 99..100])),
            ("bytes=0-9,200-300", Part(0..10)),
            ("bytes=200-,300-", Unsatisfiable),
            ("bytes=0-,0-", TooMuch),
            ("bytes=0-1,x", Whole),
            ("Bytes = 1 - 2 ", Part(1..3)),
            ("items=0-5", Whole),
            ("nonsense", Whole),
        ];
        for (header, want) in table {
            assert_eq!(RangeSelection::of(header, 100), want, "{header}");
        }
        assert_eq!(RangeSelection::of("bytes=0-", 0), Unsatisfiable);
        assert_eq!(RangeSelection::of("bytes=-5", 0), Unsatisfiable);
    }

    #[test]
    fn there_are_only_so_many_ranges_in_one_answer() {
        let header = |count| format!("bytes={}", vec!["0-0"; count].join(","));
        assert!(matches!(RangeSelection::of(&header(RANGES_MAX), 1 << 20), Parts(_)));
        assert_eq!(RangeSelection::of(&header(RANGES_MAX + 1), 1 << 20), TooMuch);
    }
}
