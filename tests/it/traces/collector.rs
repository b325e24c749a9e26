//! A collector: it takes OTLP over HTTP, and keeps what it was sent.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use larder::http::NetworkConnection;
use larder::traces::{CollectorHeader, TraceOptions};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;
use tokio::sync::watch;

use crate::support::network::{Server, listen};
use crate::support::{Setup, settle};

/// Its address in networks of tests.
pub const HOST: &str = "collector.test";

/// Longer than spans wait to be sent together.
const EXPORTED: Duration = Duration::from_secs(6);

/// How it answers.
#[derive(Clone, Debug, Default)]
pub enum Mood {
    /// It takes all.
    #[default]
    Willing,
    /// It reads the request and never answers.
    Hung,
    /// It answers this status, perhaps with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// It refuses this many of the spans.
    Partial(i64),
}

/// The collector. Clones are the same one.
#[derive(Clone, Default)]
pub struct Collector {
    state: Arc<Mutex<CollectorState>>,
    taken: watch::Sender<usize>,
}

#[derive(Default)]
struct CollectorState {
    mood: Mood,
    heads: Vec<(String, HeaderMap)>,
    bodies: Vec<Bytes>,
    taken: Vec<ExportTraceServiceRequest>,
}

/// A span, as tests look at it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub span: Span,
    pub attributes: BTreeMap<String, String>,
}

impl Seen {
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    pub fn kind(&self) -> SpanKind {
        self.span.kind()
    }

    pub fn is_child_of(&self, parent: &Self) -> bool {
        self.span.trace_id == parent.span.trace_id
            && self.span.parent_span_id == parent.span.span_id
    }

    pub fn error(&self) -> Option<&str> {
        self.span.status.as_ref().map(|status| &*status.message)
    }
}

impl Collector {
    /// Puts one into the network of a test, and has Larder send it all traces.
    pub fn before(setup: &mut Setup) -> Self {
        let collector = Self::default();
        setup.network.put(HOST, 4318, collector.clone());
        setup.settings.traces = Some(options(&format!("http://{HOST}:4318/v1/traces")));
        collector
    }

    /// Listens on this machine.
    pub async fn listen(&self) -> std::net::SocketAddr {
        listen(self.clone()).await
    }

    pub fn be(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// The requests that came, taken or not: their paths and headers.
    pub fn heads(&self) -> Vec<(String, HeaderMap)> {
        self.state.lock().unwrap().heads.clone()
    }

    /// The bodies of all requests.
    pub fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().bodies.concat()
    }

    /// The attributes of the resource in the last message.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let state = self.state.lock().unwrap();
        let resource = state.taken.last().unwrap().resource_spans[0].resource.as_ref();
        texts(&resource.unwrap().attributes)
    }

    /// The spans that it has.
    pub fn seen(&self) -> Vec<Seen> {
        let state = self.state.lock().unwrap();
        let scopes = state.taken.iter().flat_map(|it| &it.resource_spans);
        let spans = scopes.flat_map(|it| &it.scope_spans).flat_map(|it| &it.spans);
        let seen = |span: &Span| Seen { span: span.clone(), attributes: texts(&span.attributes) };
        spans.map(seen).collect()
    }

    /// Waits until it has the spans of so many requests.
    pub async fn until(&self, count: usize) {
        let mut taken = self.taken.subscribe();
        taken.wait_for(|taken| *taken >= count).await.unwrap();
    }

    /// Waits until all that was recorded has been sent, and gives it. For the paused clock.
    pub async fn spans(&self) -> Vec<Seen> {
        settle().await;
        tokio::time::sleep(EXPORTED).await;
        self.seen()
    }

    /// The same, parted: spans of requests, and spans of requests to upstreams.
    pub async fn parted(&self) -> (Vec<Seen>, Vec<Seen>) {
        self.spans().await.into_iter().partition(|seen| seen.kind() == SpanKind::Server)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let mood = {
            let mut state = self.state.lock().unwrap();
            state.heads.push((head.uri.path().to_owned(), head.headers));
            state.bodies.push(body.clone());
            state.mood.clone()
        };
        let refused = match mood {
            Mood::Willing => 0,
            Mood::Hung => std::future::pending().await,
            Mood::Status(status, after) => {
                let after = after.map(|after| ("retry-after", after.to_string()));
                let mut reply = Response::builder().status(status);
                if let Some((name, value)) = after {
                    reply = reply.header(name, value);
                }
                return reply.body(Full::default()).unwrap();
            }
            Mood::Partial(refused) => refused,
        };
        let message = ExportTraceServiceRequest::decode(body).expect("the schema's message");
        self.state.lock().unwrap().taken.push(message);
        let requests = self.seen().iter().filter(|it| it.kind() == SpanKind::Server).count();
        self.taken.send_replace(requests);
        let partial_success = (refused > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: refused,
            error_message: "no room".to_owned(),
        });
        let answer = ExportTraceServiceResponse { partial_success }.encode_to_vec();
        Response::new(Full::new(answer.into()))
    }
}

impl Server for Collector {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let this = self.clone();
                async move { Ok::<_, std::convert::Infallible>(this.answer(request).await) }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            builder.serve_connection(TokioIo::new(io), service).await.ok();
        })
    }
}

/// All traces, for a collector at this URL, with a header.
pub fn options(url: &str) -> TraceOptions {
    let (name, value) = ("x-tenant".parse().unwrap(), "t1".parse().unwrap());
    TraceOptions {
        url: url.parse().unwrap(),
        headers: vec![CollectorHeader { name, value }],
        ca_pem: None,
        sample_ratio: 1.0,
        resource: vec![("service.name".to_owned(), "larder".to_owned())],
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| {
        let value = match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
            any_value::Value::StringValue(text) => text.clone(),
            any_value::Value::IntValue(number) => number.to_string(),
            any_value::Value::DoubleValue(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (pair.key.clone(), value)
    };
    let texts: BTreeMap<_, _> = attributes.iter().map(text).collect();
    assert_eq!(texts.len(), attributes.len(), "no attribute twice");
    texts
}
