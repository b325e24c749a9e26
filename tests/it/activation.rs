//! A service manager holds the socket of an address: connections wait in it while Larder restarts,
//! so that none is refused, and none that was accepted is cut.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::client::RawClient;
use crate::support::instance::{client_of, free_address};
use crate::support::{Blob, Fault, Gate, Instance, ScriptedRegistry, Version, When};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 1 << 20;
const RESTARTS: usize = 3;

fn config(listen: SocketAddr, hub: SocketAddr) -> String {
    format!(
        "listen = ['{listen}']\nadmin_listen = ''\ndashboard.listen = ''\n\
         [registry.'docker.io']\nupstream = 'http://{hub}'\ndefault = true\n"
    )
}

/// The socket that the manager holds, and its address.
fn held_socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind(free_address()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A client that asks for a blob again and again, each time over a connection of its own, until it
/// is told to end; how often it did.
fn asks_on(
    address: SocketAddr,
    blob: &Blob,
    (answers, is_over): (&Arc<AtomicUsize>, &Arc<AtomicBool>),
) -> JoinHandle<()> {
    let (blob, answers, is_over) = (blob.clone(), Arc::clone(answers), Arc::clone(is_over));
    tokio::spawn(async move {
        while !is_over.load(Ordering::Relaxed) {
            let path = blob.path(REPOSITORY);
            let reply = client_of(address).try_call(Version::Http11, Method::GET, &path, &[]).await;
            reply.expect("no connection is refused or cut").assert_is(&blob);
            answers.fetch_add(1, Ordering::Relaxed);
        }
    })
}

async fn more_than(answers: &AtomicUsize, before: usize) {
    while answers.load(Ordering::Relaxed) <= before {
        tokio::task::yield_now().await;
    }
}

/// An upgrade is a restart, and is done while a fleet pulls.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_refuses_and_cuts_nobody() {
    let hub = ScriptedRegistry::new();
    let [hot, long] = [1, 2].map(|seed| Blob::random(seed, LEN));
    hub.put_blob(REPOSITORY, &hot);
    let (socket, address) = held_socket();
    let mut larder = Instance::start_activated(&config(address, hub.listen().await), &socket).await;
    let (answers, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4).map(|_| asks_on(address, &hot, (&answers, &is_over))).collect();

    for round in 0..RESTARTS {
        more_than(&answers, answers.load(Ordering::Relaxed)).await;
        let long = Blob::random(long.digest.as_str().len() as u64 + round as u64, LEN);
        hub.put_blob(REPOSITORY, &long);
        let gate = Gate::new();
        hub.breaks(When::asked(&long.digest), Fault::HoldAt(LEN / 2, gate.clone()));
        let running = client_of(address).raw().get("1.1", &long.path(REPOSITORY), &[]).await;
        gate.reached().await;

        larder.terminate();
        larder.until_logged("stopping", 1).await;
        gate.open();
        running.unwrap().finish().await.assert_is(&long);

        larder = larder.start_again(&socket).await;
        more_than(&answers, answers.load(Ordering::Relaxed) + clients.len()).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(hub.gets(&hot.digest).len(), 1, "the cache is kept over the restarts");
}

/// A client takes a connection that is closed before its first request for a server that is broken;
/// on one that it has used before it asks again.
#[tokio::test]
async fn a_connection_that_was_accepted_gets_its_first_answer_after_the_stop() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    let (socket, address) = held_socket();
    let mut larder = Instance::start_activated(&config(address, hub.listen().await), &socket).await;
    let unused = RawClient::new(Box::new(TcpStream::connect(address).await.unwrap()));
    // Accepted after it.
    client_of(address).get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    larder.terminate();
    larder.until_logged("stopping", 1).await;
    let reply = unused.get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap().finish().await;

    reply.assert_is(&blob);
    // The answer may have begun before it was to be the last, so it does not have to say so. The
    // program ends long before its grace is over all the same.
    larder.start_again(&socket).await;
}

/// Connections to a socket that nothing accepts from would wait for ever.
#[tokio::test]
async fn a_socket_that_the_configuration_does_not_name_is_told_and_taken_up_by_a_reload() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    let (socket, address) = held_socket();
    let (other, at) = (free_address(), hub.listen().await);

    let mut larder = Instance::start_activated(&config(other, at), &socket).await;
    let warning = "no listener uses the socket of the service manager";
    larder.until_logged(warning, 1).await;
    assert!(larder.log().contains(&address.to_string()), "{}", larder.log());
    for (listen, is_told) in [(address, false), (other, true), (address, false)] {
        larder.write("config.toml", &config(listen, at));
        let said = larder.reload().await;
        assert_eq!(said.contains(warning), is_told, "{said}");
        client_of(listen).get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    }
}
