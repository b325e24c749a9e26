//! What a response's head means.
//!
//! Limits (429) do not come this far; see `backoff`. And two kinds of refusal are not judged here,
//! because more has to be asked first: 401 and 403 from the upstream itself are the login's. From a host that a redirect led to, they say
//! nothing about the repository or our credential, only that the storage is out of order.

use std::sync::Arc;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::request::WantedBytes;
use super::{Answer, AnswerBody, UpstreamError, UpstreamIndex, UpstreamMeter};
use crate::http::{ContentRange, Incoming};

/// A response that is no redirect.
pub(super) struct UpstreamReply {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Who answered.
    pub(super) host: String,
    /// Whether a redirect led to another origin than the upstream's.
    pub(super) is_foreign: bool,
    body: Incoming,
    permit: OwnedSemaphorePermit,
    meter: Arc<UpstreamMeter>,
}

impl UpstreamReply {
    /// The response, with the permit that it was sent under and where its bytes are counted.
    pub(super) fn new(
        response: Response<Incoming>,
        host: String,
        is_foreign: bool,
        (permit, meter): (OwnedSemaphorePermit, Arc<UpstreamMeter>),
    ) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, host, is_foreign, body, permit, meter }
    }

    /// Whether the upstream itself wants to know who asks, or who asks may not.
    pub(super) fn is_refusal(&self) -> bool {
        let refused = matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        refused && !self.is_foreign
    }

    /// What it says beside its body, which is let go, and the permit with it.
    pub(super) fn into_refusal(self) -> (StatusCode, HeaderMap) {
        (self.status, self.headers)
    }

    /// Whether this is how storage answers a HEAD to a URL that was signed for GET only.
    pub(super) fn is_signed_for_get_only(&self) -> bool {
        self.is_foreign && matches!(self.status.as_u16(), 400 | 403 | 405 | 501)
    }

    /// The answer to a request by `method` for `span`.
    pub(super) fn into_answer(
        self,
        method: &Method,
        span: WantedBytes,
    ) -> Result<Answer, UpstreamError> {
        judge(self.status, &self.headers, &self.host, span)?;
        let body = if *method == Method::HEAD {
            AnswerBody::empty(self.host)
        } else {
            AnswerBody::new(self.body, self.status, self.host, self.permit, self.meter)
        };
        let place = UpstreamIndex::default();
        Ok(Answer { status: self.status, headers: self.headers, body, place })
    }

    /// The error that a 404 is, with what the registry itself said.
    pub(super) async fn into_absence(self) -> UpstreamError {
        let body =
            AnswerBody::new(self.body, self.status, self.host.clone(), self.permit, self.meter);
        let said = if self.is_foreign { None } else { body.collect(SAID_BYTES_MAX).await.ok() };
        UpstreamError::NotFound { host: self.host, said: said.filter(|said| is_error(said)) }
    }

    /// What HEAD would have answered, read from the answer to a GET of the first byte.
    pub(super) fn into_head(self) -> Result<Answer, UpstreamError> {
        let length = match judge(self.status, &self.headers, &self.host, WantedBytes::FirstByte) {
            // An empty blob has no first byte.
            Err(UpstreamError::RangeNotSatisfiable { total: Some(0), .. }) => Some(0),
            Err(error) => return Err(error),
            Ok(()) if self.status == StatusCode::PARTIAL_CONTENT => {
                content_range(&self.headers).and_then(|range| range.total)
            }
            Ok(()) => self.headers.get(CONTENT_LENGTH).and_then(number),
        };
        let Some(length) = length else {
            let reason = "it does not tell the length".to_owned();
            return Err(UpstreamError::Unexpected { host: self.host, status: self.status, reason });
        };
        let mut headers = self.headers;
        headers.remove(CONTENT_RANGE);
        headers.insert(CONTENT_LENGTH, length.into());
        let (status, place) = (StatusCode::OK, UpstreamIndex::default());
        Ok(Answer { status, headers, body: AnswerBody::empty(self.host), place })
    }
}

/// The longest error that is passed on, in bytes.
const SAID_BYTES_MAX: usize = 64 << 10;

