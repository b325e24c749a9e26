//! dockerd and containerd, two accounts of Amazon's in two regions, and one entry of the
//! configuration for all.
//!
//! The hosts have Amazon's names. A proxy leads them to this machine: those that Larder calls to
//! registries and to the API, and those that clients call by their own names to Larder. Each
//! registry takes the password of its own region alone.

use std::fmt::Write as _;

use super::clouds::{KEY_ID, SECRET, ecr_api};
use super::empty;
use crate::support::arrived::Reader;
use crate::support::built::Built;
use crate::support::certificates::Certificates;
use crate::support::client::{Client, Login};
use crate::support::connect_proxy::ConnectProxy;
use crate::support::containerd::Containerd;
use crate::support::dockerd::Dockerd;
use crate::support::image::Image;
use crate::support::larder::{Larder, Setup};
use crate::support::process::Process;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::token_server::{HTPASSWD, htpasswd};
use crate::support::tools::{self, requires};
use crate::support::traffic::Kind;
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

const HOSTS: [&str; 2] = [
    "111111111111.dkr.ecr.eu-west-1.amazonaws.com",
    "222222222222.dkr.ecr.us-east-1.amazonaws.com",
];

const APIS: [&str; 2] = ["api.ecr.eu-west-1.amazonaws.com", "api.ecr.us-east-1.amazonaws.com"];

/// The passwords that the API gives in each region.
const LOGINS: [Login; 2] = [
    Login { user: "AWS", password: "123456789012-auth-token-eu-west-1" },
    Login { user: "AWS", password: "123456789012-auth-token-us-east-1" },
];

const REPOSITORY: &str = "team/app";

/// Amazon, at this machine.
struct Accounts {
    test: &'static str,
    work: Work,
    certificates: Certificates,
    registries: [Registry; 2],
    proxy: ConnectProxy,
    _api: Process,
}

/// dockerd and containerd, each sent to one of the registries at a time.
struct TwoClients {
    docker: Dockerd,
    containerd: Containerd,
    _work: Work,
}

#[test]
fn dockerd_and_containerd_use_two_accounts_in_two_regions_at_once_by_one_entry() {
    let daemons = &["root", "dockerd", "docker", "containerd", "ctr", "runc"];
    let name = requires!(daemons, DISTRIBUTION, HTPASSWD, &["openssl", "moto-ecr"]);
    let mut accounts = Accounts::start(name);
    // Images of their own, so that a mistaken account is noticed.
    let built = ["2.3.0", "2.4.0"].map(|version| Built::version(&accounts.work, version));

    let by_prefix = [Door::Prefix; 2];
    let images = push_both(&accounts, by_prefix, &accounts.larder(None), &built);
    for doors in [by_prefix, [Door::Prefix, Door::Ns]] {
        let larder = accounts.larder(None);
        pull_twice(&mut accounts, doors, &larder, &images);
    }
}

#[test]
fn dockerd_and_containerd_use_two_accounts_by_their_own_host_names() {
    let daemons = &["root", "dockerd", "docker", "containerd", "ctr", "runc"];
    let name = requires!(daemons, DISTRIBUTION, HTPASSWD, &["openssl", "moto-ecr"]);
    let mut accounts = Accounts::start(name);
    let built = ["2.3.0", "2.4.0"].map(|version| Built::version(&accounts.work, version));

    let (by_host, port) = ([Door::Host; 2], wait::free_port());
    let images = push_both(&accounts, by_host, &accounts.larder(Some(port)), &built);
    let larder = accounts.larder(Some(port));
    pull_twice(&mut accounts, by_host, &larder, &images);
}

/// Pushes an image with each client to its registry; the images as they have arrived.
fn push_both(
    accounts: &Accounts,
    doors: [Door; 2],
    larder: &Larder,
    built: &[Built; 2],
) -> [Image; 2] {
    let mut clients = TwoClients::start(accounts, larder.port);
    let ways = accounts.ways(doors, larder.port);
    clients.at_once(larder, |client, at| client.push(&ways[at], &built[at], REPOSITORY));
    accounts.assert_kept_apart(larder);
    let [one, other] = [0, 1].map(|at| accounts.arrived(at, &built[at]));
    [one, other]
}

/// Each client the image that the other one pushed, from its registry; then its own, which is then
/// in the cache.
fn pull_twice(accounts: &mut Accounts, doors: [Door; 2], larder: &Larder, images: &[Image; 2]) {
    let mut clients = TwoClients::start(accounts, larder.port);
    let turned = |at: usize| 1 - at;
    let ways = accounts.ways(doors, larder.port);
    clients.at_once(larder, |client, at| {
        let way = ways[at].to(HOSTS[turned(at)]);
        client.pull(&way, &Wanted::by_tag(&images[turned(at)]))
    });
    accounts.assert_kept_apart(larder);

    for registry in &mut accounts.registries {
        registry.forget();
    }
    let ways = accounts.ways(doors, larder.port);
    clients.at_once(larder, |client, at| client.pull(&ways[at], &Wanted::by_tag(&images[at])));
    for registry in &accounts.registries {
        // A client that pushes compares the tag.
        let mut asked = registry.requests();
        asked.retain(|request| (&*request.method, request.kind) != ("HEAD", Kind::ManifestByTag));
        assert!(asked.is_empty(), "all of it is in the cache: {asked:?}");
    }
}

