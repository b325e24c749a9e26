//! Each client logs in with its own means, pulls and pushes: with a password that Larder knows, and
//! with one that only the registry's token server knows. (Pushes with the latter are in
//! `push/tenants.rs`.)

use super::{ANN, ASKING, LIBRARY, OF_LARDER, TEAM, Tenants, WRONG, auth, says_no_secret};
use crate::support::arrived::Reader;
use crate::support::built::Built;
use crate::support::client::{Client, KINDS, Kind, Login};
use crate::support::image::Image;
use crate::support::larder::Setup;
use crate::support::registry::{Guard, Registry};
use crate::support::token_server::{Guarded, TOKENS, behind_htpasswd, htpasswd};
use crate::support::tools::present;
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

#[test]
fn docker_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("dockerd", &[Door::Prefix]);
}

#[test]
fn containerd_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("containerd", &[Door::Ns, Door::Registry, Door::Prefix]);
}

#[test]
fn containerd_pull_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("containerd-pull", &[Door::Ns, Door::Registry, Door::Prefix]);
}

#[test]
fn newest_containerd_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("newest-containerd", &[Door::Ns, Door::Prefix]);
}

#[test]
fn regctl_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("regctl", &[Door::Prefix]);
}

#[test]
fn podman_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("podman", &[Door::Prefix, Door::Mirror]);
}

#[test]
fn buildah_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("buildah", &[Door::Prefix]);
}

#[test]
fn skopeo_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("skopeo", &[Door::Prefix, Door::Mirror]);
}

#[test]
fn crane_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("crane", &[Door::Prefix, Door::Mirror]);
}

#[test]
fn oras_logs_in_pulls_and_pushes() {
    logs_in_pulls_and_pushes("oras", &[Door::Prefix]);
}

fn logs_in_pulls_and_pushes(name: &str, doors: &[Door]) {
    let kind = KINDS.into_iter().find(|client| client.name == name).expect("it is in the table");
    let test = format!("{}_logs_in_pulls_and_pushes", name.replace('-', "_"));
    if !present(&test, &[kind.tools, TOKENS]) {
        return;
    }
    let work = Work::new(&test);
    for &door in doors {
        let way = Way::plain(door, wait::free_port());
        println!("by {way}, with a password that Larder knows");
        with_a_password_of_larders(&work, kind, &way);
        println!("by {way}, with a password that the registry knows");
        with_a_password_of_the_registrys(&work, kind, &way);
    }
    let (way, built) = (Way::plain(Door::Prefix, wait::free_port()), Built::version(&work, "1.0"));
    println!("by {way}, pushing with a password that Larder knows");
    pushes_with_a_password_of_larders(&work, kind, &way, &built);
    println!("client: {name}: {}: logged in", kind.version());
}

/// `identity = "proxy"`: the upstream sees Larder's credential for every client.
fn with_a_password_of_larders(work: &Work, kind: &Kind, way: &Way<'_>) {
    let mut upstream = behind_htpasswd(work, OF_LARDER.password);
    let users = htpasswd(work, &[ANN]);
    let access = format!("{ASKING}htpasswd = \"{}\"\n", users.display());
    let larder = Setup {
        registry_keys: &auth(OF_LARDER),
        access_keys: &access,
        port: Some(way.port),
        ..Setup::new(work, &upstream.url())
    }
    .start();
    let client = (kind.start)(work, way);
    let [image, _] = Image::small();
    let wanted = Wanted::by_tag(&image);
    upstream.forget();

    client.pull(way, &wanted).expect_err("it has not logged in");
    refused_with(&*client, way, &wanted, WRONG);
    assert!(larder.verified_blobs().is_empty() && larder.fills().is_empty(), "nothing is cached");
    assert!(upstream.requests().is_empty(), "nor was anything asked for");

    client.log_in(way, ANN).expect("the password is right");
    for when in ["cold", "warm"] {
        client.pull(way, &wanted).unwrap_or_else(|error| panic!("{when}: {error}"));
    }
    upstream.stop();
    client.pull(way, &wanted).expect("who has logged in to Larder needs no upstream");
    refused_with(&*client, way, &wanted, WRONG);
    says_no_secret(&larder);
}

/// `identity = "client"`: Larder has no credential of its own, and the registry decides.
fn with_a_password_of_the_registrys(work: &Work, kind: &Kind, way: &Way<'_>) {
    let guarded = Guarded::for_users(work, &[LIBRARY, TEAM]);
    let tenants = Tenants::before(work, guarded, way.port);
    let client = (kind.start)(work, way);
    let ([theirs, _], own) = (Image::small(), Image::of_a_team());
    let [theirs, own] = [&theirs, &own].map(Wanted::by_tag);

    client.pull(way, &theirs).expect_err("it has not logged in");
    refused_with(&*client, way, &theirs, WRONG);
    assert!(tenants.larder.verified_blobs().is_empty(), "nothing is cached");

    client.log_in(way, LIBRARY).expect("the token server knows it");
    for when in ["cold", "warm"] {
        client.pull(way, &theirs).unwrap_or_else(|error| panic!("{when}: {error}"));
    }
    client.log_in(way, TEAM).expect("the token server knows it, too");
    client.pull(way, &theirs).expect_err("it is cached, and another's");
    client.pull(way, &own).expect("this is its own");
    refused_with(&*client, way, &own, WRONG);
    says_no_secret(&tenants.larder);
}

/// Larder decides who may push, and the upstream sees Larder.
fn pushes_with_a_password_of_larders(work: &Work, kind: &Kind, way: &Way<'_>, built: &Built) {
    let file = htpasswd(work, &[OF_LARDER]);
    let storage = work.new_dir("storage");
    let upstream = Registry::guarded(&storage, work, &Guard::Htpasswd { file: &file });
    let users = htpasswd(work, &[ANN]);
    let larder = Setup {
        pushes: true,
        registry_keys: &auth(OF_LARDER),
        access_keys: &format!("{ASKING}htpasswd = \"{}\"\n", users.display()),
        port: Some(way.port),
        ..Setup::new(work, &upstream.url())
    }
    .start();
    let client = (kind.start)(work, way);

    client.push(way, built, "library/app").expect_err("it has not logged in");
    let pushed = client.log_in(way, WRONG).and_then(|()| client.push(way, built, "library/app"));
    pushed.expect_err("the password is wrong");
    client.log_in(way, ANN).expect("the password is right");
    client.push(way, built, "library/app").expect("each user may push");

    let login = OF_LARDER.to_string();
    let reader = Reader { work, registry: &upstream.url(), login: Some(&login) };
    reader.image("library/app", built);
    says_no_secret(&larder);
}

/// Some clients find out when they log in, some with the pull; and the server itself says 401.
fn refused_with(client: &dyn Client, way: &Way<'_>, wanted: &Wanted<'_>, login: Login) {
    let pulled = client.log_in(way, login).and_then(|()| client.pull(way, wanted));
    pulled.expect_err("the password is wrong");
}