/// Whether a body is an error of the distribution-spec.
pub(super) fn is_error(body: &[u8]) -> bool {
    let body = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let errors = body.get("errors").and_then(serde_json::Value::as_array);
    errors.is_some_and(|errors| {
        !errors.is_empty() && errors.iter().all(|error| error["code"].is_string())
    })
}

/// Whether a head begins a usable answer to a request for `span`.
fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    host: &str,
    span: WantedBytes,
) -> Result<(), UpstreamError> {
    let host = host.to_owned();
    let fault = match status {
        StatusCode::OK => fault_of(headers),
        StatusCode::PARTIAL_CONTENT => fault_of(headers).or_else(|| fault_of_range(headers, span)),
        StatusCode::NOT_FOUND => return Err(UpstreamError::NotFound { host, said: None }),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let total = content_range(headers).and_then(|range| range.total);
            return Err(UpstreamError::RangeNotSatisfiable { host, total });
        }
        _ => Some("the protocol gives that no meaning here"),
    };
    match fault {
        Some(reason) => Err(UpstreamError::Unexpected { host, status, reason: reason.to_owned() }),
        None => Ok(()),
    }
}

fn fault_of(headers: &HeaderMap) -> Option<&'static str> {
    let is_identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(is_identity) {
        return Some("it is encoded though it was asked for as it is");
    }
    // RFC 9112, 6.3: to be handled as an error, it may be an attempt at response splitting.
    let both = headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING);
    both.then_some("it has two lengths")
}

fn fault_of_range(headers: &HeaderMap, span: WantedBytes) -> Option<&'static str> {
    let Some(start) = span.start() else { return Some("it is a part of what was asked for") };
    let first = content_range(headers).and_then(|range| range.bytes).map(|(first, _)| first);
    (first != Some(start)).then_some("it is another part than was asked for")
}

fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.parse().ok()
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    fn outcome(status: u16, pairs: &[(&'static str, &'static str)], span: WantedBytes) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        match judge(status, &headers(pairs), "up.test", span) {
            Ok(()) => "ok".to_owned(),
            Err(UpstreamError::Unexpected { status, .. }) => {
                format!("unexpected {}", status.as_u16())
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_200_and_the_part_asked_for_are_answers() {
        let part = |text: &'static str| [("content-range", text)];
        let from = WantedBytes::Part(5, None);
        assert_eq!(outcome(200, &[], WantedBytes::Whole), "ok");
        assert_eq!(outcome(200, &[], from), "ok");
        assert_eq!(outcome(200, &[("content-encoding", "Identity")], from), "ok");
        assert_eq!(outcome(206, &part("bytes 5-9/10"), from), "ok");
        assert_eq!(outcome(206, &part("bytes 5-9/*"), from), "ok");
        assert_eq!(outcome(206, &part("bytes 0-9/10"), WantedBytes::Whole), "unexpected 206");
        assert_eq!(outcome(206, &part("bytes 4-9/10"), from), "unexpected 206");
        assert_eq!(outcome(206, &part("bytes */10"), from), "unexpected 206");
        assert_eq!(outcome(206, &[], from), "unexpected 206");
        assert_eq!(outcome(200, &[("content-encoding", "gzip")], from), "unexpected 200");
        let two = [("content-length", "1"), ("transfer-encoding", "chunked")];
        assert_eq!(outcome(200, &two, from), "unexpected 200");
        for odd in [201, 204, 205, 300, 304, 400, 401, 403, 405, 418, 500, 599] {
            assert_eq!(outcome(odd, &[], WantedBytes::Whole), format!("unexpected {odd}"));
        }
        assert_eq!(outcome(404, &[], WantedBytes::Whole), "up.test does not have it");
    }

    #[test]
    fn a_416_tells_the_length_if_it_can() {
        for (text, want) in [("bytes */7", Some(7)), ("bytes */*", None), ("x", None)] {
            let judged = judge(
                StatusCode::RANGE_NOT_SATISFIABLE,
                &headers(&[("content-range", text)]),
                "up.test",
                WantedBytes::Part(9, None),
            );
            let Err(UpstreamError::RangeNotSatisfiable { total, .. }) = judged else {
                panic!("{text}")
            };
            assert_eq!(total, want, "{text}");
        }
    }
}
