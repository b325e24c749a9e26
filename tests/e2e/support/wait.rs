//! Waiting for something to become true, with a deadline: never for a length of time.

use std::net::{SocketAddr, TcpListener, TcpStream};
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

/// A port of the loopback that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Short, because a fill of 1 GiB on the loopback takes a second and one test must meet it.
const PROBE_EVERY: Duration = Duration::from_millis(5);
