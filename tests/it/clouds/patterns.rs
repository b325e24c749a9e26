//! One entry of the configuration for many registries: all accounts and regions at once, by every
//! door, and nothing for hosts that clients make up.

use std::collections::BTreeSet;
use std::fs;

use larder::config::{ConfigArgs, load};
use larder::registry::RegistryOptions;
use tokio::task::JoinSet;

use super::aws::{STATIC, registry_password};
use super::server::Function;
use crate::support::metrics::Metrics;
use crate::support::tls::TestCa;
use crate::support::{Auth, Image, Proxy, ScriptedRegistry, Setup, TestNetwork};

const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];

const ACCOUNTS: [&str; 2] = ["111111111111", "222222222222"];

const ENTRY: &str = "[registry.'*.dkr.ecr.*.amazonaws.com']\nca = 'ca'\nauth = { type = 'ecr' }\n";

/// The registries of an entry, as its configuration describes them.
pub fn entry(ca: &TestCa, text: &str) -> Vec<RegistryOptions> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(dir.path().join("ca"), ca.pem()).unwrap();
    fs::write(&path, text).unwrap();
    let arguments = ConfigArgs { config: Some(path), ..ConfigArgs::default() };
    let variables = [
        ("HOME", "/h"),
        ("AWS_ACCESS_KEY_ID", STATIC.id),
        ("AWS_SECRET_ACCESS_KEY", STATIC.secret),
    ];
    load(&arguments, &variables.into_iter().collect()).unwrap().settings.registries
}

/// Amazon: a registry for each account and region, and a service in each region whose passwords are
/// good there alone.
struct Amazon {
    ca: TestCa,
    services: Vec<Function>,
    registries: Vec<(String, ScriptedRegistry, Image)>,
}

fn password(region: &str) -> String {
    format!("canary-password-of-{region}")
}

impl Amazon {
    fn new(network: &TestNetwork) -> Self {
        let mut this = Self { ca: TestCa::new(), services: Vec::new(), registries: Vec::new() };
        for region in REGIONS {
            let service = Function::new(move |request| {
                registry_password(request, region, &password(region), 4_102_444_800.0)
            });
            let host = format!("api.ecr.{region}.amazonaws.com");
            network.put(&host, 443, this.ca.protect(&host, service.clone()));
            this.services.push(service);
            for account in ACCOUNTS {
                let (hub, image) =
                    (ScriptedRegistry::new(), Image::random(this.registries.len() as u64, &[500]));
                hub.put_image("team/app", "latest", &image);
                hub.requires(Auth::basic("AWS", &password(region)));
                let host = format!("{account}.dkr.ecr.{region}.amazonaws.com");
                network.put(&host, 443, this.ca.protect(&host, hub.clone()));
                this.registries.push((host, hub, image));
            }
        }
        this
    }

    fn calls(&self) -> usize {
        self.services.iter().map(|service| service.calls().len()).sum()
    }
}

/// The registries that a metric has.
fn is_of(metrics: &Metrics, name: &str) -> BTreeSet<String> {
    let samples = metrics.samples.iter().filter(|sample| sample.name == name);
    samples.filter_map(|sample| sample.labels.get("registry").cloned()).collect()
}

