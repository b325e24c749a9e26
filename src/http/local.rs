//! HTTP within a machine: commands talk to its server, over a unix socket.
//!
//! Access to the socket is up to the file system: only its owner, and root, may connect.

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustix::fs::{CWD, Mode, OFlags, fchmod, openat};
use rustix::net::socket_with;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::NetworkConnection;

/// A socket in the file system, removed when this is dropped.
#[derive(Debug)]
pub struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalListener {
    /// Binds, in the place of a socket that a killed process has left. Only the owner may connect,
    /// from the first moment on. The caller sees to it that no other process serves there.
    ///
    /// # Errors
    ///
    /// Those of the file system, and [`io::ErrorKind::AlreadyExists`] where there is a file that is
    /// no socket.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Linux gives the file the mode that the socket had before.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        let address = ShortAddress::of(path)?;
        bind(&socket, &SocketAddrUnix::new(address.path.as_path())?)?;
        listen(&socket, BACKLOG)?;
        let listener = UnixListener::from_std(blocking::UnixListener::from(socket))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Accepts until `stop` is cancelled, and serves each connection in a task of `tasks`.
    pub async fn accept<F>(
        self,
        serve: impl Fn(NetworkConnection) -> F,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => drop(tasks.spawn(serve(Box::new(stream)))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection at the control socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        // One that stays is replaced by the next process.
        drop(fs::remove_file(&self.path));
    }
}

/// The address of a socket, in the 107 bytes that one may have: the path itself, or the path from
/// its directory, which is held open.
struct ShortAddress {
    path: PathBuf,
    _dir: Option<OwnedFd>,
}

impl ShortAddress {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= ADDRESS_BYTES_MAX {
            return Ok(Self { path: path.to_owned(), _dir: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, parent, flags, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _dir: Some(dir) })
    }
}

/// The answer of a server to a request over its socket.
#[derive(Debug)]
pub struct LocalAnswer {
    /// Its status.
    pub status: StatusCode,
    body: Incoming,
    buffer: Vec<u8>,
}

impl LocalAnswer {
    /// The next line of the body, without its end; `None` after the last one.
    ///
    /// # Errors
    ///
    /// Those of the connection, and [`io::ErrorKind::TimedOut`] when nothing comes for a minute.
    pub async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(Some(line));
            }
            let frame = timeout(ANSWER_WAIT, self.body.frame()).await;
            let frame = frame.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            let Some(frame) = frame.transpose().map_err(io::Error::other)? else {
                let last = std::mem::take(&mut self.buffer);
                return Ok((!last.is_empty()).then_some(last));
            };
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}

/// The body of a request: pieces that come through a channel. An error among them breaks it off.
#[derive(Debug)]
pub struct LocalBody {
    pieces: Receiver<io::Result<Bytes>>,
}

impl LocalBody {
    /// The body, and the end through which its pieces come.
    pub fn channel() -> (Sender<io::Result<Bytes>>, Self) {
        let (sender, pieces) = channel(PIECES_MAX);
        (sender, Self { pieces })
    }
}

impl Body for LocalBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Receives the body of a request to a local server: its pieces go through the channel, and what is
/// not taken from there is thrown away, so that the client can read why.
pub async fn receive_local(mut body: Incoming, pieces: Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => frame.into_data().map(Ok),
            Err(error) => Ok(Err(io::Error::other(error))),
        };
        if let Ok(piece) = piece {
            // A receiver that has gone needs no more.
            drop(pieces.send(piece).await);
        }
    }
}

/// Sends a request to the server that listens at `path`.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] and [`io::ErrorKind::ConnectionRefused`] when none does;
/// [`io::ErrorKind::TimedOut`] when it does not answer within a minute.
pub async fn ask_local(
    path: &Path,
    method: Method,
    target: &str,
    body: Option<LocalBody>,
) -> io::Result<LocalAnswer> {
    let address = ShortAddress::of(path)?;
    ask(UnixStream::connect(&address.path).await?, method, target, body).await
}

/// Sends a GET request over plain HTTP to a server at an address of this machine.
///
/// # Errors
///
/// Those of the connection, and [`io::ErrorKind::TimedOut`] when the server does not answer within
/// a minute.
pub async fn ask_address(address: SocketAddr, target: &str) -> io::Result<LocalAnswer> {
    ask(TcpStream::connect(address).await?, Method::GET, target, None).await
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    method: Method,
    target: &str,
    body: Option<LocalBody>,
) -> io::Result<LocalAnswer> {
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Its errors are those of the answer.
    drop(tokio::spawn(connection));
    let empty = || Empty::<Bytes>::new().map_err(io::Error::other).boxed();
    let body: BoxBody<Bytes, io::Error> = body.map_or_else(empty, BodyExt::boxed);
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().map_err(io::Error::other)?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    let answer = timeout(ANSWER_WAIT, sender.send_request(request)).await;
    let answer = answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let (head, body) = answer.map_err(io::Error::other)?.into_parts();
    Ok(LocalAnswer { status: head.status, body, buffer: Vec::new() })
}

/// Pieces of a body that wait to be sent.
const PIECES_MAX: usize = 8;

/// Commands that wait to be accepted.
const BACKLOG: i32 = 64;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a server may take to begin its answer, or to go on with it: one that lists a large
/// cache on a slow disk sends a row long before.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// `sun_path` of Linux, without the zero at its end.
const ADDRESS_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Another user must not even connect in the moment after the bind.
    #[tokio::test]
    async fn a_socket_is_its_owners_alone_takes_the_place_of_a_left_one_and_goes_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        for path in [dir.path().join("socket"), deep.join("socket")] {
            let left = LocalListener::bind(&path).unwrap();
            std::mem::forget(left);
            let listener = LocalListener::bind(&path).unwrap();
            let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
            let address = ShortAddress::of(&path).unwrap();
            UnixStream::connect(&address.path).await.unwrap();
            drop(listener);
            assert!(!path.exists());
            let error = ask_local(&path, Method::GET, "/", None).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        fs::write(&path, "mine").unwrap();
        let refused = LocalListener::bind(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
