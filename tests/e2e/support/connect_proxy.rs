//! An egress proxy that leads the names of the world to ports of this machine: CONNECT, and nothing
//! else.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::lookalikes::wire::read_headers;

/// The proxy, until the process ends.
pub(crate) struct ConnectProxy {
    pub(crate) port: u16,
    refused: Arc<Mutex<Vec<String>>>,
}

struct ConnectTargets {
    /// The port for each `<host>:<port>`.
    ports: HashMap<String, u16>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Leads port 443 of each host to a port of the loopback, and nothing else anywhere.
    pub(crate) fn start<'a>(hosts: impl IntoIterator<Item = (&'a str, u16)>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let ports = hosts.into_iter().map(|(host, port)| (format!("{host}:443"), port)).collect();
        let refused = Arc::default();
        let targets = Arc::new(ConnectTargets { ports, refused: Arc::clone(&refused) });
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let targets = Arc::clone(&targets);
                // A client that leaves in the middle ends its own connection alone.
                std::thread::spawn(move || targets.converse(&client).ok());
            }
        });
        Self { port, refused }
    }

    /// The requests that it refused, by their first lines.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.refused.lock().expect("no thread panics with it").clone()
    }
}

impl ConnectTargets {
    fn converse(&self, client: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        read_headers(&mut reader)?;
        let target = line.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
        let port = target.and_then(|target| self.ports.get(target));
        let mut writer = client;
        // No client of TLS says anything before the answer, so that nothing is lost in the reader.
        let Some(port) = port else {
            self.refused.lock().expect("no thread panics with it").push(line.trim_end().to_owned());
            return writer.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        };
        let server = TcpStream::connect(("127.0.0.1", *port))?;
        writer.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let (from, to) = (client.try_clone()?, server.try_clone()?);
        let sending = std::thread::spawn(move || pass(from, to));
        pass(server, client.try_clone()?);
        sending.join().ok();
        Ok(())
    }
}

/// All bytes of one direction, and its end.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
}
