//! Sockets that are listening already when the process starts: those that a service manager hands
//! over (`sd_listen_fds(3)`). Connections wait in them while Larder restarts.
//!
//! Which addresses are served is up to the configuration; a socket that it does not name is kept,
//! and accepted from once a reload names it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use super::BoundListener;

/// The sockets that were handed over to this process.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    listeners: Vec<(SocketAddr, TcpListener)>,
}

impl InheritedListeners {
    /// Those of `LISTEN_FDS`, if `LISTEN_PID` is this process. Of use once: a second call finds
    /// descriptors that are owned already.
    ///
    /// # Errors
    ///
    /// If one of them is no TCP socket.
    pub fn of_process() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let mut listeners = Vec::new();
        for number in 0..handed.len() {
            if let Some(listener) = handed.take_tcp_listener(number)? {
                listener.set_nonblocking(true)?;
                listeners.push((listener.local_addr()?, listener));
            }
        }
        Ok(Self { listeners })
    }

    /// Listens at `address`: through the socket that was handed over for it, or a new one.
    pub fn bind(&self, address: SocketAddr) -> io::Result<BoundListener> {
        match self.listeners.iter().find(|(at, _)| serves(*at, address)) {
            Some((_, listener)) => BoundListener::of(listener.try_clone()?),
            None => BoundListener::bind(address),
        }
    }

    /// The addresses of sockets that none of `used` listens through.
    pub fn unused(&self, used: &[SocketAddr]) -> Vec<SocketAddr> {
        let is_unused = |at: &SocketAddr| !used.iter().any(|address| serves(*at, *address));
        self.listeners.iter().map(|(at, _)| *at).filter(is_unused).collect()
    }
}

/// Whether a socket that is bound to `at` is one for `address`. `[::]`, which `ListenStream=5000`
/// binds to, takes connections over IPv4 as `0.0.0.0` does.
fn serves(at: SocketAddr, address: SocketAddr) -> bool {
    let is_any = at.ip().is_unspecified() && address.ip().is_unspecified();
    at == address || (at.is_ipv6() && is_any && at.port() == address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_serves_its_own_address_and_no_narrower_one() {
        for (at, address, want) in [
            ("127.0.0.1:5000", "127.0.0.1:5000", true),
            ("127.0.0.1:5000", "127.0.0.1:5001", false),
            ("127.0.0.1:5000", "127.0.0.2:5000", false),
            ("[::]:5000", "[::]:5000", true),
            ("[::]:5000", "0.0.0.0:5000", true),
            ("0.0.0.0:5000", "[::]:5000", false),
            ("[::]:5000", "127.0.0.1:5000", false),
            ("[::]:5000", "0.0.0.0:0", false),
        ] {
            let is_served = serves(at.parse().unwrap(), address.parse().unwrap());
            assert_eq!(is_served, want, "{at} {address}");
        }
    }

    #[tokio::test]
    async fn a_handed_socket_is_listened_through_again_and_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let handed = InheritedListeners { listeners: vec![(address, listener)] };

        for _ in 0..2 {
            assert_eq!(handed.bind(address).unwrap().address().unwrap(), address);
        }
        assert_eq!(handed.unused(&[address]), []);
        assert_eq!(handed.unused(&[]), [address]);
        let other = handed.bind("127.0.0.1:0".parse().unwrap()).unwrap().address().unwrap();
        assert_ne!(other, address);
    }
}
