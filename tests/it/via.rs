//! Larders before each other: a chain works, a ring ends at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use larder::access::AccessOptions;
use larder::app::{App, AppParts};
use larder::http::{ClientPeer, NetworkConnection};
use tokio::time::Instant;

use crate::support::clock::TestClock;
use crate::support::network::Server;
use crate::support::{Client, Image, Proxy, ScriptedRegistry, Setup, TestNetwork};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

/// A Larder as a host of the network.
#[derive(Clone)]
struct Larder(App);

impl Server for Larder {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.0.serve_peer(io, ClientPeer::default(), AccessOptions::default()))
    }
}

/// Puts a Larder at `host` whose docker.io is at `upstream`. The directory must outlive it.
async fn put(network: &TestNetwork, host: &str, upstream: &str) -> (Larder, Setup) {
    let mut setup = Setup::new();
    let registry = setup.registry("docker.io", &ScriptedRegistry::new());
    registry.upstream.url = format!("http://{upstream}").parse().unwrap();
    let parts = AppParts {
        network: Arc::new(network.clone()),
        clock: Arc::new(TestClock::new()),
        ..AppParts::default()
    };
    let larder = Larder(App::open(&setup.settings, parts).await.unwrap());
    network.put(host, 80, larder.clone());
    (larder, setup)
}

fn client(larder: &Larder) -> Client {
    let larder = larder.clone();
    Client::new(Arc::new(move || {
        let (near, far) = tokio::io::duplex(64 << 10);
        let app = larder.0.clone();
        let serving =
            app.serve_peer(Box::new(far), ClientPeer::default(), AccessOptions::default());
        tokio::spawn(serving);
        Box::new(near)
    }))
}

/// Fault F50: two mistakes in two configurations must not become a hang, or a storm.
#[tokio::test(start_paused = true)]
async fn larders_in_a_loop_answer_508_at_once() {
    for count in [1, 2, 3] {
        let network = TestNetwork::default();
        let hosts = ["a.test", "b.test", "c.test"];
        let mut larders = Vec::new();
        for number in 0..count {
            larders.push(put(&network, hosts[number], hosts[(number + 1) % count]).await);
        }
        let blob = Image::random(1, &[10]).config.path(REPOSITORY);

        for path in [LATEST, &blob] {
            let begin = Instant::now();
            let reply = client(&larders[0].0).get(path).await;

            let (_, message) = reply.error(508);
            assert!(begin.elapsed() < Duration::from_secs(1), "{count}: {:?}", begin.elapsed());
            assert!(count > 1 || message.contains("508"), "{message}");
        }
        assert!(network.connections().len() <= 2 * count, "{:?}", network.connections());
    }
}

/// Fault F50: a chain is no ring, also when many come through it at once.
#[tokio::test(start_paused = true)]
async fn chained_larders_serve() {
    let network = TestNetwork::default();
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    network.put("hub.test", 80, hub.clone());
    let (_inner, _inner_dir) = put(&network, "inner.test", "hub.test").await;
    let (outer, _outer_dir) = put(&network, "outer.test", "inner.test").await;

    for path in [LATEST, &image.layers[0].path(REPOSITORY)] {
        let replies: Vec<_> = (0..20).map(|_| tokio::spawn(client(&outer).get(path))).collect();
        for reply in replies {
            assert_eq!(reply.await.unwrap().status, 200);
        }
    }

    let via: Vec<_> =
        hub.asked().iter().filter_map(|a| a.header("via").map(str::to_owned)).collect();
    assert_eq!(via.len(), hub.asked().len(), "each request says through whom it came");
    assert!(via.iter().all(|via| via.matches("1.1 larder-").count() == 2), "{via:?}");
    assert_eq!(hub.gets(&image.layers[0].digest).len(), 1);
}

/// A client that makes rings, or probes Larder, learns nothing and costs nothing.
#[tokio::test(start_paused = true)]
async fn a_request_with_our_own_id_or_a_long_chain_is_not_taken() {
    let hub = ScriptedRegistry::new();
    hub.put_image(REPOSITORY, "latest", &Image::random(1, &[]));
    let proxy = Proxy::before(&hub).await;
    proxy.get(LATEST).await;
    let own = hub.asked()[0].header("via").unwrap().to_owned();
    hub.forget();

    let long: Vec<_> = (0..11).map(|n| format!("1.1 larder-{n:016x}")).collect();
    for via in [own.clone(), format!("1.0 fred, {own} (x)"), long.join(", ")] {
        proxy.get_with(LATEST, &[("via", &via)]).await.error(508);
    }
    let reply = proxy.get_with(LATEST, &[("via", "1.1 squid, 1.1 larder-00000000000000aa")]).await;
    assert_eq!(reply.status, 200);
    hub.assert_not_asked();
}
