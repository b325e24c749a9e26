//! The page for operators: what Larder does now, and what it has done in a day.
//!
//! It only reads, and shows the command that would change something. It may be looked at by people
//! who may not pull: a repository of a registry that decides about its clients itself is never
//! named. Figures come from the counters and events that metrics and the log
//! of pulls use too.
//!
//! `collect.rs` has the figures together, `page.html` shows them, `live.rs` sends them again as
//! they change. Logins are verified in `access/`.

mod activity;
mod collect;
mod figures;
mod live;
mod page;
mod service;
mod sources;
mod top_images;

pub use activity::{Activity, record_activity};
pub use service::{DashboardGate, DashboardService};
pub use sources::DashboardSources;
