//! The addresses that are listened on, and what is served at each.
//!
//! A change is made in two steps: [`ListenPorts::prepare`] does all that can fail,
//! [`ListenPorts::commit`] the rest. An address that stays is not closed for a moment, and its
//! connections are not touched.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::accepting::AcceptLoop;
use super::latest::LatestValue;
use super::{App, StartError};
use crate::access::ListenerAccess;
use crate::config;
use crate::http::{
    BoundListener, ClientPeer, ClientSocket, ConnectionAdmission, ConnectionLoad, ConnectionPermit,
    ConnectionQuota, IdleGuard, InheritedListeners, NetworkConnection, QuotaExceeded, ServerTls,
    TrustError,
};
use crate::routes::Entrance;

/// Every address that is listened on.
#[derive(Debug, Default)]
pub(super) struct ListenPorts {
    pub(super) inherited: Arc<InheritedListeners>,
    open: Vec<OpenPort>,
}

/// An address that is listened on, and what is served there at present.
#[derive(Debug)]
pub(super) struct ListenPort {
    entrance: Arc<LatestValue<Entrance>>,
    tls: LatestValue<Option<PortTls>>,
    access: LatestValue<config::AccessSettings>,
    address: SocketAddr,
    /// Whether it was told that a client speaks TLS where there is none, or the other way round.
    is_mismatch_told: AtomicBool,
}

/// TLS, and where its certificate is from.
#[derive(Clone, Debug)]
pub(super) struct PortTls {
    pub(super) options: config::TlsSettings,
    pub(super) server: ServerTls,
}

/// The parts of an address that are read from files.
#[derive(Debug)]
pub(super) struct PortFiles {
    pub(super) tls: Arc<Option<PortTls>>,
    pub(super) access: Arc<config::AccessSettings>,
}

#[derive(Debug)]
struct OpenPort {
    /// As configured; port 0 stays 0.
    address: SocketAddr,
    port: Arc<ListenPort>,
    accepting: AcceptLoop,
}

/// Ports that are ready to take the place of those there are.
#[derive(Debug)]
pub(super) struct PreparedPorts {
    ports: Vec<(SocketAddr, ReadyPort)>,
}

#[derive(Debug)]
struct ReadyPort {
    listener: config::ListenerSettings,
    tls: Option<PortTls>,
    /// `None` if the address is listened on already.
    bound: Option<BoundListener>,
}

impl ListenPorts {
    /// None yet.
    pub(super) fn new(inherited: Arc<InheritedListeners>) -> Self {
        Self { inherited, open: Vec::new() }
    }

    /// Binds what is not bound yet and sets TLS up.
    pub(super) fn prepare(
        &self,
        listeners: &[config::ListenerSettings],
    ) -> Result<PreparedPorts, StartError> {
        let mut ports = Vec::new();
        for listener in listeners {
            let address = listener.address;
            let tls = tls_of(listener).map_err(|source| StartError::Tls { address, source })?;
            // Port 0 is another port each time, so there is nothing to keep.
            let is_open = address.port() != 0 && self.open.iter().any(|it| it.address == address);
            let bound = (!is_open).then(|| self.inherited.bind(address)).transpose();
            let bound = bound.map_err(|source| StartError::Bind { address, source })?;
            ports.push((address, ReadyPort { listener: listener.clone(), tls, bound }));
        }
        Ok(PreparedPorts { ports })
    }

    /// Serves at these and at no others. Connections that are open stay so.
    pub(super) async fn commit(&mut self, prepared: PreparedPorts, app: &App) {
        let mut before = std::mem::take(&mut self.open);
        for (address, ready) in prepared.ports {
            let entrance = app.entrance(&ready.listener);
            let Some(listener) = ready.bound else {
                let Some(at) = before.iter().position(|it| it.address == address) else { continue };
                let open = before.swap_remove(at);
                open.port.entrance.put(entrance);
                open.port.tls.put(ready.tls);
                open.port.access.put(ready.listener.access);
                self.open.push(open);
                continue;
            };
            let port = Arc::new(ListenPort {
                entrance: Arc::new(LatestValue::new(entrance)),
                tls: LatestValue::new(ready.tls),
                access: LatestValue::new(ready.listener.access),
                address: listener.address().unwrap_or(address),
                is_mismatch_told: AtomicBool::new(false),
            });
            if let Ok(address) = listener.address() {
                tracing::info!(%address, tls = port.tls.take().is_some(), "listening");
            }
            let accepting = app.accept(listener, Arc::clone(&port));
            self.open.push(OpenPort { address, port, accepting });
        }
        app.secured.put(self.open.iter().filter_map(|open| open.port.secured()).collect());
        for closed in before {
            closed.accepting.close().await;
            tracing::info!(address = %closed.address, "no longer listening");
        }
    }

