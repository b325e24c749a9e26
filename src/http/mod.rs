//! The wire: connect, accept, bound, drain. Knows HTTP, not registries.

mod body;
mod connection;
mod etag;
mod file;
mod frames;
mod host_port;
mod listen;
mod network;
mod range;

pub use body::{BodyError, Next, ReplyBody, Source};
pub use connection::serve_connection;
pub use etag::{etag_matches, range_applies};
pub use file::FrameReader;
pub use frames::Frames;
pub use host_port::{HostPort, InvalidHostPort};
pub use listen::Listener;
pub use network::{Connection, Duplex, Network, Pending, SystemNetwork};
pub use range::Selection;
