//! A span that has ended, as it waits to be sent.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use super::ids::{SpanId, TraceId};

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct FinishedSpan {
    /// The trace that it is part of.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The span that led to it.
    pub parent: Option<SpanId>,
    /// Whether that one is of another program.
    pub is_parent_remote: bool,
    /// The additions of tracing systems to the trace.
    pub state: Option<Arc<str>>,
    /// Its kind.
    pub kind: SpanKind,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// The rest.
    pub outcome: SpanOutcome,
}

/// The end of a span as its caller describes it.
#[derive(Clone, Debug, Default)]
pub struct SpanOutcome {
    /// The name of the span, of which there are few.
    pub name: Cow<'static, str>,
    /// Its attributes.
    pub attributes: SpanAttributes,
    /// The error, if it ended in one: in the words of the log.
    pub error: Option<Cow<'static, str>>,
}

/// The side of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that Larder sends.
    Client,
    /// A request that Larder answers.
    Server,
}

/// The attributes of a span. Those without a value are left out.
#[derive(Clone, Debug, Default)]
pub struct SpanAttributes(pub Vec<(&'static str, SpanValue)>);

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanValue {
    /// A number.
    Number(i64),
    /// Seconds.
    Seconds(f64),
    /// A text.
    Text(Box<str>),
}

impl SpanAttributes {
    /// Adds a text.
    pub fn text(&mut self, name: &'static str, value: Option<impl Into<Box<str>>>) {
        self.0.extend(value.map(|value| (name, SpanValue::Text(value.into()))));
    }

    /// Adds a number.
    pub fn number(&mut self, name: &'static str, value: Option<u64>) {
        let number = |value| SpanValue::Number(i64::try_from(value).unwrap_or(i64::MAX));
        self.0.extend(value.map(|value| (name, number(value))));
    }

    /// Adds seconds.
    pub fn seconds(&mut self, name: &'static str, value: Option<f64>) {
        self.0.extend(value.map(|value| (name, SpanValue::Seconds(value))));
    }
}
