//! The trace that a request belongs to already (W3C Trace Context, level 1): reading `traceparent`
//! and `tracestate`, and writing them.
//!
//! Clients write these headers as they like. One that is not as the specification has it is
//! ignored, and its request begins a trace of its own; a bad `tracestate` goes alone.

use std::sync::Arc;

use http::header::GetAll;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::ids::{SpanId, TraceId};

/// The header with the ids.
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header with what tracing systems add to it.
pub const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// The span of another program that led to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Its trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether that program records it.
    pub is_sampled: bool,
    /// The additions of tracing systems, handed on as it came.
    pub state: Option<Arc<str>>,
}

impl TraceParent {
    /// The parent that the headers of a request name, if they name one.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACE_PARENT).iter();
        let parent = parents.next()?.to_str().ok().filter(|_| parents.next().is_none())?;
        let (ids, rest) = parent.split_at_checked(PARENT_BYTES)?;
        let mut parts = ids.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = hex_byte(version)?;
        // A later version may have more behind a dash; this one has not, and 255 is none.
        let is_whole = rest.is_empty() || (version != 0 && rest.starts_with('-'));
        if version == u8::MAX || !is_whole || parts.next().is_some() {
            return None;
        }
        Some(Self {
            trace: TraceId::parse(trace)?,
            span: SpanId::parse(span)?,
            is_sampled: hex_byte(flags)? & SAMPLED != 0,
            state: state(headers.get_all(TRACE_STATE)),
        })
    }

    /// Adds the headers to a request.
    pub fn write(&self, headers: &mut HeaderMap) {
        let Self { trace, span, .. } = self;
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        let parent = HeaderValue::try_from(format!("00-{trace}-{span}-{flags:02x}"));
        headers.extend(parent.ok().map(|parent| (TRACE_PARENT, parent)));
        let state = self.state.as_deref().and_then(|state| HeaderValue::from_str(state).ok());
        headers.extend(state.map(|state| (TRACE_STATE, state)));
    }
}

/// The members of all `tracestate` headers, unless they are too many, too long or not text.
fn state(headers: GetAll<'_, HeaderValue>) -> Option<Arc<str>> {
    let mut whole = String::new();
    for header in headers {
        let header = header.to_str().ok()?.trim();
        if whole.len() + header.len() > STATE_BYTES_MAX {
            return None;
        }
        whole.extend([if whole.is_empty() { "" } else { "," }, header]);
    }
    let mut members = whole.split(',').map(str::trim).filter(|member| !member.is_empty());
    let is_valid = members.clone().count() <= STATE_MEMBERS_MAX && members.all(is_member);
    Some(whole).filter(|whole| is_valid && !whole.is_empty()).map(Into::into)
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let is_of_key =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let is_of_value = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
    !key.is_empty() && key.bytes().all(is_of_key) && value.bytes().all(is_of_value)
}

fn hex_byte(text: &str) -> Option<u8> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_written = text.len() == 2 && text.bytes().all(is_digit);
    u8::from_str_radix(text, 16).ok().filter(|_| is_written)
}

/// The flag of a span that its program records.
const SAMPLED: u8 = 1;

/// The length of a version, two ids and the flags, with dashes between.
const PARENT_BYTES: usize = 55;

/// Programs have to hand on 512 characters, and need not hand on more (3.3.1.5).
const STATE_BYTES_MAX: usize = 512;

/// The most members that there can be (3.3.1.1).
const STATE_MEMBERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn read(headers: &[(&str, &str)]) -> Option<TraceParent> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        TraceParent::read(&map)
    }

    #[test]
    fn a_parent_is_written_as_it_was_read() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let read = read(&[("traceparent", &parent), ("tracestate", "a=1, b@c=x y")]).unwrap();
        assert!(read.is_sampled);

        let mut headers = HeaderMap::new();
        read.write(&mut headers);
        assert_eq!(headers[TRACE_PARENT], parent);
        assert_eq!(headers[TRACE_STATE], "a=1, b@c=x y");
        assert_eq!(TraceParent::read(&headers), Some(read));
    }

    #[test]
    fn flags_of_later_versions_and_what_they_add_are_left_out() {
        for (version, flags, rest, is_sampled) in
            [("00", "00", "", false), ("00", "ff", "", true), ("cc", "03", "-what-ever", true)]
        {
            let text = format!("{version}-{TRACE}-{SPAN}-{flags}{rest}");
            let read = read(&[("traceparent", &text)]).unwrap();
            assert_eq!((read.is_sampled, read.state), (is_sampled, None), "{text}");
        }
    }

    /// A client may write anything there: it gets a trace or none, and nothing else happens.
    #[test]
    fn a_parent_that_is_none_is_ignored() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "00",
            &format!("00-{TRACE}-{SPAN}"),
            &format!("00-{TRACE}-{SPAN}-1"),
            &format!("00-{TRACE}-{SPAN}-0g"),
            &format!("00-{TRACE}-{SPAN}-01-more"),
            &format!("ff-{TRACE}-{SPAN}-01"),
            &format!("cc-{TRACE}-{SPAN}-01.more"),
            &format!("00-{zeros}-{SPAN}-01"),
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
            &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            &format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            &format!("00_{TRACE}_{SPAN}_01"),
            &format!("00-{TRACE}{SPAN}--01"),
            "ünd-so-weiter-ünd-so-weiter-ünd-so-weiter-ünd-so-weiter",
            &"9".repeat(100_000),
        ] {
            assert_eq!(read(&[("traceparent", bad)]), None, "{bad}");
        }
        let good = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(read(&[("traceparent", &good), ("traceparent", &good)]), None, "two parents");
    }

    #[test]
    fn a_state_that_is_none_goes_alone() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        let members = |count: usize| vec!["a=1"; count].join(",");
        for (state, is_kept) in [
            (&*members(32), true),
            (&members(33), false),
            (&format!("a={}", "x".repeat(510)), true),
            (&format!("a={}", "x".repeat(511)), false),
            ("a", false),
            ("A=1", false),
            ("a=1=2", false),
            ("a=\u{e4}", false),
            ("", false),
        ] {
            let read = read(&[("traceparent", &good), ("tracestate", state)]).unwrap();
            assert_eq!(read.state.is_some(), is_kept, "{state}");
        }
    }
}
