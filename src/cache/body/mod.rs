//! The bytes of a blob on their way to one client.

pub(super) mod ahead;
pub(super) mod growing;
pub(super) mod passthrough;
pub(super) mod rechecked;
pub(super) mod relay;
