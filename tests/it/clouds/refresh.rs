//! The life of a credential that a cloud issues: renewed before its end by one call under load,
//! replaced when it is refused, used to its end while its source fails, and no end of a transfer
//! that is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http::Method;
use larder::clock::{SystemClock, WallClock as _};
use larder::upstream::ProxyCredential;
use tokio::task::JoinSet;
use tokio::time::advance;

use super::aws::registry_password;
use super::patterns::entry;
use super::server::{Function, reply};
use crate::support::metrics::ask;
use crate::support::registry::basic;
use crate::support::tls::TestCa;
use crate::support::{
    Auth, Blob, Fault, Gate, Image, Proxy, Reach, ScriptedRegistry, Setup, When, settle,
};

const HOST: &str = "111111111111.dkr.ecr.eu-west-1.amazonaws.com";

const PATH: &str = "/v2/111111111111.dkr.ecr.eu-west-1.amazonaws.com/team/app/manifests/latest";

/// A service whose password has the number of the call, and fails when it is told to.
struct Lab {
    proxy: Proxy,
    hub: ScriptedRegistry,
    calls: Arc<AtomicUsize>,
    fails: Arc<AtomicBool>,
    image: Image,
}

impl Lab {
    async fn open() -> Self {
        let mut setup = Setup::new();
        let (ca, hub) = (TestCa::new(), ScriptedRegistry::new());
        let image = Image::random(1, &[500]);
        hub.put_image("team/app", "latest", &image);
        hub.requires(Auth::basic("AWS", "password-1"));
        let (calls, fails) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counted, told) = (Arc::clone(&calls), Arc::clone(&fails));
        let service = Function::new(move |request| {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            if told.load(Ordering::SeqCst) {
                return reply(503, "");
            }
            let end = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let end = (end + 12 * HOUR).as_secs_f64();
            registry_password(request, "eu-west-1", &format!("password-{number}"), end)
        });
        let api = "api.ecr.eu-west-1.amazonaws.com";
        setup.network.put(api, 443, ca.protect(api, service));
        setup.network.put(HOST, 443, ca.protect(HOST, hub.clone()));
        let text =
            format!("[registry.'{HOST}']\nca = 'ca'\ntag_ttl = '0s'\nauth = {{ type = 'ecr' }}\n");
        setup.settings.registries = entry(&ca, &text);
        Self { proxy: setup.start().await, hub, calls, fails, image }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn pull(&self) {
        self.proxy.get(PATH).await.assert_is(&self.image.manifest.blob);
    }

    async fn ready(&self) -> String {
        ask(&self.proxy.admin(), Method::GET, "/readyz", "").await.text()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_password_is_renewed_before_its_end_by_one_call_under_load() {
    let lab = Lab::open().await;
    lab.pull().await;
    advance(9 * HOUR).await;
    lab.pull().await;
    assert_eq!(lab.calls(), 1, "three hours are left");
    advance(HOUR).await;
    lab.hub.requires(Auth::basic("AWS", "password-2"));
    lab.hub.forget();
    let mut pulls = JoinSet::new();
    for number in 0..50 {
        let (client, wanted) = (lab.proxy.client.clone(), lab.image.manifest.blob.clone());
        // Other queries are no other questions; each is a client of its own.
        pulls.spawn(async move {
            client.get_with(PATH, &[("x-client", &number.to_string())]).await.assert_is(&wanted);
        });
    }
    pulls.join_all().await;
    assert_eq!(lab.calls(), 2);
    let old = basic("AWS", "password-1");
    let asked = lab.hub.asked();
    let is_old = asked.iter().any(|asked| asked.header("authorization") == Some(&old));
    assert!(!is_old, "the old one is shown no more");
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_is_replaced_by_one_call() {
    let lab = Lab::open().await;
    lab.pull().await;
    advance(2 * HOUR).await;
    lab.hub.requires(Auth::basic("AWS", "password-2"));
    lab.pull().await;
    lab.pull().await;
    assert_eq!(lab.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_password_is_used_to_its_end_while_its_source_fails_and_readyz_says_so() {
    let lab = Lab::open().await;
    lab.pull().await;
    assert!(!lab.ready().await.contains("credential-"), "{}", lab.ready().await);
    lab.fails.store(true, Ordering::SeqCst);
    advance(10 * HOUR).await;
    lab.pull().await;
    let ready = lab.ready().await;
    assert!(ready.contains("credential-ending") && ready.contains("answered 503"), "{ready}");
    let metrics = lab.proxy.metrics().await;
    let labels = [("registry", HOST), ("reason", "credential-ending")];
    assert_eq!(metrics.value("larder_upstream_troubles", &labels), 1);
    assert!(lab.calls() > 1, "it is asked again");
    lab.fails.store(false, Ordering::SeqCst);
    advance(Duration::from_secs(600)).await;
    lab.hub.requires(Auth::basic("AWS", &format!("password-{}", lab.calls() + 1)));
    lab.pull().await;
    assert!(!lab.ready().await.contains("credential-"), "{}", lab.ready().await);
}

/// A token may end while a layer is on its way: the layer comes nevertheless, and so does its rest
/// after the line broke, with another token.
#[tokio::test(start_paused = true)]
async fn a_token_that_ends_in_the_middle_of_a_layer_stops_nothing() {
    for breaks in [false, true] {
        let hub = ScriptedRegistry::new();
        let blob = Blob::random(1, 1 << 20);
        hub.put_blob("library/alpine", &blob);
        hub.requires(Auth::tokens_for("http://auth.docker.io/token", "robot", "pa55word"));
        let mut setup = Setup::new();
        setup.network.put("auth.docker.io", 80, hub.clone());
        setup.registry("docker.io", &hub).upstream.credential =
            ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() };
        let proxy = setup.start().await;
        let gate = Gate::new();
        hub.breaks(When::asked(&blob.digest).get(), Fault::HoldAt(400_000, gate.clone()));
        let pull = tokio::spawn({
            let (client, path) = (proxy.client.clone(), blob.path("library/alpine"));
            async move { client.get(&path).await }
        });
        gate.reached().await;
        let before = hub.gets("/token").len();
        hub.revoke_tokens();
        if breaks {
            proxy.network.set("registry-1.docker.io", Reach::Down);
            settle().await;
            proxy.network.set("registry-1.docker.io", Reach::Up);
        }
        hub.heal();
        pull.await.unwrap().assert_is(&blob);
        let after = hub.gets("/token").len();
        assert_eq!(after, before + usize::from(breaks), "{breaks}");
        proxy.until_stored(&blob.digest).await;
    }
}
