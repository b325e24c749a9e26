//! The ids of traces and spans (W3C Trace Context, 3.2.2): random, and not all zero.

use std::fmt;

/// The id of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// A new one.
    pub(super) fn random() -> Self {
        Self(fastrand::u128(1..).to_be_bytes())
    }

    /// The id in 32 lower case hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(Self(parsed(text, 32)?.to_be_bytes()))
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Its place among all ids, from 0 to 1: every program that sees the trace finds the same one.
    pub(super) fn place(self) -> f64 {
        // As OpenTelemetry's `TraceIdRatioBased` does: 63 of the low 64 bits.
        let low = (u128::from_be_bytes(self.0) & u128::from(u64::MAX)) >> 1;
        #[allow(clippy::cast_precision_loss, reason = "a share of all traces need not be exact")]
        let place = low as f64 / (1_u64 << 63) as f64;
        place
    }
}

impl SpanId {
    /// A new one.
    pub(super) fn random() -> Self {
        Self(fastrand::u64(1..).to_be_bytes())
    }

    /// The id in 16 lower case hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let id = u64::try_from(parsed(text, 16)?).ok()?;
        Some(Self(id.to_be_bytes()))
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

/// A number of exactly so many lower case hexadecimal digits, unless it is zero.
fn parsed(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_written = text.len() == digits && text.bytes().all(is_digit);
    u128::from_str_radix(text, 16).ok().filter(|id| is_written && *id != 0)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}
