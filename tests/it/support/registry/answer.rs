//! The answer to one request: what an honest registry would say, and then the faults.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::Shared;
use super::asked::Asked;
use super::content::{Content, Entity, Target};
use super::fault::Fault;
use super::gate::Gate;
use super::pushes;

/// An answer, and the way in which it goes over the wire.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) framing: Framing,
    pub(super) is_head: bool,
    /// Held before the first byte of the headers.
    pub(super) before: Option<Gate>,
    /// Held after so many bytes of the body.
    pub(super) holds: Vec<(usize, Gate)>,
    pub(super) cut: Option<Cut>,
    pub(super) drip: Option<usize>,
    /// Whether the rest of the request is thrown away behind it, and the connection ends.
    pub(super) reads_on: bool,
    /// Sent in place of all the rest; and what is repeated after it, and how often.
    pub(super) raw: Option<(Bytes, Option<(Bytes, Duration)>)>,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    Close,
    Length,
}

/// The place at which a connection ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Body(usize),
    Headers,
}

impl Answer {
    fn new(status: u16, body: Bytes) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
            framing: Framing::Length,
            is_head: false,
            before: None,
            holds: Vec::new(),
            cut: None,
            drip: None,
            reads_on: false,
            raw: None,
        }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::new(status, Bytes::new())
    }

    pub(super) fn json(status: u16, body: &str) -> Self {
        let mut answer = Self::new(status, Bytes::copy_from_slice(body.as_bytes()));
        answer.header("Content-Type", "application/json".to_owned());
        answer
    }

    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"scripted"}}]}}"#);
        let mut answer = Self::json(status, &body);
        // As distribution does, so that the answer to a HEAD is known to be a registry's.
        answer.header("Docker-Distribution-Api-Version", "registry/2.0".to_owned());
        answer
    }

    /// Sets a header, whatever it was.
    pub(super) fn header(&mut self, name: &str, value: String) {
        self.headers.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value));
    }
}

/// The refusal of a request whose head has come: what its body brings does not matter.
pub(super) fn refusal(shared: &Shared, asked: &Asked) -> Option<Answer> {
    match Target::of(asked.path()) {
        Target::Token | Target::Cdn { .. } => None,
        target => shared.guard.lock().unwrap().refusal(asked, target.repository()),
    }
}

/// Answers a request that was refused, or was not, when its head came.
pub(super) fn answer(shared: &Shared, asked: &Asked, refusal: Option<Answer>) -> Answer {
    let faults = shared.script.lock().unwrap().faults_for(asked);
    let honest = || honest_but(shared, asked, refusal, &faults);
    let mut answer = instead(&faults, asked).unwrap_or_else(honest);
    answer.is_head = asked.method == "HEAD";
    for fault in &faults {
        frame(&mut answer, fault);
    }
    answer
}

/// The faults that replace the answer.
fn instead(faults: &[Fault], asked: &Asked) -> Option<Answer> {
    faults.iter().find_map(|fault| match fault {
        Fault::HeadNotAllowed if asked.method == "HEAD" => Some(Answer::error(405, "UNSUPPORTED")),
        Fault::Html200 => {
            let mut answer = Answer::new(200, Bytes::from_static(b"<html><p>Please log in</html>"));
            answer.header("Content-Type", "text/html; charset=utf-8".to_owned());
            Some(answer)
        }
        Fault::RedirectTo(url) => Some(redirect(url)),
        Fault::Endless { start, piece, pause } => {
            let mut answer = Answer::new(200, Bytes::new());
            answer.raw = Some((start.clone(), Some((piece.clone(), *pause))));
            Some(answer)
        }
        Fault::Raw(bytes) => {
            let mut answer = Answer::new(200, Bytes::new());
            answer.raw = Some((bytes.clone(), None));
            Some(answer)
        }
        Fault::Status(status, headers, body) => {
            let mut answer = Answer::json(*status, body);
            for (name, value) in headers {
                answer.header(name, value.clone());
            }
            Some(answer)
        }
        _ => None,
    })
}

fn redirect(url: &str) -> Answer {
    let mut answer = Answer::new(307, Bytes::from_static(b"<a href=\"elsewhere\">moved</a>"));
    answer.header("Location", url.to_owned());
    answer.header("Content-Type", "text/html".to_owned());
    answer
}

