//! The whole network that a test can see: names, addresses and servers, in memory. Tests beside the
//! code and benchmarks have the same.
//!
//! A name that was not given does not resolve. An address at which no server was put is a
//! tripwire: a connection to it is refused, recorded, and fails the test when the proxy is
//! dropped ([`TestNetwork::assert_untripped`]). So nothing has to be forbidden one by one.
//!
//! Fake addresses of servers are public ones, because private ones mean something to the product.
//! Nothing is ever dialled.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use larder::http::{Network, NetworkConnection, NetworkFuture};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Bytes that one direction of a connection holds before its writer waits.
const BUFFER: usize = 64 << 10;

/// Whatever answers connections.
pub trait Server: Send + Sync + 'static {
    /// Serves one connection until either side ends it.
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Has a server listen on a free port of the loopback until the runtime ends.
pub async fn listen(server: impl Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, server) = (listener.local_addr().unwrap(), Arc::new(server));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.serve(Box::new(stream)).await });
        }
    });
    address
}

/// Ends each connection.
struct NoServer;

impl Server for NoServer {
    fn serve(&self, _: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}

/// How a host can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Packets vanish: connecting never ends, open connections fall silent.
    Dark,
    /// Connections are refused, open ones are cut.
    Down,
    /// As it should be.
    Up,
}

/// The network. Clones are the same one.
#[derive(Clone, Default)]
pub struct TestNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How many servers were put, for the next address.
    hosts: u8,
    names: HashMap<String, Vec<IpAddr>>,
    sites: HashMap<SocketAddr, Site>,
    /// Names whose look-ups are never answered.
    silent: Vec<String>,
    connections: Vec<SocketAddr>,
    /// Connections that neither side has ended, and the most that there were of them.
    open: usize,
    most_open: usize,
    lookups: Vec<String>,
    tripped: Vec<SocketAddr>,
}

#[derive(Clone)]
struct Site {
    server: Arc<dyn Server>,
    reach: watch::Sender<Reach>,
}

impl TestNetwork {
    /// Puts a server at `host` (a name or an address) and `port`, and makes the name resolve.
    pub fn put(&self, host: &str, port: u16, server: impl Server) {
        let mut state = self.state();
        state.hosts += 1;
        let fresh = Ipv4Addr::new(20, 0, 0, state.hosts);
        let address = match host.parse() {
            Ok(literal) => literal,
            Err(_) => state.names.entry(host.to_owned()).or_insert_with(|| vec![fresh.into()])[0],
        };
        drop(state);
        self.put_at((address, port).into(), server);
    }

    /// Puts a server at an address, which is reached as before.
    pub fn put_at(&self, address: SocketAddr, server: impl Server) {
        let mut state = self.state();
        let known = state.sites.remove(&address).map(|site| site.reach);
        let reach = known.unwrap_or_else(|| watch::Sender::new(Reach::Up));
        state.sites.insert(address, Site { server: Arc::new(server), reach });
    }

    /// Changes how an address can be reached, at which there may be no server.
    pub fn set_at(&self, address: SocketAddr, reach: Reach) {
        let mut state = self.state();
        let absent = || Site { server: Arc::new(NoServer), reach: watch::Sender::new(reach) };
        state.sites.entry(address).or_insert_with(absent).reach.send_replace(reach);
    }

    /// Has look-ups of `host` never be answered.
    pub fn silence(&self, host: &str) {
        self.state().silent.push(host.to_owned());
    }

    /// Makes `host` resolve to `addresses`, whatever is there.
    pub fn name(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.state().names.insert(host.to_owned(), addresses);
    }

    /// Makes `host` resolve to nothing.
    pub fn unname(&self, host: &str) {
        self.state().names.remove(host);
    }

    /// Changes how every server of `host` can be reached.
    pub fn set(&self, host: &str, reach: Reach) {
        let state = self.state();
        let addresses = state.names.get(host).unwrap_or_else(|| panic!("no host {host}"));
        for (address, site) in &state.sites {
            if addresses.contains(&address.ip()) {
                site.reach.send_replace(reach);
            }
        }
    }

    /// Every connection attempted, in order.
    pub fn connections(&self) -> Vec<SocketAddr> {
        self.state().connections.clone()
    }

    /// The most connections that were open at once.
    pub fn most_open(&self) -> usize {
        self.state().most_open
    }

    /// Every name that was looked up, in order.
    pub fn lookups(&self) -> Vec<String> {
        self.state().lookups.clone()
    }

    /// Fails if a connection to an address without a server was attempted.
    pub fn assert_untripped(&self) {
        let tripped = self.state().tripped.clone();
        assert!(tripped.is_empty(), "connections to where nothing may connect: {tripped:?}");
    }

    fn opened(&self) {
        let mut state = self.state();
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Network for TestNetwork {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>> {
        Box::pin(async move {
            let is_silent = self.state().silent.iter().any(|name| name == host);
            if is_silent {
                std::future::pending::<()>().await;
            }
            let mut state = self.state();
            state.lookups.push(host.to_owned());
            let known = match host.parse() {
                Ok(literal) => Some(vec![literal]),
                Err(_) => state.names.get(host).cloned(),
            };
            let addresses = known.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("no such host: {host}"))
            })?;
            Ok(addresses.into_iter().map(|address| (address, port).into()).collect())
        })
    }

    fn connect(&self, address: SocketAddr) -> NetworkFuture<'_, NetworkConnection> {
        Box::pin(async move {
            let site = {
                let mut state = self.state();
                state.connections.push(address);
                let site = state.sites.get(&address).cloned();
                if site.is_none() {
                    state.tripped.push(address);
                }
                site.ok_or(io::ErrorKind::ConnectionRefused)?
            };
            let mut reach = site.reach.subscribe();
            let reached = *reach.wait_for(|reach| *reach != Reach::Dark).await.unwrap();
            if reached == Reach::Down {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(BUFFER);
            self.opened();
            let this = self.clone();
            tokio::spawn(async move {
                let serving = site.server.serve(Box::new(far));
                reachable(reach, serving).await;
                this.state().open -= 1;
            });
            Ok(Box::new(near) as NetworkConnection)
        })
    }
}

/// Runs `serving` while its host is up, holds it while the host is dark, ends it when it is down.
async fn reachable(mut reach: watch::Receiver<Reach>, serving: impl Future<Output = ()>) {
    tokio::pin!(serving);
    loop {
        let now = *reach.borrow_and_update();
        match now {
            Reach::Dark => {
                if reach.changed().await.is_err() {
                    return;
                }
            }
            Reach::Down => return,
            Reach::Up => tokio::select! {
                biased;
                changed = reach.changed() => if changed.is_err() { return },
                () = &mut serving => return,
            },
        }
    }
}

impl fmt::Debug for TestNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNetwork").finish_non_exhaustive()
    }
}
