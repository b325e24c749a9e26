//! Answers the requests of browsers: the page, its files, its events, and the same as JSON.

use std::net::IpAddr;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use serde_json::Value;

use super::collect::FigureCollector;
use super::live::LiveFigures;
use super::page::DashboardPage;
use super::sources::DashboardSources;
use crate::access::{AccessDenied, IdentityRequest, Issuer, ListenerAccess};
use crate::http::{ClientPeer, HostPort, ReplyBody, Via, is_rebound};

/// The hosts and users by which the page is guarded.
#[derive(Debug)]
pub struct DashboardGate {
    /// Names by which browsers may ask for it, beside addresses and `localhost`.
    pub names: Vec<HostPort>,
    /// The users that may; anybody if it is `None`.
    pub logins: Option<ListenerAccess>,
}

/// Answers browsers.
#[derive(Debug, Default)]
pub struct DashboardService {
    live: OnceLock<LiveFigures>,
}

impl DashboardService {
    /// Larder serves. Only the first call counts.
    pub fn serves(&self, sources: DashboardSources) {
        // There is one start in the life of a process.
        drop(self.live.set(LiveFigures::new(FigureCollector::new(sources))));
    }

    /// The figures, as at `/stats.json`; `null` before anything is served.
    pub async fn stats(&self) -> Value {
        let Some(live) = self.live.get() else { return Value::Null };
        serde_json::to_value(&*live.figures().await).unwrap_or_default()
    }

    /// Answers a request of a client at `address`.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        gate: &DashboardGate,
        address: IpAddr,
    ) -> Response<ReplyBody> {
        let (head, _body) = request.into_parts();
        let mut answer = match gate.admit(&head, address).await {
            Ok(()) => self.page(&head).await,
            Err(refused) => refused,
        };
        set_headers(&mut answer);
        if head.method == Method::HEAD { answer.map(|_| ReplyBody::empty()) } else { answer }
    }

    async fn page(&self, head: &Parts) -> Response<ReplyBody> {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "this is for reading\n");
        }
        let Some(live) = self.live.get() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "nothing is served yet\n");
        };
        match head.uri.path() {
            "/" => match (DashboardPage { figures: &*live.figures().await }).document() {
                Ok(page) => content("text/html; charset=utf-8", page),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be written\n"),
            },
            "/events" if head.method == Method::HEAD => content("text/event-stream", ""),
            "/events" => match live.watch() {
                Some(body) => content("text/event-stream", "").map(|_| body),
                None => text(StatusCode::SERVICE_UNAVAILABLE, "too many viewers\n"),
            },
            "/stats.json" => {
                // Structs of strings, numbers and lists of such always serialise.
                let json = serde_json::to_vec(&*live.figures().await).unwrap_or_default();
                content("application/json", json)
            }
            "/stats.schema.json" => content("application/schema+json", STATS_SCHEMA),
            "/page.js" => content("text/javascript; charset=utf-8", include_str!("page.js")),
            "/style.css" => content("text/css; charset=utf-8", include_str!("style.css")),
            _ => text(StatusCode::NOT_FOUND, "there are /, /stats.json and /stats.schema.json\n"),
        }
    }
}

/// The JSON schema of `/stats.json`. A test compares it with real answers.
const STATS_SCHEMA: &str = include_str!("stats.schema.json");

impl DashboardGate {
    async fn admit(&self, head: &Parts, address: IpAddr) -> Result<(), Response<ReplyBody>> {
        if is_rebound(&head.headers) && !self.has_name(head) {
            let hint = "browsers use an address, `localhost`, or one of `names`\n";
            return Err(text(StatusCode::MISDIRECTED_REQUEST, hint));
        }
        let Some(logins) = &self.logins else { return Ok(()) };
        let request = IdentityRequest {
            headers: &head.headers,
            peer: &ClientPeer::at(address),
            via: Via::default(),
            registry: None,
            login_registry: None,
        };
        match logins.identify(request).await {
            Ok(principal) if principal.issuer == Issuer::Htpasswd => Ok(()),
            Err(AccessDenied::LoginQueueFull | AccessDenied::RateLimited { .. }) => {
                Err(text(StatusCode::TOO_MANY_REQUESTS, "too many logins; try again soon\n"))
            }
            _ => {
                let mut refused = text(StatusCode::UNAUTHORIZED, "a user and password, please\n");
                let realm = HeaderValue::from_static("Basic realm=\"Larder\", charset=\"UTF-8\"");
                refused.headers_mut().insert(WWW_AUTHENTICATE, realm);
                Err(refused)
            }
        }
    }

    fn has_name(&self, head: &Parts) -> bool {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.and_then(|host| host.parse::<HostPort>().ok());
        host.is_some_and(|host| self.names.iter().any(|name| name.host == host.host))
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<ReplyBody> {
    let mut response = content("text/plain; charset=utf-8", body);
    *response.status_mut() = status;
    response
}

fn content(media_type: &'static str, body: impl Into<Bytes>) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A browser loads nothing but the page's own files, and keeps nothing.
fn set_headers(response: &mut Response<ReplyBody>) {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
                  connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}
