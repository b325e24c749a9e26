//! The bytes of a blob on their way to one client: one file for each way that they can come.

pub(super) mod ahead;
mod download;
pub(super) mod fallback;
pub(super) mod growing;
mod late;
pub(super) mod passthrough;
pub(super) mod rechecked;
mod relay;
pub(super) mod span;
pub(super) mod stored;