    /// How each address is served, to look after the files that this rests on.
    pub(super) fn served(&self) -> Vec<PortFiles> {
        let served = |open: &OpenPort| PortFiles {
            tls: open.port.tls.take(),
            access: open.port.access.take(),
        };
        self.open.iter().map(served).collect()
    }
}

fn tls_of(listener: &config::ListenerSettings) -> Result<Option<PortTls>, TrustError> {
    let Some(options) = &listener.tls else { return Ok(None) };
    let identity = options.identity.clone();
    let server = ServerTls::new(identity, options.clients.as_ref(), &listener.names)?;
    Ok(Some(PortTls { options: options.clone(), server }))
}

impl ListenPort {
    /// Its address with its TLS, if it has any.
    fn secured(&self) -> Option<(SocketAddr, ServerTls)> {
        let tls = self.tls.take();
        tls.as_ref().as_ref().map(|tls| (self.address, tls.server.clone()))
    }

    /// Tells the operator once of a client that speaks TLS to a listener without it, or plain HTTP
    /// to one with TLS.
    fn tell_of_mismatch(&self, first_byte: u8, is_tls: bool, client: IpAddr) {
        let is_mismatch = match first_byte {
            TLS_HANDSHAKE => !is_tls,
            _ => is_tls && first_byte.is_ascii_uppercase(),
        };
        if !is_mismatch || self.is_mismatch_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let listener = self.address;
        if is_tls {
            let hint = "have it use `https://`, or give it a listener without TLS";
            tracing::warn!(%client, %listener, hint, "a client speaks plain HTTP to a TLS listener");
        } else {
            let hint = "give the listener `tls`, or have the client use plain HTTP (`http://`, \
                        `insecure`)";
            tracing::warn!(%client, %listener, hint, "a client speaks TLS to a plain listener");
        }
    }
}

/// The first byte of a TLS record with a handshake in it (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

impl App {
    fn entrance(&self, listener: &config::ListenerSettings) -> Entrance {
        Entrance {
            names: listener.names.clone(),
            doors: listener.doors,
            is_tls: listener.tls.is_some(),
            access: ListenerAccess::new(listener.access.options.clone(), Arc::clone(&self.ledger)),
        }
    }

    fn accept(&self, listener: BoundListener, port: Arc<ListenPort>) -> AcceptLoop {
        let (app, stop) = (self.clone(), self.stop.child_token());
        AcceptLoop::start(stop.clone(), async move {
            let serve = |socket, client, permit: ConnectionPermit| {
                let (app, port) = (app.clone(), Arc::clone(&port));
                async move { app.serve_port(socket, client, port, &permit).await }
            };
            listener.accept(&app, serve, &app.connections, stop).await;
        })
    }

    async fn serve_port(
        &self,
        socket: ClientSocket,
        client: IpAddr,
        port: Arc<ListenPort>,
        load: &Arc<ConnectionLoad>,
    ) {
        let (outlet, tls) = (socket.outlet(), port.tls.take());
        if tls.is_some() {
            socket.queue_little();
        }
        let is_tls = tls.is_some();
        let told = Arc::clone(&port);
        let io = IdleGuard::new(Box::new(socket), self.limits.take().stall)
            .watching(Arc::clone(load))
            .on_first_byte(move |first| told.tell_of_mismatch(first, is_tls, client));
        let io: NetworkConnection = Box::new(io);
        let mut peer = ClientPeer::at(client);
        let (io, outlet) = match tls.as_ref() {
            None => (io, Some(outlet)),
            Some(tls) => match shake_hands(tls, io, load).await {
                // The bytes of a TLS connection have to pass through user space.
                Some((io, names)) => {
                    peer.names = names;
                    (io, None)
                }
                None => return,
            },
        };
        drop(tls);
        self.serve_at(io, outlet, peer, Arc::clone(&port.entrance), Arc::clone(load)).await;
    }
}

async fn shake_hands(
    tls: &PortTls,
    io: NetworkConnection,
    load: &ConnectionLoad,
) -> Option<(NetworkConnection, Vec<String>)> {
    let shaken = tokio::select! {
        () = load.closed_unused() => return None,
        shaken = tls.server.accept(io) => shaken,
    };
    // Port scanners, plain HTTP, clients that do not believe the certificate: all ordinary.
    shaken.inspect_err(|error| tracing::debug!(%error, "TLS handshake failed")).ok()
}

impl ConnectionAdmission for App {
    fn quota(&self) -> &ConnectionQuota {
        &self.quota
    }

    async fn admit(&self, client: IpAddr) -> Option<ConnectionPermit> {
        let max = self.limits.take().connections.map_or(usize::MAX, NonZeroUsize::get);
        let refused = |full: &QuotaExceeded| {
            if full.is_news {
                let hint = "further ones are closed; RLIMIT_NOFILE bounds all connections together";
                tracing::warn!(%client, max, hint, "a client has all of `connections_per_client` open");
            }
        };
        self.quota.enter(client, max).await.inspect_err(refused).ok()
    }
}
