//! The operator's side: is it alive, is it of use, what does it do. Reads and changes nothing.
//!
//! It knows no repository's name, and shows none: whoever may see the metrics need not be whoever may
//! see what is pulled.
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
pub use sources::ReportSources;
