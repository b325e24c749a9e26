//! The wire: connect, accept, bound, drain. Knows HTTP, not registries.

mod address;
mod client;
mod connect;
mod content_range;
mod host_port;
mod network;
mod trust;

pub use address::is_public;
pub(crate) use client::root_cause;
pub use client::{Client, SendError};
pub use connect::{ConnectError, Connector};
pub use content_range::{ContentRange, InvalidContentRange};
pub use host_port::{HostPort, InvalidHostPort};
pub use network::{Connection, Duplex, Network, Pending, SystemNetwork};
pub use trust::{TrustError, client_config};