impl Accounts {
    fn start(test: &'static str) -> Self {
        let work = Work::new(test);
        let certificates = Certificates::for_hosts(&work, &[HOSTS, APIS].concat());
        let (api, process) = ecr_api(&work, Some(&certificates));
        let registries = LOGINS.map(|login| {
            let file = htpasswd(&work, &[login]);
            empty(&work, &Guard::TlsHtpasswd { file: &file, certificates: &certificates })
        });
        let ports = registries.iter().map(|registry| registry.port);
        let hosts = HOSTS.into_iter().zip(ports).chain(APIS.map(|host| (host, api)));
        let proxy = ConnectProxy::start(hosts);
        Self { test, work, certificates, registries, proxy, _api: process }
    }

    /// One with an empty cache and one entry, which listens by TLS at `port`, or without TLS at
    /// any.
    fn larder(&self, port: Option<u16>) -> Larder {
        let mut keys = "\n[registry.\"*.dkr.ecr.*.amazonaws.com\"]\npush = true\n".to_owned();
        let ca = self.certificates.ca.display();
        writeln!(keys, "auth = {{ type = \"ecr\" }}\nca = \"{ca}\"").expect("text takes all");
        let proxy = format!("http://127.0.0.1:{}", self.proxy.port);
        let variables = [
            ("HTTPS_PROXY", &*proxy),
            ("https_proxy", &*proxy),
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("LARDER_LOG", "trace"),
        ];
        let way = port.map(|port| Way::plain(Door::Host, port).over_tls(&self.certificates));
        // There is no such registry.
        let setup = Setup::new(&self.work, "http://127.0.0.1:9");
        Setup { way, pushes: true, registry_keys: &keys, variables: &variables, ..setup }.start()
    }

    /// The ways of dockerd to the first registry and of containerd to the second.
    fn ways(&self, doors: [Door; 2], port: u16) -> [Way<'_>; 2] {
        let way = |door, host| {
            let way = Way::plain(door, port).to(host);
            if door == Door::Host { way.over_tls(&self.certificates) } else { way }
        };
        [way(doors[0], HOSTS[0]), way(doors[1], HOSTS[1])]
    }

    /// The image as it is in the registry itself.
    fn arrived(&self, at: usize, built: &Built) -> Image {
        let (login, url) = (LOGINS[at].to_string(), self.registries[at].url());
        let reader = Reader { work: &self.work, registry: &url, login: Some(&login) };
        reader.image(REPOSITORY, built)
    }

    /// No registry was shown another password than its own, nothing else was called, and nothing
    /// was told.
    fn assert_kept_apart(&self, larder: &Larder) {
        for (registry, host) in self.registries.iter().zip(HOSTS) {
            let log = registry.raw_log();
            assert!(!log.contains("error authenticating user"), "{host}: {log}");
        }
        assert_eq!(self.proxy.refused(), Vec::<String>::new());
        let log = larder.log();
        assert!(log.contains("TRACE"), "the log says everything");
        for secret in [SECRET, LOGINS[0].password, LOGINS[1].password] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    }
}

impl TwoClients {
    fn start(accounts: &Accounts, port: u16) -> Self {
        // One that is listed is not looked up.
        let config = format!("{{\"insecure-registries\": [\"{}\", \"{}\"]}}", HOSTS[0], HOSTS[1]);
        let config = accounts.work.file("daemon.json", &config);
        let names = ConnectProxy::start(HOSTS.map(|host| (host, port)));
        let docker = Dockerd::configured(&accounts.work, &config, |command| {
            tools::send_by(command, names.port);
        });
        // dockerd has a containerd of its own in the other directories.
        let of_containerd = Work::new(&format!("{}_of_containerd", accounts.test));
        let containerd = Containerd::start(&of_containerd).behind(names.port);
        Self { docker, containerd, _work: of_containerd }
    }

    /// Has dockerd, the first, and containerd do something at the same time.
    fn at_once(
        &mut self,
        larder: &Larder,
        act: impl Fn(&dyn Client, usize) -> Result<(), String> + Sync,
    ) {
        let Self { docker, containerd, .. } = self;
        std::thread::scope(|scope| {
            let act = &act;
            let one = scope.spawn(move || act(docker, 0));
            let other = scope.spawn(move || act(containerd, 1));
            for done in [one, other] {
                let done = done.join().expect("the client's output is as expected");
                done.unwrap_or_else(|error| panic!("{error}\n{}", larder.log()));
            }
        });
    }
}
