//! Telling the service manager how the process is: `sd_notify(3)`.
//!
//! The socket is named by `NOTIFY_SOCKET`; without it nothing is sent. A message that cannot be
//! sent is logged, and has no other consequence.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

use crate::config::Environment;

/// The service manager, if there is one.
#[derive(Clone, Debug)]
pub(super) struct ServiceManager {
    address: Option<SocketAddr>,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn of(environment: &Environment) -> Self {
        let address = environment.value("NOTIFY_SOCKET").map(address);
        let address = address.and_then(|address| {
            address.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET names no socket; the service manager is not notified")).ok()
        });
        Self { address }
    }

    /// Requests are served.
    pub(super) fn ready(&self) {
        self.say("READY=1");
    }

    /// The configuration is being read again, until `ready`.
    pub(super) fn reloading(&self) {
        // The manager tells by it which of its signals is being answered.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, state: &str) {
        let Some(address) = &self.address else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            // A manager that does not listen must not hold us.
            socket.set_nonblocking(true)?;
            socket.send_to_addr(state.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::warn!(%error, state, "cannot notify the service manager");
        }
    }
}

/// A path, or behind `@` a name in the abstract namespace.
fn address(text: &OsStr) -> io::Result<SocketAddr> {
    match text.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_is_told_through_either_kind_of_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("larder-test-{}", std::process::id());
        let abstract_one = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_one).unwrap();

        for (value, socket) in
            [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)]
        {
            let manager = ServiceManager::of(&[("NOTIFY_SOCKET", value)].into_iter().collect());
            manager.ready();
            manager.reloading();
            manager.stopping();
            assert_eq!(heard(&socket), "READY=1");
            assert!(heard(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            assert_eq!(heard(&socket), "STOPPING=1");
        }
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let manager = ServiceManager::of(&Environment::default());
        manager.ready();
        assert!(manager.address.is_none());
    }
}
