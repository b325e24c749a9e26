//! Each client pushes by every door that it can use, over plain HTTP and over TLS, to each kind of
//! registry. Then the registry serves the image without Larder, and Larder serves it without the
//! registry.

use super::{REPOSITORY, empty};
use crate::support::arrived::Reader;
use crate::support::built::Built;
use crate::support::certificates::Certificates;
use crate::support::client::{Client as _, KINDS, Kind, Login};
use crate::support::image::Image;
use crate::support::larder::Setup;
use crate::support::one_shot::{self, OneShot};
use crate::support::registry::{DISTRIBUTION, Guard, OLAREG, Registry};
use crate::support::token_server::{HTPASSWD, USER, htpasswd};
use crate::support::tools::present;
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

#[test]
fn dockerd_pushes_by_every_door() {
    pushes_by_every_door("dockerd");
}

#[test]
fn containerd_pushes_by_every_door() {
    pushes_by_every_door("containerd");
}

/// As Docker 29 and `BuildKit` do: each blob in one PUT.
#[test]
fn containerd_pull_pushes_by_every_door() {
    pushes_by_every_door("containerd-pull");
}

#[test]
fn newest_containerd_pushes_by_every_door() {
    pushes_by_every_door("newest-containerd");
}

#[test]
fn regctl_pushes_by_every_door() {
    pushes_by_every_door("regctl");
}

#[test]
fn podman_pushes_by_every_door() {
    pushes_by_every_door("podman");
}

#[test]
fn buildah_pushes_by_every_door() {
    pushes_by_every_door("buildah");
}

#[test]
fn skopeo_pushes_by_every_door() {
    pushes_by_every_door("skopeo");
}

#[test]
fn crane_pushes_by_every_door() {
    pushes_by_every_door("crane");
}

#[test]
fn oras_pushes_by_every_door() {
    pushes_by_every_door("oras");
}

fn pushes_by_every_door(name: &str) {
    let kind = KINDS.into_iter().find(|client| client.name == name).expect("it is in the table");
    let test = format!("{}_pushes_by_every_door", name.replace('-', "_"));
    if !present(&test, &[kind.tools, DISTRIBUTION, HTPASSWD, OLAREG, &["crane", "openssl"]]) {
        return;
    }
    let work = Work::new(&test);
    let certificates = Certificates::make(&work);
    let built = Built::version(&work, "2.3.0");
    let (plain, tls) = (wait::free_port(), wait::free_port());
    // This containerd says only with a pull which registry it means; those since 2.3 do with a
    // push.
    let is_told = |door: &&Door| name != "containerd" || **door != Door::Ns;
    let doors: Vec<Door> = kind.doors.iter().filter(is_told).copied().collect();
    let mut ways: Vec<_> = doors.iter().map(|&door| Way::plain(door, plain)).collect();
    ways.push(Way::plain(doors[0], tls).over_tls(&certificates));

    for way in &ways {
        let upstream = empty(&work, &Guard::Open);
        lands(&work, kind, way, &built, Upstream { registry: upstream, login: None });
    }
    let way = &ways[0];
    let file = htpasswd(&work, &[LOGIN]);
    let registry = empty(&work, &Guard::Htpasswd { file: &file });
    lands(&work, kind, way, &built, Upstream { registry, login: Some(LOGIN) });
    let registry = Registry::olareg(&work);
    lands(&work, kind, way, &built, Upstream { registry, login: None });
    let ways: Vec<String> = ways.iter().map(ToString::to_string).collect();
    println!("client: {name}: {}: pushed by {}", kind.version(), ways.join(", "));
}

/// A registry, and Larder's user there.
struct Upstream {
    registry: Registry,
    login: Option<Login>,
}

impl Upstream {
    fn keys(&self) -> String {
        self.login.map_or_else(String::new, |Login { user, password }| {
            format!(
                "auth = {{ type = \"basic\", username = \"{user}\", password = \"{password}\" }}"
            )
        })
    }
}

/// Ends with the upstream stopped.
fn lands(work: &Work, kind: &Kind, way: &Way<'_>, built: &Built, mut upstream: Upstream) {
    println!("by {way}, to {}", upstream.registry.url());
    let (url, keys) = (upstream.registry.url(), upstream.keys());
    let setup =
        Setup { way: Some(*way), pushes: true, registry_keys: &keys, ..Setup::new(work, &url) };
    let larder = setup.start();
    // A client of its own: what it has loaded would spare it the pull.
    let pushed = (kind.start)(work, way).push(way, built, REPOSITORY);
    pushed.unwrap_or_else(|error| panic!("by {way}: {error}"));

    let login = upstream.login.map(|login| login.to_string());
    let reader = Reader { work, registry: &url, login: login.as_deref() };
    let image = reader.image(REPOSITORY, built);
    let crane = OneShot::logging_in(work, one_shot::crane, one_shot::crane_login);
    let direct = Way::plain(Door::Mirror, upstream.registry.port);
    if let Some(login) = upstream.login {
        crane.log_in(&direct, login).expect("crane asks nobody");
    }
    crane.pull(&direct, &Wanted::by_tag(&image)).expect("the registry has all of it");
    is_kept(&larder.verified_blobs(), &image);

    upstream.registry.stop();
    let client = (kind.start)(work, way);
    let pulled = client.pull(way, &Wanted::by_tag(&image));
    pulled.unwrap_or_else(|error| panic!("by {way}, without the upstream: {error}"));
}

/// The pushed blobs are in the store, and nothing else is.
fn is_kept(blobs: &[std::path::PathBuf], image: &Image) {
    let name = |file: &std::path::PathBuf| {
        format!("sha256:{}", file.file_name().expect("a file has a name").to_string_lossy())
    };
    let mut kept: Vec<String> = blobs.iter().map(name).collect();
    let mut pushed: Vec<String> = image.digests().map(str::to_owned).collect();
    for list in [&mut kept, &mut pushed] {
        list.sort();
        list.dedup();
    }
    assert_eq!(kept, pushed);
}

const LOGIN: Login = Login { user: USER, password: "right-8c41" };
