//! The socket for the commands of operators.
//!
//! It is open while Larder uses the cache directory. Its connections are not among those that a
//! stop waits for. Where none can be had, Larder serves without it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::App;
use super::accepting::AcceptLoop;
use crate::control::{ControlService, PageFigures, socket_path};
use crate::http::{ConnectionLoad, IdleGuard, LocalListener, NetworkConnection, serve_connection};

/// The socket, if one is listened on.
#[derive(Debug)]
pub(super) struct ControlSocket {
    open: Option<AcceptLoop>,
}

impl ControlSocket {
    /// Listens in the cache directory, which `app` has to itself.
    pub(super) fn open(app: &App, cache_dir: &Path, page: PageFigures) -> Self {
        let path = socket_path(cache_dir);
        let listener = match LocalListener::bind(&path) {
            Ok(listener) => listener,
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "no control socket: `larder ls` and others read the files");
                return Self { open: None };
            }
        };
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        let service = Arc::new(ControlService::new(app.control_sources(cache_dir, page)));
        let open = AcceptLoop::start(stop.clone(), async move {
            let serve = |io| serve(Arc::clone(&service), io, stop.clone());
            listener.accept(serve, &connections, stop.clone()).await;
        });
        Self { open: Some(open) }
    }

    /// Removes the socket.
    pub(super) async fn close(self) {
        if let Some(open) = self.open {
            open.close().await;
        }
    }
}

/// Serves one command's connection until it ends.
fn serve(
    service: Arc<ControlService>,
    io: NetworkConnection,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let answer = move |request| {
        let service = Arc::clone(&service);
        async move { service.answer(request).await }
    };
    let io = Box::new(IdleGuard::new(io, STALL_MAX));
    serve_connection(io, None, answer, Arc::new(ConnectionLoad::unlimited(stop)))
}

/// A command whose output is read slowly, as by a person with a pager, may take its time.
const STALL_MAX: Duration = Duration::from_secs(600);
