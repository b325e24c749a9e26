//! `/healthz`, `/readyz` and `/metrics`.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::exposition::ExpositionFormat;
use super::health::HealthReport;
use super::sources::ReportSources;
use super::{exposition, families};
use crate::http::{ReplyBody, is_rebound, set_inert};

/// Answers operators, from before Larder serves until its process ends.
#[derive(Debug, Default)]
pub struct AdminService {
    sources: OnceLock<ReportSources>,
}

impl AdminService {
    /// Larder serves. Only the first call counts.
    pub fn serves(&self, sources: ReportSources) {
        // There is one start in the life of a process.
        drop(self.sources.set(sources));
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<ReplyBody> {
        let (head, _body) = request.into_parts();
        let answer = match (&head.method, head.uri.path()) {
            _ if is_rebound(&head.headers) => {
                text(StatusCode::MISDIRECTED_REQUEST, "browsers use an address or `localhost`\n")
            }
            (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, "alive\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready().await,
            (&Method::GET | &Method::HEAD, "/metrics") => {
                self.metrics(ExpositionFormat::of(&head.headers)).await
            }
            (_, "/healthz" | "/readyz" | "/metrics") => {
                text(StatusCode::METHOD_NOT_ALLOWED, "this is for reading\n")
            }
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
        };
        if head.method == Method::HEAD { answer.map(|_| ReplyBody::empty()) } else { answer }
    }

    async fn ready(&self) -> Response<ReplyBody> {
        let health = match self.sources.get() {
            None => HealthReport::starting(),
            Some(sources) => HealthReport::of(sources).await,
        };
        let status =
            if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        // Strings and lists of such always serialise.
        let mut body = serde_json::to_vec(&health).unwrap_or_default();
        body.push(b'\n');
        answer(status, "application/json", body)
    }

    async fn metrics(&self, format: ExpositionFormat) -> Response<ReplyBody> {
        let Some(sources) = self.sources.get() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "nothing is served yet\n");
        };
        match exposition::write(families::collect(sources).await, format) {
            Ok(body) => answer(StatusCode::OK, format.media_type(), body),
            Err(fmt::Error) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")
            }
        }
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<ReplyBody> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn answer(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_inert(headers);
    response
}
