//! The wire: connect, accept, bound, drain. Knows HTTP, not registries.

mod host_port;
mod network;

pub use host_port::{HostPort, InvalidHostPort};
pub use network::{Connection, Duplex, Network, Pending, SystemNetwork};
