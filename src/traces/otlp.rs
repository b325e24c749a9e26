//! The messages of OTLP (opentelemetry-proto 1.x, `collector/trace/v1`), as far as Larder sends
//! and reads them. The numbers are those of the schema; `tests/it/traces.rs` reads what is written
//! here with the schema itself.

use std::time::SystemTime;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

use super::span::{FinishedSpan, SpanKind, SpanValue};

/// The request that has these spans of this resource.
pub(super) fn encode(resource: &[(String, String)], spans: Vec<FinishedSpan>) -> Bytes {
    let attributes = resource.iter().map(|(name, value)| Pair::text(name, value.clone()));
    let scope =
        ScopeMessage { name: "larder".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let spans = spans.into_iter().map(SpanMessage::from).collect();
    let resource = ResourceSpans {
        resource: Some(ResourceMessage { attributes: attributes.collect() }),
        scopes: vec![ScopeSpans { scope: Some(scope), spans, schema_url: SCHEMA.to_owned() }],
        schema_url: SCHEMA.to_owned(),
    };
    ExportRequest { resources: vec![resource] }.encode_to_vec().into()
}

/// How many spans the collector has refused, by the body of its answer, and why.
pub(super) fn refused(answer: &[u8]) -> Option<(u64, String)> {
    let partial = ExportAnswer::decode(answer).ok()?.partial?;
    let refused = u64::try_from(partial.refused).ok().filter(|refused| *refused > 0)?;
    Some((refused, partial.message))
}

impl From<FinishedSpan> for SpanMessage {
    fn from(span: FinishedSpan) -> Self {
        let remote = if span.is_parent_remote { PARENT_IS_REMOTE } else { 0 };
        let outcome = span.outcome;
        let attributes = outcome.attributes.0.into_iter();
        Self {
            trace_id: span.trace.bytes().to_vec(),
            span_id: span.id.bytes().to_vec(),
            trace_state: span.state.as_deref().unwrap_or_default().to_owned(),
            parent_span_id: span.parent.map(|id| id.bytes().to_vec()).unwrap_or_default(),
            name: outcome.name.into_owned(),
            kind: KindNumber::of(span.kind).into(),
            began: nanos(span.began),
            ended: nanos(span.ended),
            attributes: attributes.map(|(name, value)| Pair::new(name, value.into())).collect(),
            status: outcome.error.map(|message| StatusMessage {
                message: message.into_owned(),
                code: StatusNumber::Error.into(),
            }),
            flags: SAMPLED | PARENT_IS_KNOWN | remote,
        }
    }
}

impl Pair {
    fn new(name: &str, value: PairValue) -> Self {
        Self { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }) }
    }

    fn text(name: &str, value: String) -> Self {
        Self::new(name, PairValue::Text(value))
    }
}

impl From<SpanValue> for PairValue {
    fn from(value: SpanValue) -> Self {
        match value {
            SpanValue::Number(number) => Self::Number(number),
            SpanValue::Seconds(seconds) => Self::Real(seconds),
            SpanValue::Text(text) => Self::Text(text.into()),
        }
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The semantic conventions whose names the attributes have.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

const SAMPLED: u32 = 1;

/// Whether the parent is of another program is said by the bit after this one.
const PARENT_IS_KNOWN: u32 = 0x100;

const PARENT_IS_REMOTE: u32 = 0x200;

#[derive(Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Message)]
struct ExportAnswer {
    #[prost(message, optional, tag = "1")]
    partial: Option<PartialSuccess>,
}

#[derive(Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    refused: i64,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<ResourceMessage>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Message)]
struct ResourceMessage {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Pair>,
}

#[derive(Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<ScopeMessage>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Message)]
struct ScopeMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(enumeration = "KindNumber", tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    began: u64,
    #[prost(fixed64, tag = "8")]
    ended: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Pair>,
    #[prost(message, optional, tag = "15")]
    status: Option<StatusMessage>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
enum KindNumber {
    Unspecified = 0,
    Server = 2,
    Client = 3,
}

impl KindNumber {
    fn of(kind: SpanKind) -> Self {
        match kind {
            SpanKind::Client => Self::Client,
            SpanKind::Server => Self::Server,
        }
    }
}

#[derive(Message)]
struct StatusMessage {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(enumeration = "StatusNumber", tag = "3")]
    code: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
enum StatusNumber {
    Unset = 0,
    Error = 2,
}

#[derive(Message)]
struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Message)]
struct AnyValue {
    #[prost(oneof = "PairValue", tags = "1, 3, 4")]
    value: Option<PairValue>,
}

#[derive(Oneof)]
enum PairValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
    #[prost(double, tag = "4")]
    Real(f64),
}
