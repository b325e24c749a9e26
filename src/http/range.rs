//! Byte ranges (RFC 9110, section 14), decided from the header's text and the length alone.

use std::ops::Range;

/// What a `Range` header asks of something that is `len` bytes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// More ranges than we give in one answer.
    Many,
    /// One range, within the length, not empty.
    Part(Range<u64>),
    /// Nothing of it exists: 416.
    Unsatisfiable,
    /// Everything: no header, another unit, or no sense in it.
    Whole,
}

impl Selection {
    /// Decides. All arithmetic saturates: a number too large for `u64` is a number behind the
    /// end.
    ///
    /// An inverted range (`500-0`) may be ignored by RFC 9110 but is 416 in the OCI conformance
    /// programme, so it is 416 here.
    pub fn of(header: &str, len: u64) -> Self {
        let Some(set) = strip_unit(header) else { return Self::Whole };
        let mut specs = set.split(',').map(str::trim).filter(|spec| !spec.is_empty());
        let Some(spec) = specs.next() else { return Self::Unsatisfiable };
        if specs.next().is_some() {
            return Self::Many;
        }
        match parse(spec) {
            None => Self::Whole,
            Some(Spec::Suffix(count)) if count == 0 || len == 0 => Self::Unsatisfiable,
            Some(Spec::Suffix(count)) => Self::Part(len.saturating_sub(count)..len),
            Some(Spec::From(first, last)) if first >= len || last < first => Self::Unsatisfiable,
            Some(Spec::From(first, last)) => Self::Part(first..last.saturating_add(1).min(len)),
        }
    }
}

enum Spec {
    /// `first-last`, `last` being the greatest number when it is open.
    From(u64, u64),
    /// `-count`
    Suffix(u64),
}

fn strip_unit(header: &str) -> Option<&str> {
    let (unit, set) = header.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(set)
}

fn parse(spec: &str) -> Option<Spec> {
    let (first, last) = spec.split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", count) => number(count).map(Spec::Suffix),
        (first, "") => Some(Spec::From(number(first)?, u64::MAX)),
        (first, last) => Some(Spec::From(number(first)?, number(last)?)),
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::Selection::{Many, Part, Unsatisfiable, Whole};
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
            ("bytes=-17208,-9223372036854758792", Many),
            ("bytes=0-9,5-15", Many),
            ("Bytes = 1 - 2 ", Part(1..3)),
            ("items=0-5", Whole),
            ("nonsense", Whole),
        ];
        for (header, want) in table {
            assert_eq!(Selection::of(header, 100), want, "{header}");
        }
        assert_eq!(Selection::of("bytes=0-", 0), Unsatisfiable);
        assert_eq!(Selection::of("bytes=-5", 0), Unsatisfiable);
    }
}
