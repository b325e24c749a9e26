//! Why the proxy does not start, or does not take a new configuration.

use std::io;
use std::net::SocketAddr;

use crate::access::NoRandomness;
use crate::config::Diagnostic;
use crate::http::TrustError;
use crate::push;
use crate::store::OpenError;
use crate::upstream::SetupError;

/// Why not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The access log cannot be opened.
    #[error("{}", .0.to_line())]
    AccessLog(Diagnostic),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A socket that the service manager hands over cannot be listened through.
    #[error("cannot use the sockets that `LISTEN_FDS` hands over")]
    Inherited(#[source] io::Error),
    /// The start was broken off.
    #[error("the start was interrupted")]
    Interrupted,
    /// Pushes cannot be passed on.
    #[error("cannot prepare for pushes")]
    Push(#[source] push::PushError),
    /// Nothing can be kept secret.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    /// The cache directory cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The collector of traces cannot be called.
    #[error("cannot prepare for the collector of traces")]
    Traces(#[source] TrustError),
    /// TLS cannot be spoken at an address.
    #[error("cannot speak TLS on {address}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: TrustError,
    },
    /// An upstream cannot be set up.
    #[error(transparent)]
    Upstream(#[from] SetupError),
}
