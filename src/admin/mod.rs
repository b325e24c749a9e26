//! The operator's side: health, readiness and metrics. It only reads.
//!
//! It shows no repository's name: not every person who may see the metrics may see what is pulled.
//!
//! To show something more, write it into the table in `catalogue.rs` and give its samples in
//! `families.rs`; the tests then want a row in `docs/metrics.md`.

mod answer;
mod catalogue;
mod exposition;
mod families;
mod health;
mod process;
mod sources;

pub use answer::AdminService;
pub use catalogue::{CATALOGUE, Metric, MetricKind};
pub use health::HealthReport;
pub use sources::ReportSources;
