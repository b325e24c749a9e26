//! A response, and the answer or error that it is.
//!
//! Two refusals are not judged here, because more has to be asked first: 401 and 403 from the
//! upstream itself are the login's. From a host that a redirect led to, they say nothing about the
//! repository or our credential, only that the storage refuses its URL or is out of order.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::body::AnswerBody;
use super::coding::DocumentCoding;
use super::error::UpstreamError;
use super::question::{Answer, Question, UpstreamIndex, length_of_whole};
use super::request::{CallPurpose, UpstreamRequest};
use super::shown::host_of;
use super::status::{StatusClass, is_without_method};
use super::written::written_target;
use crate::http::ContentRange;
use crate::oci::{ApiCall, Resource};

/// The answer of a host to a request, whatever it is.
pub struct UpstreamReply {
    /// Any status; of a change, any but a redirect.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    /// An error of the distribution-spec, if it is one and was read.
    pub error: Option<Bytes>,
    /// Whether the host had all of the request's body when it answered.
    pub is_body_sent: bool,
    /// The host that answered.
    pub host: String,
    /// The URL that was asked.
    pub(super) url: Url,
    /// Whether a redirect led to another origin than the upstream's.
    pub(super) is_foreign: bool,
    /// Its bytes.
    pub(super) body: AnswerBody,
}

impl UpstreamReply {
    /// The answer to `request` with this head and body.
    pub(super) fn new(
        request: &UpstreamRequest,
        head: http::response::Parts,
        body: AnswerBody,
        is_body_sent: bool,
    ) -> Self {
        Self {
            status: head.status,
            headers: head.headers,
            error: None,
            is_body_sent,
            host: host_of(&request.url),
            url: request.url.clone(),
            is_foreign: request.purpose == CallPurpose::Redirect,
            body,
        }
    }

    /// The class of its status.
    pub(super) fn class(&self) -> StatusClass {
        StatusClass::of(self.status)
    }

    /// The path and query of its `Location`, where they can be sent as they are.
    pub(super) fn written_location(&self) -> Option<PathAndQuery> {
        written_target(self.headers.get(LOCATION)?.to_str().ok()?)
    }

    /// Whether the upstream itself wants a login, or forbids what was asked.
    pub(super) fn is_refusal(&self) -> bool {
        self.class() == StatusClass::Refusal && !self.is_foreign
    }

    /// Whether it is storage that answered, to a URL that a registry has signed, and no registry.
    fn is_from_storage(&self) -> bool {
        let api = self.url.path().split_once("/v2/").map(|(_, rest)| format!("/{rest}"));
        self.is_foreign && api.is_none_or(|path| ApiCall::parse(&path).is_err())
    }

    /// Whether it says itself that a registry gave it: by an error of the distribution-spec, or by
    /// the header that distribution and most that descend from it send.
    pub(super) fn is_of_a_registry(&self) -> bool {
        self.error.is_some() || self.headers.contains_key("docker-distribution-api-version")
    }

    /// Whether a HEAD was rejected, without the reason that a GET has.
    pub(super) fn is_unexplained(&self) -> bool {
        self.class() == StatusClass::Rejection && !is_without_method(self.status)
    }

    /// Whether its error has one of these codes (distribution-spec, "Error Codes").
    pub fn has_code(&self, wanted: &[&str]) -> bool {
        let codes = self.error.as_deref().and_then(codes).unwrap_or_default();
        codes.iter().any(|code| wanted.contains(&code.as_str()))
    }

    /// Whether this is how a registry that does not know referrers answers (oras-go 633, quay
    /// 3071). A code that is about something else is an error of its own.
    fn is_without_referrers(&self) -> bool {
        let is_status = matches!(self.status.as_u16(), 400 | 405 | 406 | 410 | 415 | 501);
        let is_code = |code: &str| matches!(code, "UNSUPPORTED" | "MANIFEST_INVALID");
        let codes = self.error.as_deref().and_then(codes).unwrap_or_default();
        is_status && codes.iter().all(|code| is_code(code))
    }

    /// Whether this is how storage answers a HEAD to a URL that was signed for GET only.
    pub(super) fn is_signed_for_get_only(&self) -> bool {
        self.is_foreign && matches!(self.status.as_u16(), 400 | 403 | 405 | 501)
    }

    /// Drops the body, and the permit with it.
    pub(super) fn close(&mut self) {
        self.body = AnswerBody::empty(self.host.clone());
    }

