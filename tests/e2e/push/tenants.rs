//! A token server that lets some push and not others: it decides, with whosever credential it is
//! asked, and what is refused leaves nothing behind.

use std::path::{Path, PathBuf};

use super::{arrived, crane, push_with_crane};
use crate::support::built::Built;
use crate::support::client::{Client as _, KINDS, Kind, Login};
use crate::support::image::Image;
use crate::support::larder::{Larder, Setup};
use crate::support::registry::{Guard, Registry};
use crate::support::token_server::{Guarded, TOKENS, USER};
use crate::support::tools::{present, requires};
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

#[test]
fn dockerd_pushes_as_whom_it_has_logged_in() {
    pushes_as_whom_it_has_logged_in("dockerd");
}

#[test]
fn containerd_pushes_as_whom_it_has_logged_in() {
    pushes_as_whom_it_has_logged_in("containerd");
}

#[test]
fn containerd_pull_pushes_as_whom_it_has_logged_in() {
    pushes_as_whom_it_has_logged_in("containerd-pull");
}

#[test]
fn podman_pushes_as_whom_it_has_logged_in() {
    pushes_as_whom_it_has_logged_in("podman");
}

#[test]
fn buildah_pushes_as_whom_it_has_logged_in() {
    pushes_as_whom_it_has_logged_in("buildah");
}

#[test]
fn skopeo_pushes_as_whom_it_has_logged_in() {
    pushes_as_whom_it_has_logged_in("skopeo");
}

#[test]
fn crane_pushes_as_whom_it_has_logged_in() {
    pushes_as_whom_it_has_logged_in("crane");
}

#[test]
fn oras_pushes_as_whom_it_has_logged_in() {
    pushes_as_whom_it_has_logged_in("oras");
}

/// `identity = "client"`: Larder has no credential, and no right that the client has not.
fn pushes_as_whom_it_has_logged_in(name: &str) {
    let kind = KINDS.into_iter().find(|client| client.name == name).expect("it is in the table");
    let test = format!("{}_pushes_as_whom_it_has_logged_in", name.replace('-', "_"));
    if !present(&test, &[kind.tools, TOKENS]) {
        return;
    }
    let work = Work::new(&test);
    let way = Way::plain(Door::Prefix, wait::free_port());
    let tenants = Tenants::start(&work, "identity = \"client\"", Some(way.port));
    let built = Built::version(&work, "2.3.0");
    let client = (kind.start)(&work, &way);

    let refused = client.push(&way, &built, OURS).expect_err("it has not logged in");
    println!("{name}, as nobody: {refused}");
    client.log_in(&way, TEAM).expect("the token server knows it");
    let refused = client.push(&way, &built, OURS).expect_err("it is another's");
    println!("{name}, as another: {refused}");
    assert!(!tenants.has(OURS), "nothing has arrived");
    assert!(tenants.larder.verified_blobs().is_empty(), "{:?}", tenants.larder.verified_blobs());
    assert!(tenants.larder.uploads().is_empty(), "{:?}", tenants.larder.uploads());

    client.log_in(&way, LIBRARY).expect("the token server knows it");
    client.push(&way, &built, OURS).expect("it is its own");
    let image = tenants.arrived(&work, &built, OURS);
    drop(client);
    is_whose_it_is(&work, kind, &way, &Wanted::by_tag(&image));
    println!("client: {name}: {}: pushed as whom it has logged in", kind.version());
}

/// The pushed image is in the cache, for its owner alone.
fn is_whose_it_is(work: &Work, kind: &Kind, way: &Way<'_>, wanted: &Wanted<'_>) {
    let client = (kind.start)(work, way);
    client.log_in(way, TEAM).expect("the token server knows it");
    client.pull(way, wanted).expect_err("it is cached, and another's");
    client.log_in(way, LIBRARY).expect("the token server knows it");
    client.pull(way, wanted).expect("it is its own");
}

/// `identity = "proxy"`: clients push as Larder, which may not do everything.
#[test]
fn larder_pushes_where_the_token_server_lets_it_and_tells_where_not() {
    let work = Work::new(requires!(&["crane"], TOKENS));
    let auth = format!(
        "auth = {{ type = \"basic\", username = \"{}\", password = \"{}\" }}",
        LIBRARY.user, LIBRARY.password
    );
    let tenants = Tenants::start(&work, &auth, None);
    let built = Built::version(&work, "2.3.0");
    let way = tenants.larder.by(Door::Mirror);

    push_with_crane(&work, &way, &built, OURS);
    tenants.arrived(&work, &built, OURS);

    let refused = crane(&work).push(&way, &built, THEIRS).expect_err("it is another's");
    println!("{refused}");
    assert!(!tenants.has(THEIRS), "nothing has arrived");
}

/// A registry with a token server, and Larder in front.
struct Tenants {
    larder: Larder,
    storage: PathBuf,
    _guarded: Guarded,
}

impl Tenants {
    fn start(work: &Work, keys: &str, port: Option<u16>) -> Self {
        let storage = work.new_dir("storage");
        let guarded = Guarded::taking_pushes(work, &storage, &[LIBRARY, TEAM]);
        let keys = format!(
            "{keys}\nca = \"{}\"\ntoken_hosts = [\"127.0.0.1:{}\"]",
            guarded.certificates.ca.display(),
            guarded.server.port,
        );
        let larder = Setup {
            pushes: true,
            registry_keys: &keys,
            access_keys: if port.is_some() { ASKING } else { "" },
            port,
            has_host: port.is_none(),
            ..Setup::new(work, &guarded.upstream.url())
        }
        .start();
        Self { larder, storage, _guarded: guarded }
    }

    /// The content of the registry, read through another one that wants no login.
    fn arrived(&self, work: &Work, built: &Built, repository: &str) -> Image {
        let reader = Registry::guarded(&self.storage, work, &Guard::Open);
        arrived(work, &reader, built, repository)
    }

    /// Whether the registry keeps anything of a repository.
    fn has(&self, repository: &str) -> bool {
        let repositories = Path::new("docker/registry/v2/repositories");
        self.storage.join(repositories).join(repository).exists()
    }
}

/// The token server lets users push, and pull, what begins with their names.
const OURS: &str = "library/app";
const THEIRS: &str = "team/app";

const LIBRARY: Login = Login { user: USER, password: "right-8c41" };
const TEAM: Login = Login { user: "team", password: "right-0d77" };

const ASKING: &str = "anonymous = \"none\"\nchallenge = \"basic\"\n";
