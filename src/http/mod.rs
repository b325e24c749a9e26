//! The wire: connect, accept, bound, drain. Knows HTTP, not registries.

mod host_port;

pub use host_port::{HostPort, InvalidHostPort};