    /// Reads the body of a failure, which is kept if it is an error of the distribution-spec, and
    /// drops that of anything else.
    pub(super) async fn read_error(&mut self) {
        let body = std::mem::replace(&mut self.body, AnswerBody::empty(self.host.clone()));
        if self.status.is_client_error() || self.status.is_server_error() {
            let read = timeout(ERROR_WAIT, body.collect(ERROR_BYTES_MAX)).await;
            let error = read.ok().and_then(Result::ok).filter(|body| is_error(body));
            self.error = error.or(self.error.take());
        }
    }

    /// The answer to `question`, which was asked as `request`. The reason of an absence or a
    /// rejection is read from its body.
    pub(super) async fn conclude(
        mut self,
        request: &UpstreamRequest,
        question: &Question,
    ) -> Result<Answer, UpstreamError> {
        if let Some(refusal) = self.refusal_of_storage() {
            return Err(refusal);
        }
        let class = self.class();
        if matches!(class, StatusClass::Absence | StatusClass::Rejection) {
            self.read_error().await;
        }
        let is_for_referrers = matches!(question.resource, Resource::Referrers(_));
        if class == StatusClass::Absence || (is_for_referrers && self.is_without_referrers()) {
            let is_proven = self.is_of_a_registry() || !question.is_mutable();
            // The reason of another status would say that the request is wrong.
            let is_said = class == StatusClass::Absence && question.is_for_list();
            let said = self.error.filter(|_| is_said && !self.is_foreign);
            return Err(UpstreamError::NotFound { host: self.host, said, is_proven });
        }
        if class == StatusClass::Rejection {
            let Self { host, status, error: said, .. } = self;
            return Err(UpstreamError::Rejected { host, status, said });
        }
        self.into_answer(request)
    }

    /// The error that it is if storage refuses a signed URL, in whichever way.
    fn refusal_of_storage(&self) -> Option<UpstreamError> {
        let is_refusal = matches!(
            self.class(),
            StatusClass::Absence | StatusClass::Refusal | StatusClass::Rejection
        );
        let (host, status) = (self.host.clone(), self.status);
        let is_refused = is_refusal && self.is_from_storage();
        is_refused.then_some(UpstreamError::StorageRefused { host, status })
    }

    fn into_answer(mut self, request: &UpstreamRequest) -> Result<Answer, UpstreamError> {
        if self.status == StatusCode::NO_CONTENT && request.is_of_nothing {
            self.status = StatusCode::OK;
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        judge(self.status, &self.headers, &self.host, request.range_start)?;
        let mut headers = self.headers;
        if request.is_for_document() {
            drop_coding(&mut headers).map_err(|reason| {
                UpstreamError::unexpected(self.host.clone(), self.status, reason)
            })?;
        }
        let is_head = request.method == Method::HEAD;
        let body = if is_head { AnswerBody::empty(self.host) } else { self.body };
        let (place, is_foreign) = (UpstreamIndex::default(), self.is_foreign);
        Ok(Answer { status: self.status, headers, body, place, is_foreign })
    }

    /// The answer that HEAD would have had, from the answer to a GET of the first byte.
    pub(super) fn into_head(self) -> Result<Answer, UpstreamError> {
        if let Some(refusal) = self.refusal_of_storage() {
            return Err(refusal);
        }
        let length = match judge(self.status, &self.headers, &self.host, Some(0)) {
            // An empty blob has no first byte.
            Err(UpstreamError::RangeNotSatisfiable { total: Some(0), .. }) => Some(0),
            Err(error) => return Err(error),
            Ok(()) => length_of_whole(self.status, &self.headers),
        };
        let no_length =
            || UpstreamError::unexpected(self.host.clone(), self.status, "it tells no length");
        let length = length.ok_or_else(no_length)?;
        let mut headers = self.headers;
        headers.remove(CONTENT_RANGE);
        headers.insert(CONTENT_LENGTH, length.into());
        let body = AnswerBody::empty(self.host);
        let (place, is_foreign) = (UpstreamIndex::default(), self.is_foreign);
        Ok(Answer { status: StatusCode::OK, headers, body, place, is_foreign })
    }
}

/// The longest error that is passed on, in bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// How long the body of an error is waited for. The status has said the most of it.
const ERROR_WAIT: Duration = Duration::from_secs(5);

/// Whether a body is an error of the distribution-spec.
fn is_error(body: &[u8]) -> bool {
    codes(body).is_some_and(|codes| !codes.is_empty())
}

/// The codes of an error of the distribution-spec; `None` if the body is none.
fn codes(body: &[u8]) -> Option<Vec<String>> {
    let body = serde_json::from_slice::<serde_json::Value>(body).ok()?;
    let errors = body.get("errors")?.as_array()?.iter();
    errors.map(|error| error["code"].as_str().map(str::to_owned)).collect()
}

/// Whether a head begins a usable answer, all of it or the part from `start` on.
fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    host: &str,
    start: Option<u64>,
) -> Result<(), UpstreamError> {
    let host = host.to_owned();
    let fault = match status {
        StatusCode::OK => fault_of(headers),
        StatusCode::PARTIAL_CONTENT => fault_of(headers).or_else(|| fault_of_range(headers, start)),
        StatusCode::NOT_FOUND => {
            return Err(UpstreamError::NotFound { host, said: None, is_proven: false });
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let total = ContentRange::of(headers).and_then(|range| range.total);
            return Err(UpstreamError::RangeNotSatisfiable { host, total });
        }
        _ => Some("the protocol gives that no meaning here"),
    };
    fault.map_or(Ok(()), |reason| Err(UpstreamError::unexpected(host, status, reason)))
}

