//! The addresses that are listened on, and what is served at each.
//!
//! A change is made in two steps: [`Ports::prepare`] does all that can fail, [`Ports::commit`] the
//! rest. An address that stays is not closed for a moment, and its connections are not touched.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::accepting::Accepting;
use super::latest::Latest;
use super::{App, StartError};
use crate::access::Access;
use crate::config;
use crate::http::{
    Connection, Full, Guarded, Listener, Peer, Place, ServerTls, Socket, TrustError,
};
use crate::routes::Entrance;

/// Every address that is listened on.
#[derive(Debug, Default)]
pub(super) struct Ports {
    open: Vec<Open>,
}

/// What is served at an address, at present.
#[derive(Debug)]
pub(super) struct Port {
    entrance: Arc<Latest<Entrance>>,
    tls: Latest<Option<Tls>>,
    access: Latest<config::Access>,
}

/// TLS, and where its certificate is from.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) options: config::Tls,
    pub(super) server: ServerTls,
}

/// What of an address rests on files.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) tls: Arc<Option<Tls>>,
    pub(super) access: Arc<config::Access>,
}

#[derive(Debug)]
struct Open {
    /// As configured; port 0 stays 0.
    address: SocketAddr,
    port: Arc<Port>,
    accepting: Accepting,
}

/// Ports that are ready to take the place of those there are.
#[derive(Debug)]
pub(super) struct Prepared {
    ports: Vec<(SocketAddr, Ready)>,
}

#[derive(Debug)]
struct Ready {
    listener: config::Listener,
    tls: Option<Tls>,
    /// `None` if the address is listened on already.
    bound: Option<Listener>,
}

impl Ports {
    /// Binds what is not bound yet and sets TLS up.
    pub(super) async fn prepare(
        &self,
        listeners: &[config::Listener],
    ) -> Result<Prepared, StartError> {
        let mut ports = Vec::new();
        for listener in listeners {
            let address = listener.address;
            let tls = tls_of(listener).map_err(|source| StartError::Tls { address, source })?;
            // Port 0 is another port each time, so there is nothing to keep.
            let is_open = address.port() != 0 && self.open.iter().any(|it| it.address == address);
            let bound = if is_open {
                None
            } else {
                let bound = Listener::bind(address).await;
                Some(bound.map_err(|source| StartError::Bind { address, source })?)
            };
            ports.push((address, Ready { listener: listener.clone(), tls, bound }));
        }
        Ok(Prepared { ports })
    }

    /// Serves at these and at no others. Connections that are open stay so.
    pub(super) async fn commit(&mut self, prepared: Prepared, app: &App) {
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
            let port = Arc::new(Port {
                entrance: Arc::new(Latest::new(entrance)),
                tls: Latest::new(ready.tls),
                access: Latest::new(ready.listener.access),
            });
            if let Ok(address) = listener.address() {
                tracing::info!(%address, tls = port.tls.take().is_some(), "listening");
            }
            let accepting = app.accept(listener, Arc::clone(&port));
            self.open.push(Open { address, port, accepting });
        }
        for closed in before {
            closed.accepting.close().await;
            tracing::info!(address = %closed.address, "no longer listening");
        }
    }

    /// How each address is served, to look after the files that this rests on.
    pub(super) fn served(&self) -> Vec<Served> {
        let served =
            |open: &Open| Served { tls: open.port.tls.take(), access: open.port.access.take() };
        self.open.iter().map(served).collect()
    }
}

fn tls_of(listener: &config::Listener) -> Result<Option<Tls>, TrustError> {
    let Some(options) = &listener.tls else { return Ok(None) };
    let identity = options.identity.clone();
    let server = ServerTls::new(identity, options.clients.as_ref(), &listener.names)?;
    Ok(Some(Tls { options: options.clone(), server }))
}

impl App {
    fn entrance(&self, listener: &config::Listener) -> Entrance {
        Entrance {
            names: listener.names.clone(),
            doors: listener.doors,
            is_tls: listener.tls.is_some(),
            access: Access::new(listener.access.options.clone(), Arc::clone(&self.ledger)),
        }
    }

    fn accept(&self, listener: Listener, port: Arc<Port>) -> Accepting {
        let (app, stop) = (self.clone(), self.stop.child_token());
        Accepting::start(stop.clone(), async move {
            let serve = |socket, client| app.serve_port(socket, client, Arc::clone(&port));
            listener.accept(serve, &app.connections, stop).await;
        })
    }

    fn serve_port(
        &self,
        socket: Socket,
        client: IpAddr,
        port: Arc<Port>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let app = self.clone();
        async move {
            let limits = app.limits.take();
            let Some(_place) = app.place(client, limits.connections) else { return };
            let (outlet, tls) = (socket.outlet(), port.tls.take());
            if tls.is_some() {
                socket.queue_little();
            }
            let io: Connection = Box::new(Guarded::new(Box::new(socket), limits.stall));
            let mut peer = Peer::at(client);
            let (io, outlet) = match tls.as_ref() {
                None => (io, Some(outlet)),
                Some(tls) => match app.shake_hands(tls, io).await {
                    // What is encrypted has to be read.
                    Some((io, names)) => {
                        peer.names = names;
                        (io, None)
                    }
                    None => return,
                },
            };
            drop(tls);
            app.serve_at((io, outlet), peer, Arc::clone(&port.entrance)).await;
        }
    }

    /// A place for a connection; what it gets else is a closed one, which costs least.
    fn place(&self, client: IpAddr, max: Option<NonZeroUsize>) -> Option<Place> {
        let max = max.map_or(usize::MAX, NonZeroUsize::get);
        let refused = |full: &Full| {
            if full.is_news {
                tracing::warn!(%client, max, "a client has all of `connections_per_client` open");
            }
        };
        self.quota.enter(client, max).inspect_err(refused).ok()
    }

    async fn shake_hands(&self, tls: &Tls, io: Connection) -> Option<(Connection, Vec<String>)> {
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return None,
            shaken = tls.server.accept(io) => shaken,
        };
        // Port scanners, plain HTTP, clients that do not believe the certificate: all ordinary.
        shaken.inspect_err(|error| tracing::debug!(%error, "no TLS handshake")).ok()
    }
}
