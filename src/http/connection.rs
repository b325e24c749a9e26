//! One client connection: HTTP/1.1 or HTTP/2 by its first bytes, within limits.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;

use super::connection_load::ConnectionLoad;
use super::half_close::{ClientPresence, HalfCloseStream};
use super::held_body::HeldBody;
use super::{BodyData, BodyError, NetworkConnection, SendfileQueue};

/// Whether a request's body ends where another reader may not see its end: with any coding but one
/// `chunked`. To be refused, and its connection closed (RFC 9112, 6.1). hyper refuses worse framing
/// before.
pub fn is_oddly_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    codings.next().is_some()
        || first.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// The connection of a request that has it for itself, as over HTTP/1.
#[derive(Clone, Debug)]
pub struct OwnConnection {
    /// Whether its client may have left.
    pub presence: ClientPresence,
    /// The queue of files of its socket, if nothing is between them.
    pub outlet: Option<SendfileQueue>,
}

/// Serves a connection until it ends. When `load` is stopped the request under way is finished and
/// no other is taken, unless the connection has to make room for another. One without any gets a
/// moment for its first.
///
/// `outlet` is that of the socket under `io`, if nothing is between them. Requests over HTTP/1
/// have an [`OwnConnection`] among their extensions; HTTP/2 mixes the bodies of several.
///
/// Each request counts in `load`. A stream that its client may not have is refused, so that the
/// client may open it again (RFC 9113, 8.7).
pub async fn serve_connection<F, B>(
    io: NetworkConnection,
    outlet: Option<SendfileQueue>,
    answer: impl Fn(Request<Incoming>) -> F + Clone,
    load: Arc<ConnectionLoad>,
) where
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = BodyData, Error = BodyError> + Send + Unpin + 'static,
{
    let presence = ClientPresence::default();
    let io = HalfCloseStream::new(io, presence.clone());
    let own = Arc::new(OwnConnection { presence, outlet });
    let counted = Arc::clone(&load);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let is_http1 = request.version() <= Version::HTTP_11;
        if is_http1 {
            request.extensions_mut().insert(Arc::clone(&own));
        }
        let answer = counted.begin(is_http1).map(|permit| (answer(request), permit));
        async move {
            let (answer, permit) = answer.ok_or(h2::Reason::REFUSED_STREAM)?;
            Ok::<_, h2::Error>(answer.await.map(|body| HeldBody::new(body, permit)))
        }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = load.closing() => {
            if load.is_ended() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client that leaves, a body that was cut, a request that was none: all ordinary.
    drop(ended.inspect_err(|error| tracing::debug!(%error, "connection closed")));
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_MAX)
        .half_close(true)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HTTP2_HEADERS_BYTES_MAX)
        .max_local_error_reset_streams(HTTP2_ERROR_RESETS_MAX)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES);
    builder
}

/// A client that has not sent its headers by then is not going to. Also how long a connection
/// may idle between requests.
const HEADER_READ_MAX: Duration = Duration::from_secs(60);

/// hyper queues frames until this much is waiting to be sent, so a client that stops reading
/// costs one frame. It is also the longest request head that is read.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;

/// As many as Go's server and nginx allow, within the usual.
const HTTP2_STREAMS_MAX: u32 = 128;

/// Real requests have less than 2 KiB of headers.
const HTTP2_HEADERS_BYTES_MAX: u32 = 32 << 10;

/// Streams that we had to reset, before the connection is given up (CVE-2025-8671).
const HTTP2_ERROR_RESETS_MAX: usize = 128;

/// Streams that a client opened and reset before they were served (CVE-2023-44487).
const HTTP2_PENDING_RESETS_MAX: usize = 32;

/// For each stream: one frame.
const HTTP2_SEND_BUFFER_BYTES: usize = 64 << 10;