/// Removes what the headers of a document say of its coding, which the body undoes.
fn drop_coding(headers: &mut HeaderMap) -> Result<(), &'static str> {
    let coding = DocumentCoding::of(headers);
    let coding = coding.ok_or("it is encoded though it was asked for as it is")?;
    if coding == DocumentCoding::Gzip {
        headers.remove(CONTENT_LENGTH);
    }
    Ok(())
}

fn fault_of(headers: &HeaderMap) -> Option<&'static str> {
    // RFC 9112, 6.3: to be handled as an error, it may be an attempt at response splitting.
    let both = headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING);
    both.then_some("it has two lengths")
}

fn fault_of_range(headers: &HeaderMap, start: Option<u64>) -> Option<&'static str> {
    let Some(start) = start else { return Some("it is a part of what was asked for") };
    let first = ContentRange::of(headers).and_then(|range| range.bytes).map(|(first, _)| first);
    (first != Some(start)).then_some("it is another part than was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect()
    }

    fn outcome(status: u16, pairs: &[(&'static str, &'static str)], start: Option<u64>) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        match judge(status, &headers(pairs), "up.test", start) {
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
        let from = Some(5);
        assert_eq!(outcome(200, &[], None), "ok");
        assert_eq!(outcome(200, &[], from), "ok");
        assert_eq!(outcome(200, &[("content-encoding", "Identity")], from), "ok");
        assert_eq!(outcome(206, &part("bytes 5-9/10"), from), "ok");
        assert_eq!(outcome(206, &part("bytes 5-9/*"), from), "ok");
        assert_eq!(outcome(206, &part("bytes 0-9/10"), None), "unexpected 206");
        assert_eq!(outcome(206, &part("bytes 4-9/10"), from), "unexpected 206");
        assert_eq!(outcome(206, &part("bytes */10"), from), "unexpected 206");
        assert_eq!(outcome(206, &[], from), "unexpected 206");
        assert_eq!(outcome(200, &[("content-encoding", "gzip")], from), "ok");
        let two = [("content-length", "1"), ("transfer-encoding", "chunked")];
        assert_eq!(outcome(200, &two, from), "unexpected 200");
        for odd in [201, 204, 205, 300, 304, 400, 401, 403, 405, 418, 500, 599] {
            assert_eq!(outcome(odd, &[], None), format!("unexpected {odd}"));
        }
        assert_eq!(outcome(404, &[], None), "up.test does not have it");
    }

    #[test]
    fn a_416_tells_the_length_if_it_can() {
        for (text, want) in [("bytes */7", Some(7)), ("bytes */*", None), ("x", None)] {
            let judged = judge(
                StatusCode::RANGE_NOT_SATISFIABLE,
                &headers(&[("content-range", text)]),
                "up.test",
                Some(9),
            );
            let Err(UpstreamError::RangeNotSatisfiable { total, .. }) = judged else {
                panic!("{text}")
            };
            assert_eq!(total, want, "{text}");
        }
    }
}