/// Pulls the image of every registry at once.
async fn pull_all(proxy: &Proxy, amazon: &Amazon, path: impl Fn(&str) -> (String, String)) {
    let mut pulls = JoinSet::new();
    for (host, _, image) in &amazon.registries {
        let (client, wanted) = (proxy.client.clone(), image.manifest.blob.clone());
        let (path, at) = path(host);
        pulls.spawn(async move {
            client.get_with(&path, &[("host", at.as_str())]).await.assert_is(&wanted);
        });
    }
    pulls.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn one_entry_serves_all_accounts_and_regions_at_once_by_every_door() {
    let mut setup = Setup::new();
    let amazon = Amazon::new(&setup.network);
    setup.settings.registries = entry(&amazon.ca, ENTRY);
    let mut proxy = setup.start().await;

    let larder = || "larder.test".to_owned();
    let manifest = "team/app/manifests/latest";
    pull_all(&proxy, &amazon, |host| (format!("/v2/{host}/{manifest}"), larder())).await;
    assert_eq!(amazon.calls(), 4, "one password for each registry");
    pull_all(&proxy, &amazon, |host| (format!("/v2/{manifest}?ns={host}"), larder())).await;
    pull_all(&proxy, &amazon, |host| (format!("/{host}/v2/{manifest}"), larder())).await;
    pull_all(&proxy, &amazon, |host| (format!("/v2/{manifest}"), host.to_owned())).await;

    let metrics = proxy.metrics().await;
    for (host, ..) in &amazon.registries {
        for metric in ["larder_requests_total", "larder_upstream_credential_end_seconds"] {
            assert!(is_of(&metrics, metric).contains(host), "{metric} of {host}: {metrics:?}");
        }
    }
    assert!(!format!("{metrics:?}").contains("canary"));

    // A reload keeps connections and passwords.
    proxy.reload(|settings| settings.registries[0].tags.ttl = std::time::Duration::ZERO);
    pull_all(&proxy, &amazon, |host| (format!("/v2/{host}/{manifest}"), larder())).await;
    assert_eq!(amazon.calls(), 4);
    let known = is_of(&proxy.metrics().await, "larder_requests_total");
    assert!(amazon.registries.iter().all(|(host, ..)| known.contains(host)), "{known:?}");
}

/// The first registry of an operator's own name does not fall under the pattern.
#[tokio::test(start_paused = true)]
async fn an_entry_of_its_own_comes_before_a_pattern() {
    let mut setup = Setup::new();
    let amazon = Amazon::new(&setup.network);
    let (host, _, image) = &amazon.registries[0];
    let own = ScriptedRegistry::new();
    own.put_image("team/app", "latest", image);
    setup.settings.registries = entry(&amazon.ca, ENTRY);
    setup.registry(host, &own);
    let url = "http://own.test".parse().unwrap();
    setup.network.put("own.test", 80, own.clone());
    setup.settings.registries.last_mut().unwrap().upstream.url = url;
    let proxy = setup.start().await;
    let reply = proxy.get(&format!("/v2/{host}/team/app/manifests/latest")).await;
    reply.assert_is(&image.manifest.blob);
    assert_eq!(amazon.calls(), 0);
    assert!(!own.asked().is_empty());
}

/// A client that makes up hosts gets no connection to one whose address is not public, and none
/// with a credential.
#[tokio::test(start_paused = true)]
async fn a_host_that_a_client_makes_up_is_called_at_public_addresses_only() {
    let text = "[registry.'*.corp.example']\nca = 'ca'\n\
                auth = { type = 'basic', username = 'u', password = 'canary' }\n";
    for (addresses, more, status) in [
        (&["10.0.0.1"][..], "", 502),
        (&["127.0.0.1"], "", 502),
        (&["169.254.169.254"], "", 502),
        (&["fd00::1"], "", 502),
        (&["::ffff:10.0.0.1"], "", 502),
        (&["10.0.0.1"], "private_hosts = false\n", 502),
    ] {
        let mut setup = Setup::new();
        let ca = TestCa::new();
        setup.network.name("jenkins.corp.example", addresses);
        let text = text.replace("ca = 'ca'\n", &format!("ca = 'ca'\n{more}"));
        setup.settings.registries = entry(&ca, &text);
        let proxy = setup.start().await;
        for path in
            ["/v2/jenkins.corp.example/a/manifests/l", "/v2/a/manifests/l?ns=jenkins.corp.example"]
        {
            let reply = proxy.get(path).await;
            assert_eq!(reply.status, status, "{addresses:?}: {}", reply.text());
            assert!(!reply.text().contains("canary"));
        }
        assert_eq!(proxy.network.connections(), [], "{addresses:?}");
    }
}

/// VPC endpoints and private links have private addresses; the operator says so.
#[tokio::test(start_paused = true)]
async fn hosts_with_private_addresses_are_called_if_the_operator_says_so() {
    let mut setup = Setup::new();
    let (ca, hub, image) = (TestCa::new(), ScriptedRegistry::new(), Image::random(1, &[500]));
    hub.put_image("a", "l", &image);
    let host = "registry.corp.example";
    setup.network.put("10.0.0.1", 443, ca.protect(host, hub.clone()));
    setup.network.name(host, &["10.0.0.1"]);
    let text = "[registry.'*.corp.example']\nca = 'ca'\nprivate_hosts = true\n";
    setup.settings.registries = entry(&ca, text);
    let proxy = setup.start().await;
    proxy.get(&format!("/v2/{host}/a/manifests/l")).await.assert_is(&image.manifest.blob);
}

/// A flood of names costs no more than the bound.
#[tokio::test(start_paused = true)]
async fn a_flood_of_made_up_hosts_leaves_the_registry_that_is_there() {
    let mut setup = Setup::new();
    let amazon = Amazon::new(&setup.network);
    setup.settings.registries = entry(&amazon.ca, ENTRY);
    let proxy = setup.start().await;
    let (host, _, image) = &amazon.registries[0];
    let path = format!("/v2/{host}/team/app/manifests/latest");
    proxy.get(&path).await.assert_is(&image.manifest.blob);
    for number in 0..600 {
        let made_up = format!("{number:012}.dkr.ecr.mars-1.amazonaws.com");
        let reply = proxy.get(&format!("/v2/{made_up}/a/manifests/l")).await;
        assert_eq!(reply.status, 502, "{}", reply.text());
    }
    let metrics = proxy.metrics().await;
    for metric in ["larder_upstream_received_bytes_total", "larder_requests_total"] {
        let known = is_of(&metrics, metric);
        assert!(known.len() <= 257 && known.contains(host), "{metric}: {}", known.len());
    }
    assert_eq!(amazon.calls(), 1, "no password for hosts that do not exist");
    proxy.get(&path).await.assert_is(&image.manifest.blob);
}
