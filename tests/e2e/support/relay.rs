//! A way to a server that counts what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A port that leads to another one, for plain HTTP.
pub(crate) struct Relay {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    /// Bytes that clients have sent, heads included.
    sent: AtomicU64,
    is_over: AtomicBool,
}

impl Relay {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
        let port_here = listener.local_addr().expect("a bound socket has an address").port();
        let (sent, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { to: port, sent, is_over });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if of_thread.is_over.load(Ordering::Relaxed) {
                    return;
                }
                of_thread.pass(client);
            }
        });
        Self { port: port_here, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many bytes have been sent this way.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Both directions, until each has ended. A server that is gone is a connection that ends.
    fn pass(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.to)) else { return };
        let (Ok(from), Ok(back)) = (client.try_clone(), server.try_clone()) else { return };
        let shared = Arc::clone(self);
        std::thread::spawn(move || {
            copy(from, server, |len| {
                shared.sent.fetch_add(len, Ordering::Relaxed);
            });
        });
        std::thread::spawn(move || copy(back, client, |_| {}));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // So that it looks.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// Counts before it passes on: what was answered has been counted.
fn copy(mut from: TcpStream, mut to: TcpStream, count: impl Fn(u64)) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        count(len as u64);
        if to.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
}
