//! The wire: connect, accept, bound, drain. Knows HTTP, not registries.

mod address;
mod body;
mod client;
mod connect;
mod connection;
mod content_range;
mod egress;
mod etag;
mod file;
mod frames;
mod host_port;
mod idle;
mod listen;
mod multipart;
mod network;
mod quota;
mod range;
mod received;
mod server_tls;
mod trust;
mod via;

pub use address::is_public;
pub use body::{BodyError, Next, ReplyBody, Source};
pub(crate) use client::root_cause;
pub use client::{Client, Lane, SendError};
pub use connect::{ConnectError, Connector};
pub use connection::serve_connection;
pub use content_range::{ContentRange, InvalidContentRange};
pub use egress::{Egress, InvalidProxyUrl, Proxies, ProxyOptions, ProxyUrl};
pub use etag::{etag_matches, range_applies};
pub use file::FrameReader;
pub use frames::Frames;
pub use host_port::{HostPort, InvalidHostPort};
/// The body of an upstream's answer, as it comes.
pub use hyper::body::Incoming;
pub use idle::Guarded;
pub use listen::Listener;
pub use multipart::Multipart;
pub use network::{Connection, Duplex, Network, Pending, SystemNetwork};
pub use quota::{Full, Place, Quota};
pub use range::{RANGES_MAX, Selection};
pub use received::{CollectError, Received};
pub use server_tls::{ClientCa, Identity, IdentityError, ServerTls};
pub use trust::{ClientIdentity, TrustError, check_ca, client_config};
pub use via::{InstanceId, Loop, NotOurs, Via};
