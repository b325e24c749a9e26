//! The faults of a registry, as values, and when they happen.
//!
//! Faults compose: every rule that matches a request takes part in its answer, in the order in
//! which the rules were given.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::asked::Asked;
use super::gate::Gate;

/// Something that an upstream does wrong. Offsets count the bytes of the answer's body.
#[derive(Clone, Debug)]
pub enum Fault {
    /// After this many bytes of the request's body the rest is not read, and this status answered.
    AnswerInBody(usize, u16),
    /// The body comes in chunks, without a length.
    Chunked,
    /// The body ends with the connection, without a length.
    CloseDelimited,
    /// The connection ends after this many bytes of the body.
    CutAt(usize),
    /// The connection ends in the middle of the headers.
    CutHeaders,
    /// The connection ends one byte before the body does.
    CutLastByte,
    /// The connection ends after this many bytes of the request's body.
    DieInBody(usize),
    /// This many bytes per second and no more, ten times a second or a byte at a time.
    Drip(usize),
    /// These bytes in place of an answer, and then these others again and again, one piece each
    /// so often, for as long as anybody reads.
    Endless { start: Bytes, piece: Bytes, pause: Duration },
    /// A byte of the content is another one.
    FlipByte(Place),
    /// The body is gzipped without being asked for it, and says so.
    GzipEncoding,
    /// HEAD is answered with 405.
    HeadNotAllowed,
    /// The answer stops after this many bytes of the body until the gate opens.
    HoldAt(usize, Gate),
    /// The answer does not begin until the gate opens.
    HoldHeaders(Gate),
    /// No more than this many bytes of the request's body are read until the gate opens.
    HoldInBody(usize, Gate),
    /// A header more, or another value for one.
    Header(&'static str, String),
    /// 200 and a page, as a captive portal has.
    Html200,
    /// A range is answered with 200 and the whole.
    IgnoreRange,
    /// No `Docker-Content-Digest`.
    NoDigestHeader,
    /// The request is carried out, but the status is this.
    OtherStatus(u16),
    /// These bytes in place of an answer, and then the end of the connection.
    Raw(Bytes),
    /// 307 to this URL.
    RedirectTo(String),
    /// This status, these headers, this body.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// The body has this many bytes more than the content, and the length says so.
    TooLong(usize),
    /// The length is right, but this many bytes fewer come before the connection ends.
    TooShort(usize),
    /// The content lacks its last bytes, and the length says so.
    Truncated(usize),
    /// `Content-Range` claims that the body begins this many bytes later than it does.
    WrongContentRange(u64),
    /// `Docker-Content-Digest` is this.
    WrongDigestHeader(String),
}

impl Fault {
    /// A status with the registry's usual error body.
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), r#"{"errors":[{"code":"SCRIPTED","message":"as told"}]}"#)
    }

    /// An answer by hand: status line and headers without the empty line, and the body.
    pub fn raw(head: &str, body: &[u8]) -> Self {
        Self::Raw([head.as_bytes(), b"\r\n\r\n", body].concat().into())
    }

    /// Headers that never end, a line each so often.
    pub fn endless_headers(pause: Duration) -> Self {
        let start = Bytes::from_static(b"HTTP/1.1 200 OK\r\n");
        Self::Endless { start, piece: Bytes::from_static(b"X-More: more\r\n"), pause }
    }

    /// Stops for ever after this many bytes of the body.
    pub fn stall_at(offset: usize) -> Self {
        Self::HoldAt(offset, Gate::new())
    }

    /// The pace of [`Fault::Drip`]: so many bytes each so often.
    pub(super) fn drip(bytes_per_s: usize) -> (usize, Duration) {
        match bytes_per_s {
            0..10 => (1, Duration::from_secs(1) / u32::try_from(bytes_per_s.max(1)).unwrap()),
            _ => (bytes_per_s / 10, Duration::from_millis(100)),
        }
    }
}

/// A place in some content.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    At(usize),
    First,
    Last,
    Middle,
}

impl Place {
    pub fn of(self, len: usize) -> usize {
        match self {
            Self::At(offset) => offset,
            Self::First => 0,
            Self::Last => len.saturating_sub(1),
            Self::Middle => len / 2,
        }
    }
}

/// Which requests a fault concerns.
#[derive(Clone, Debug)]
pub struct When {
    needle: String,
    method: Option<&'static str>,
    authorization: String,
    skip: usize,
    times: usize,
}

impl When {
    /// Requests whose path and query contain this text: a digest, `manifests/latest`, `/token`.
    pub fn asked(needle: impl fmt::Display) -> Self {
        let (needle, authorization) = (needle.to_string(), String::new());
        Self { needle, method: None, authorization, skip: 0, times: usize::MAX }
    }

    /// Only GET.
    pub fn get(self) -> Self {
        Self { method: Some("GET"), ..self }
    }

    /// Only HEAD.
    pub fn head(self) -> Self {
        Self { method: Some("HEAD"), ..self }
    }

    /// Only this method.
    pub fn by(self, method: &'static str) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Only with this text in `Authorization`.
    pub fn showing(self, text: &str) -> Self {
        Self { authorization: text.to_owned(), ..self }
    }

    /// Only the nth of them, from 1.
    pub fn nth(self, nth: usize) -> Self {
        Self { skip: nth - 1, times: 1, ..self }
    }

    /// Only the first few of them.
    pub fn first(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// All of them but the first few.
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    fn concerns(&self, asked: &Asked) -> bool {
        asked.target.contains(&self.needle)
            && self.method.is_none_or(|method| method == asked.method)
            && asked.header("authorization").unwrap_or_default().contains(&self.authorization)
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct Script {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    when: When,
    fault: Fault,
    seen: usize,
}

impl Script {
    pub(super) fn add(&mut self, when: When, fault: Fault) {
        self.rules.push(Rule { when, fault, seen: 0 });
    }

    /// Forgets the rules, and lets go whatever they hold.
    pub(super) fn clear(&mut self) {
        for rule in self.rules.drain(..) {
            if let Fault::HoldAt(_, gate) | Fault::HoldHeaders(gate) | Fault::HoldInBody(_, gate) =
                rule.fault
            {
                gate.open();
            }
        }
    }

    /// The faults of this request's own body; counts nothing.
    pub(super) fn peek(&self, asked: &Asked) -> Vec<Fault> {
        let is_due = |rule: &&Rule| {
            let due = rule.when.skip..rule.when.skip.saturating_add(rule.when.times);
            rule.when.concerns(asked) && due.contains(&rule.seen)
        };
        self.rules.iter().filter(is_due).map(|rule| rule.fault.clone()).collect()
    }

    /// Counts a request that gets no answer.
    pub(super) fn count(&mut self, asked: &Asked) {
        for rule in self.rules.iter_mut().filter(|rule| rule.when.concerns(asked)) {
            rule.seen += 1;
        }
    }

    /// The faults of this request.
    pub(super) fn faults_for(&mut self, asked: &Asked) -> Vec<Fault> {
        let mut faults = Vec::new();
        for rule in self.rules.iter_mut().filter(|rule| rule.when.concerns(asked)) {
            let is_due = (rule.when.skip..rule.when.skip.saturating_add(rule.when.times))
                .contains(&rule.seen);
            rule.seen += 1;
            if is_due {
                faults.push(rule.fault.clone());
            }
        }
        faults
    }
}