fn honest_but(shared: &Shared, asked: &Asked, refusal: Option<Answer>, faults: &[Fault]) -> Answer {
    let target = Target::of(asked.path());
    if let Target::Token = target {
        return shared.guard.lock().unwrap().issue(asked);
    }
    if let Target::Cdn { .. } = target {
        // Object stores refuse a second way of authentication; here it would be a leak besides.
        if asked.has_credential() {
            return Answer::error(400, "ONLY_ONE_AUTH_MECHANISM");
        }
    } else if let Some(refusal) = refusal {
        return refusal;
    }
    let mut content = shared.content.lock().unwrap();
    let repository = target.repository().and_then(|name| content.repositories.get(name));
    if let Some(status) = repository.and_then(|repository| repository.refuses) {
        return Answer::error(status, "DENIED");
    }
    if let Some(answer) = changed(shared, &mut content, &target, asked) {
        return answer;
    }
    match target {
        Target::Blob { repository, digest } => {
            match (content.blob(repository, digest), &content.cdn) {
                (None, _) => Answer::error(404, "BLOB_UNKNOWN"),
                (Some(_), Some(cdn)) => {
                    redirect(&format!("{cdn}/cdn/{repository}/{digest}?signature=s3cr3t"))
                }
                (Some(blob), None) => entity(blob, asked, faults, true),
            }
        }
        Target::Cdn { repository, digest } => match content.blob(repository, digest) {
            Some(blob) => entity(blob, asked, faults, true),
            None => Answer::error(404, "NoSuchKey"),
        },
        Target::Manifest { repository, reference } => {
            match content.manifest(repository, reference, asked) {
                Some(manifest) => entity(manifest, asked, faults, false),
                None => Answer::error(404, "MANIFEST_UNKNOWN"),
            }
        }
        Target::Ping => Answer::json(200, "{}"),
        Target::Tags { repository } => match content.tags(repository) {
            Some(tags) => Answer::json(200, &tags),
            None => Answer::error(404, "NAME_UNKNOWN"),
        },
        Target::Token | Target::Unknown | Target::Upload { .. } => Answer::error(404, "NOT_FOUND"),
    }
}

/// The answer to a request that changes something, or asks how far a change is.
fn changed(
    shared: &Shared,
    content: &mut Content,
    target: &Target<'_>,
    asked: &Asked,
) -> Option<Answer> {
    let mut uploads = shared.uploads.lock().unwrap();
    match (target, asked.method.as_str()) {
        (Target::Upload { repository, id: "" }, "POST") => {
            Some(uploads.post(content, repository, asked))
        }
        (Target::Upload { id, .. }, _) => Some(uploads.with(content, id, asked)),
        (Target::Manifest { repository, reference }, "PUT") => {
            Some(uploads.put_manifest(content, (*repository, *reference), asked))
        }
        (
            Target::Blob { repository, digest: what }
            | Target::Manifest { repository, reference: what },
            "DELETE",
        ) => Some(pushes::delete(content, repository, what)),
        _ => None,
    }
}

fn entity(entity: Entity, asked: &Asked, faults: &[Fault], takes_ranges: bool) -> Answer {
    let mut bytes = entity.bytes;
    let mut ignores_range = !takes_ranges;
    for fault in faults {
        match fault {
            Fault::FlipByte(place) => bytes = flipped(&bytes, place.of(bytes.len())),
            Fault::GzipEncoding => bytes = gzipped(&bytes),
            Fault::IgnoreRange => ignores_range = true,
            Fault::TooLong(more) => bytes = [&bytes[..], &vec![0x2e; *more]].concat().into(),
            Fault::Truncated(fewer) => bytes = bytes.slice(..bytes.len() - fewer),
            _ => {}
        }
    }
    let range = asked.header("range").filter(|_| !ignores_range && asked.method == "GET");
    let mut answer = match range {
        Some(range) => ranged(&bytes, range),
        None => Answer::new(200, bytes),
    };
    answer.header("Content-Type", entity.media_type);
    answer.header("Docker-Content-Digest", entity.digest.clone());
    answer.header("ETag", format!("\"{}\"", entity.digest));
    if takes_ranges {
        answer.header("Accept-Ranges", "bytes".to_owned());
    }
    answer
}

