//! The reply that a client got: the head, the bytes that came, and how they ended.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::support::image::Blob;

/// An answer, whole or broken off.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// As many bytes as came.
    pub body: Bytes,
    /// Why the body broke off; `None` when the framing said that this was all.
    pub broken: Option<String>,
}

impl Reply {
    /// The one value of a header, as text.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next();
        assert!(values.next().is_none(), "{name} came twice: {:?}", self.headers);
        first.map(|value| value.to_str().unwrap())
    }

    /// Whether the client has reason to believe that it got everything.
    pub fn is_complete(&self) -> bool {
        self.broken.is_none()
    }

    /// Fails unless this is a 200 with exactly these bytes and nothing missing.
    #[track_caller]
    pub fn assert_is(&self, blob: &Blob) {
        self.assert_status(200);
        assert_eq!(self.broken, None, "broke off after {} of {blob:?}", self.body.len());
        assert_eq!(self.body.len(), blob.len(), "length of {blob:?}");
        assert!(self.body == blob.bytes, "other bytes than {blob:?}");
    }

    #[track_caller]
    pub fn assert_status(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{:?} {}", self.headers, self.text());
    }

    /// Fails unless this is this status with the error JSON of the distribution-spec; gives the
    /// code and the message.
    #[track_caller]
    pub fn error(&self, status: u16) -> (String, String) {
        self.assert_status(status);
        assert_eq!(self.header("content-type"), Some("application/json"), "of an error");
        let json: Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", self.text()));
        let error = &json["errors"][0];
        let text = |key: &str| {
            error[key].as_str().unwrap_or_else(|| panic!("no {key} in {json}")).to_owned()
        };
        (text("code"), text("message"))
    }

    /// How the answer came about, as the product says.
    #[track_caller]
    pub fn decision(&self) -> Decision {
        Decision::read(self.header("cache-status").expect("an answer says how it came about"))
    }

    /// The parts of a `multipart/byteranges` body: each one's `Content-Range`, and its bytes.
    #[track_caller]
    pub fn parts(&self) -> Vec<(String, Bytes)> {
        self.assert_status(206);
        let media_type = self.header("content-type").unwrap_or_default();
        let boundary = media_type.strip_prefix("multipart/byteranges; boundary=");
        let boundary = boundary.unwrap_or_else(|| panic!("not multipart: {media_type}"));
        let delimiter = format!("--{}", boundary.trim_matches('"'));
        let mut rest = &self.body[..];
        let mut parts = Vec::new();
        loop {
            rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
            rest = rest.strip_prefix(delimiter.as_bytes()).expect("a delimiter");
            if rest.starts_with(b"--") {
                return parts;
            }
            let head_len = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let head = std::str::from_utf8(&rest[..head_len]).unwrap();
            let range = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-range").then(|| value.trim().to_owned())
            });
            let range = range.expect("a part has a Content-Range");
            let bounds = range.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
            let (first, last) = bounds.and_then(|(span, _)| span.split_once('-')).unwrap();
            let len = last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1;
            parts.push((range, Bytes::copy_from_slice(&rest[head_len..head_len + len])));
            rest = &rest[head_len + len..];
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(1000)]).into_owned()
    }
}

/// A `Cache-Status` of one cache (RFC 9211).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    parameters: Vec<(String, String)>,
}

impl Decision {
    fn read(text: &str) -> Self {
        let parameters = text.split(';').skip(1).map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (key.trim().to_owned(), value.trim().trim_matches('"').to_owned())
        });
        Self { parameters: parameters.collect() }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        parameters.find(|(have, _)| have == key).map(|(_, value)| value.as_str())
    }

    /// Served from the cache and fresh.
    pub fn is_hit(&self) -> bool {
        self.get("hit").is_some() && !self.is_stale()
    }

    /// Served from the cache though it is past its time.
    pub fn is_stale(&self) -> bool {
        self.get("hit").is_some() && self.get("ttl").is_some_and(|ttl| ttl.starts_with('-'))
    }

    /// Fetched for this request, or for one that this one joined.
    pub fn is_miss(&self) -> bool {
        self.get("fwd") == Some("uri-miss")
    }

    /// Passed on as the upstream gave it: all of the blob is not here yet.
    pub fn is_unverified(&self) -> bool {
        self.get("detail") == Some("unverified")
    }

    /// Joined another's fetch.
    pub fn is_collapsed(&self) -> bool {
        self.get("collapsed").is_some()
    }

    /// Passed on without being stored.
    pub fn is_bypass(&self) -> bool {
        self.get("fwd") == Some("bypass")
    }
}
