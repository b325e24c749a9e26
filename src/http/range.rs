//! Byte ranges (RFC 9110, section 14), decided from the header's text and the length alone.

use std::ops::Range;

/// The bytes that a `Range` header selects of content that is `len` bytes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeSelection {
    /// One short range with the last byte and without the first, both of whose ends the client
    /// stated: the footer of a lazily pulled layer. A resume is open-ended, or longer.
    Footer(Range<u64>),
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

/// The most bytes that a footer has. eStargz reads 51, zstd:chunked 64.
const FOOTER_BYTES_MAX: u64 = 64 << 10;

/// The most ranges in one answer. Lazy pullers ask for up to a thousand chunks at once.
pub const RANGES_MAX: usize = 1024;

impl RangeSelection {
    /// Decides. All arithmetic saturates: a number too large for `u64` is a number behind the
    /// end.
    ///
    /// An inverted range (`500-0`) may be ignored by RFC 9110 but is 416 in the OCI conformance
    /// programme, so it is 416 here. If there are several ranges, those that cannot be satisfied
    /// are left out (RFC 9110, 14.1.2).
    pub fn of(header: &str, len: u64) -> Self {
        let Some(set) = strip_unit(header) else { return Self::Whole };
        let mut parts = Vec::new();
        let (mut count, mut is_short) = (0, true);
        for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
            count += 1;
            if count > RANGES_MAX {
                return Self::TooMuch;
            }
            let Some(spec) = RangeSpec::parse(spec) else { return Self::Whole };
            is_short &= spec.is_short();
            parts.extend(spec.within(len));
        }
        let bytes = parts.iter().map(|part| part.end - part.start).fold(0, u64::saturating_add);
        match <[_; 1]>::try_from(parts) {
            Ok([part]) if is_short && part.start > 0 && part.end == len => Self::Footer(part),
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
    /// `first-last`
    Bounded(u64, u64),
    /// `first-`
    OpenEnded(u64),
    /// `-count`
    Suffix(u64),
}

impl RangeSpec {
    fn parse(spec: &str) -> Option<Self> {
        let (first, last) = spec.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", count) => number(count).map(Self::Suffix),
            (first, "") => number(first).map(Self::OpenEnded),
            (first, last) => Some(Self::Bounded(number(first)?, number(last)?)),
        }
    }

    fn within(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Suffix(count) => len.saturating_sub(count)..len,
            Self::Bounded(first, last) => first..last.saturating_add(1).min(len),
            Self::OpenEnded(first) => first..len,
        };
        (range.start < range.end).then_some(range)
    }

    /// Whether the client asks for no more bytes than a footer has, however long the content is.
    fn is_short(self) -> bool {
        match self {
            Self::Bounded(first, last) => last.saturating_sub(first) < FOOTER_BYTES_MAX,
            Self::OpenEnded(_) => false,
            Self::Suffix(count) => count <= FOOTER_BYTES_MAX,
        }
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
    use super::RangeSelection::{Footer, Part, Parts, TooMuch, Unsatisfiable, Whole};
    use super::*;

    #[test]
    fn every_kind_of_range_gets_its_answer() {
        let table = [
            ("bytes=0-0", Part(0..1)),
            ("bytes=0-", Part(0..100)),
            ("bytes=-1", Footer(99..100)),
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

    /// A client that resumes a pull may take its last bytes for the proof of the whole.
    #[test]
    fn a_footer_is_short_and_bounded_and_ends_but_does_not_begin_the_content() {
        const LEN: u64 = 1 << 20;
        const LAST: u64 = LEN - 1;
        for (first, last, is_footer) in [
            (LAST, LAST, true),
            (LEN - 51, LAST, true),
            (LEN - 51, LEN + 100, true),
            (LEN - (64 << 10), LAST, true),
            (LEN - (64 << 10) - 1, LAST, false),
            (LEN - 51, LEN + (64 << 10), false),
            (LEN - 51, u64::MAX, false),
            (LEN - 51, LAST - 1, false),
        ] {
            let want = first..LEN.min(last.saturating_add(1));
            let want = if is_footer { Footer(want) } else { Part(want) };
            assert_eq!(RangeSelection::of(&format!("bytes={first}-{last}"), LEN), want, "{last}");
        }
        for (header, len, want) in [
            ("bytes=-65536", LEN, Footer(LEN - 65536..LEN)),
            ("bytes=-65537", LEN, Part(LEN - 65537..LEN)),
            ("bytes=1048525-", LEN, Part(LEN - 51..LEN)),
            ("bytes=-51,-51", LEN, Parts(vec![LEN - 51..LEN, LEN - 51..LEN])),
            ("bytes=-51,1048576-", LEN, Part(LEN - 51..LEN)),
            ("bytes=-51", 51, Part(0..51)),
            ("bytes=-51", 52, Footer(1..52)),
            ("bytes=-51", 20, Part(0..20)),
            ("bytes=0-0", 1, Part(0..1)),
            ("bytes=1-1", 2, Footer(1..2)),
        ] {
            assert_eq!(RangeSelection::of(header, len), want, "{header} of {len}");
        }
    }

    #[test]
    fn there_are_only_so_many_ranges_in_one_answer() {
        let header = |count| format!("bytes={}", vec!["0-0"; count].join(","));
        assert!(matches!(RangeSelection::of(&header(RANGES_MAX), 1 << 20), Parts(_)));
        assert_eq!(RangeSelection::of(&header(RANGES_MAX + 1), 1 << 20), TooMuch);
    }
}