/// `bytes=a-` and `bytes=a-b`, which is all that is ever sent upstream.
fn ranged(bytes: &Bytes, range: &str) -> Answer {
    let total = bytes.len();
    let bounds = range.strip_prefix("bytes=").and_then(|spec| spec.split_once('-'));
    let (first, last) = bounds.unwrap_or_else(|| panic!("a range no registry knows: {range}"));
    let first: usize = first.parse().unwrap_or_else(|_| panic!("a range unknown here: {range}"));
    let last = if last.is_empty() { total - 1 } else { last.parse().unwrap() };
    let last = last.min(total.saturating_sub(1));
    if first >= total || first > last {
        let mut answer = Answer::error(416, "RANGE_INVALID");
        answer.header("Content-Range", format!("bytes */{total}"));
        return answer;
    }
    let mut answer = Answer::new(206, bytes.slice(first..=last));
    answer.header("Content-Range", format!("bytes {first}-{last}/{total}"));
    answer
}

/// The faults of headers, framing and pace.
fn frame(answer: &mut Answer, fault: &Fault) {
    let len = answer.body.len();
    match fault {
        Fault::Chunked => answer.framing = Framing::Chunked,
        Fault::CloseDelimited => answer.framing = Framing::Close,
        Fault::CutAt(offset) => answer.cut = Some(Cut::Body(*offset)),
        Fault::CutHeaders => answer.cut = Some(Cut::Headers),
        Fault::CutLastByte => answer.cut = Some(Cut::Body(len.saturating_sub(1))),
        Fault::Drip(bytes_per_s) => answer.drip = Some(*bytes_per_s),
        Fault::GzipEncoding => answer.header("Content-Encoding", "gzip".to_owned()),
        Fault::Header(name, value) => answer.header(name, value.clone()),
        Fault::HoldAt(offset, gate) => answer.holds.push((*offset, gate.clone())),
        Fault::HoldHeaders(gate) => answer.before = Some(gate.clone()),
        Fault::NoDigestHeader => {
            answer.headers.retain(|(name, _)| name != "Docker-Content-Digest");
        }
        Fault::OtherStatus(status) => answer.status = *status,
        Fault::TooShort(fewer) => answer.cut = Some(Cut::Body(len.saturating_sub(*fewer))),
        Fault::WrongContentRange(shift) => shift_content_range(answer, *shift),
        Fault::WrongDigestHeader(digest) => {
            answer.header("Docker-Content-Digest", digest.clone());
        }
        Fault::Endless { .. }
        | Fault::FlipByte(_)
        | Fault::AnswerInBody(..)
        | Fault::DieInBody(_)
        | Fault::HeadNotAllowed
        | Fault::HoldInBody(..)
        | Fault::Html200
        | Fault::IgnoreRange
        | Fault::Raw(_)
        | Fault::RedirectTo(_)
        | Fault::Status(..)
        | Fault::TooLong(_)
        | Fault::Truncated(_) => {}
    }
    answer.holds.sort_by_key(|(offset, _)| *offset);
}

fn shift_content_range(answer: &mut Answer, shift: u64) {
    let header = answer.headers.iter().find(|(name, _)| name == "Content-Range");
    let Some((_, value)) = header else { return };
    let (first, rest) = value.strip_prefix("bytes ").and_then(|v| v.split_once('-')).unwrap();
    let first: u64 = first.parse().unwrap();
    let value = format!("bytes {}-{rest}", first + shift);
    answer.header("Content-Range", value);
}

fn flipped(bytes: &Bytes, offset: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[offset] ^= 0x01;
    bytes.into()
}

/// A gzip stream of stored blocks (RFC 1952, RFC 1951 3.2.4).
fn gzipped(bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let len = u16::try_from(block.len()).unwrap();
        out.put_u8(u8::from(blocks.peek().is_none()));
        out.put_u16_le(len);
        out.put_u16_le(!len);
        out.put_slice(block);
    }
    out.put_u32_le(crc32(bytes));
    out.put_u32_le(u32::try_from(bytes.len()).unwrap());
    out.freeze()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
