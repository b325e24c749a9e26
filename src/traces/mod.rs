//! Traces: a span for each request of a client, with a child for each request to an upstream.
//!
//! Which requests are recorded is decided in `tracer.rs`, when a request begins. `scope.rs` keeps
//! the request in mind while tasks work for it, so that nothing between the routes and the
//! upstreams has to pass it on. Spans wait in a bounded queue (`queue.rs`), from which
//! `exporter.rs` sends them over OTLP. The attributes of a span are decided by the caller that ends
//! it. Without a collector in the configuration there is no [`Tracer`], and nothing here runs.

mod child;
mod exporter;
mod ids;
mod options;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "no_otlp.rs"]
mod otlp;
mod parent;
mod queue;
mod request_span;
mod scope;
mod span;
mod tracer;

pub use child::ChildSpan;
pub use exporter::TraceExport;
pub use ids::{SpanId, TraceId};
pub use options::{CollectorHeader, TraceOptions};
pub use parent::{TRACE_PARENT, TRACE_STATE, TraceParent};
pub use queue::{SpanLosses, SpanQueue};
pub use scope::{TraceScope, current_scope, on_try, within};
pub use span::{FinishedSpan, SpanAttributes, SpanKind, SpanOutcome, SpanValue};
pub use tracer::{RequestTrace, Tracer};

/// Whether this build can send traces.
pub const IS_BUILT_IN: bool = cfg!(feature = "otlp");
