//! Waiting for something to become true, with a deadline: never for a length of time.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// For a daemon to start or to end on a loaded machine of two cores.
pub(crate) const DAEMON: Duration = Duration::from_secs(60);

/// Asks `probe` again and again until it answers; panics with `what` after `limit`.
pub(crate) fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain until {what}");
        std::thread::sleep(PROBE_EVERY);
    }
}

/// Whether something listens there.
pub(crate) fn answers(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// A port of the loopback that is free, and that no earlier call in this process returned.
///
/// It lies below 32768, where Linux starts to give ports to outgoing connections: a port from there
/// can be taken by any client between this call and the server's `bind`.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run side by side start at different places.
    let start = std::process::id().wrapping_mul(97);
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = u16::try_from(10_000 + offset).expect("ports below 30,000 fit");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Short, because a fill of 1 GiB on the loopback takes a second and one test must meet it.
const PROBE_EVERY: Duration = Duration::from_millis(5);
