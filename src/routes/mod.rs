//! From a request to one use of the cache, and from its result to an answer.
//!
//! Read `answer.rs` first. Decides which registry a request means and which status a client reads;
//! whether it may do what it asks for is decided in `access`.

mod access_log;
mod answer;
mod blobs;
mod door;
mod entrance;
mod error;
mod event;
mod event_client;
mod line_queue;
mod lists;
mod log;
mod manifests;
mod observed;
mod pull_filter;
mod pushes;
mod reply;
mod request_fields;
mod request_line;
mod request_span;
mod sources;
mod traffic;

pub use access_log::AccessLog;
pub use answer::Routes;
pub use entrance::Entrance;
pub use event::{
    AnswerEnd, EventClass, EventRead, EventReader, EventSender, RequestDetails, RequestEvent,
    RequestKind, RequestSummary, each_event,
};
pub use event_client::EventClient;
pub use line_queue::{LineQueue, RequestLog, RequestLogs};
pub use log::{log_is_wanted, write_log};
pub use observed::ObservedBody;
pub use request_line::LineLayout;
pub use traffic::{AnswerLabels, RegistryCounts, RequestTiming, TrafficCounters};
