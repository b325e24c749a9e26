//! Each client logs in with its own means and pulls: with a password that Larder knows, and with one
//! that only the registry's token server knows.
//!
//! The token server is distribution's own: a user may do everything in the repositories that begin
//! with the user's name, and asks in vain elsewhere, for which it issues a token without any rights.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::client::{Client, KINDS, Kind, Login};
use crate::support::curl::{Curl, Reply};
use crate::support::dockerd::Dockerd;
use crate::support::image::Image;
use crate::support::larder::{Larder, Setup};
use crate::support::token_server::{Guarded, HTPASSWD, TOKENS, USER, behind_htpasswd, htpasswd};
use crate::support::tools::{present, requires};
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

#[test]
fn docker_logs_in_and_pulls() {
    logs_in_and_pulls("dockerd", &[Door::Prefix]);
}

#[test]
fn containerd_logs_in_and_pulls() {
    logs_in_and_pulls("containerd", &[Door::Ns, Door::Registry, Door::Prefix]);
}

#[test]
fn containerd_pull_logs_in_and_pulls() {
    logs_in_and_pulls("containerd-pull", &[Door::Ns, Door::Registry, Door::Prefix]);
}

#[test]
fn podman_logs_in_and_pulls() {
    logs_in_and_pulls("podman", &[Door::Prefix, Door::Mirror]);
}

#[test]
fn buildah_logs_in_and_pulls() {
    logs_in_and_pulls("buildah", &[Door::Prefix]);
}

#[test]
fn skopeo_logs_in_and_pulls() {
    logs_in_and_pulls("skopeo", &[Door::Prefix, Door::Mirror]);
}

#[test]
fn crane_logs_in_and_pulls() {
    logs_in_and_pulls("crane", &[Door::Prefix, Door::Mirror]);
}

#[test]
fn oras_logs_in_and_pulls() {
    logs_in_and_pulls("oras", &[Door::Prefix]);
}

fn logs_in_and_pulls(name: &str, doors: &[Door]) {
    let kind = KINDS.into_iter().find(|client| client.name == name).expect("it is in the table");
    let test = format!("{name}_logs_in_and_pulls");
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
    println!("client: {name}: {}: logged in", kind.version());
}

/// `identity = "proxy"`: the upstream sees Larder's credential, whoever pulls.
fn with_a_password_of_larders(work: &Work, kind: &Kind, way: &Way<'_>) {
    let mut upstream = behind_htpasswd(work, OF_LARDER.password);
    let users = htpasswd(work, &[ANN]);
    let access = format!("{ASKING}htpasswd = \"{}\"\n", users.display());
    let auth = format!(
        "auth = {{ type = \"basic\", username = \"{}\", password = \"{}\" }}",
        OF_LARDER.user, OF_LARDER.password
    );
    let larder = Setup {
        registry_keys: &auth,
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
    let tenants = Tenants::start(work, way.port, "5m");
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

/// Some clients find out when they log in, some with the pull; and the server itself says 401.
fn refused_with(client: &dyn Client, way: &Way<'_>, wanted: &Wanted<'_>, login: Login) {
    let pulled = client.log_in(way, login).and_then(|()| client.pull(way, wanted));
    pulled.expect_err("the password is wrong");
}

/// What is another's and in the cache looks as what does not exist, by every way to ask for it.
#[test]
fn what_is_another_tenants_looks_as_what_does_not_exist() {
    let work = Work::new(requires!(TOKENS));
    let mut tenants = Tenants::start(&work, wait::free_port(), "5m");
    let [image, _] = Image::small();
    let things = things(&image);
    let paths = |repository: &str| {
        let doors = ["v2", "v2/docker.io", "docker.io/v2"];
        let at = |door: &str| {
            things.iter().map(|it| format!("{door}/{repository}/{it}")).collect::<Vec<_>>()
        };
        doors.map(at).concat()
    };
    for path in paths("library/small") {
        tenants.ask(&path, LIBRARY, &[]);
    }
    for digest in image.digests() {
        let kind = if image.blobs().any(|blob| blob == digest) { "blobs" } else { "manifests" };
        let reply = tenants.ask(&format!("v2/library/small/{kind}/{digest}"), LIBRARY, &[]);
        assert_eq!(reply.0.status, 200, "{reply:?}");
    }
    tenants.guarded.upstream.forget();
    let (asked, logged) =
        (tenants.guarded.server.logged(), tenants.guarded.upstream.raw_log().len());

    let warm = paths("library/small").into_iter().zip(paths("no/such"));
    for (warm, absent) in warm {
        for how in [&[][..], &["-I"], &["-r", "0-0"], &["-r", "5-"]] {
            let theirs = tenants.ask(&warm, TEAM, how);
            // 405: a list has no HEAD.
            assert!(matches!(theirs.0.status, 404 | 405), "{warm} {how:?}: {theirs:?}");
            assert_eq!(shown(theirs), shown(tenants.ask(&absent, TEAM, how)), "{warm} {how:?}");
        }
        let refused = tenants.ask(&warm, WRONG_OF_LIBRARY, &[]);
        assert_eq!(refused.0.status, 401, "{warm}: {refused:?}");
        assert!(refused.1.len() < 1000, "an error and no more");
    }
    assert!(tenants.guarded.server.asked_by(TEAM.user, asked));
    assert!(
        !tenants.guarded.server.asked_by(LIBRARY.user, asked),
        "nobody asked in another's name"
    );
    let log = tenants.guarded.upstream.raw_log();
    assert!(!log[logged..].contains("auth.user.name=library"), "{}", &log[logged..]);
    says_no_secret(&tenants.larder);
}

/// All that somebody can ask for who has heard of an image.
fn things(image: &Image) -> [String; 9] {
    [
        "manifests/1".to_owned(),
        format!("manifests/{}", image.index),
        format!("manifests/{}", image.manifest),
        format!("blobs/{}", image.layers[0]),
        format!("blobs/{}", image.config),
        format!("blobs/{}", image.manifest),
        format!("referrers/{}", image.index),
        "tags/list".to_owned(),
        "tags/list?n=1".to_owned(),
    ]
}

/// The token that Larder holds is good for a quarter of an hour, and the registry believes it. The
/// right ends with `grant_ttl` all the same.
#[test]
fn a_credential_that_is_revoked_ends_here_before_its_token_does() {
    let work = Work::new(requires!(TOKENS));
    let tenants = Tenants::start(&work, wait::free_port(), "1s");
    let [image, _] = Image::small();
    let layer = format!("v2/library/small/blobs/{}", image.layers[0]);
    for path in ["v2/library/small/manifests/1".to_owned(), layer.clone()] {
        assert_eq!(tenants.ask(&path, LIBRARY, &[]).0.status, 200, "{path}");
    }

    tenants.guarded.server.admit(&[TEAM]);

    wait::until("the right has ended", wait::DAEMON, || {
        (tenants.ask(&layer, LIBRARY, &[]).0.status == 401).then_some(())
    });
    assert_eq!(tenants.ask("v2/library/small/manifests/1", LIBRARY, &[]).0.status, 401);
    says_no_secret(&tenants.larder);
}

/// dockerd gives a mirror that asks for a password the one for Docker Hub, and cannot be given another
/// one. So nobody asks; and were it sent, it would open the registry behind the mirror, as this one
/// takes it.
#[test]
fn a_mirror_of_dockerd_is_given_no_password_of_docker_hubs() {
    let tools = &["root", "dockerd", "docker", "containerd", "ctr", "runc"];
    let work = Work::new(requires!(tools, HTPASSWD));
    let mut upstream = behind_htpasswd(&work, OF_LARDER.password);
    let url = upstream.url();
    let larder = Setup { access_keys: NEVER_ASKING, ..Setup::new(&work, &url) }.start();
    let way = larder.by(Door::Mirror);
    let dockerd = Dockerd::start(&work, &way);
    let [image, _] = Image::small();
    dockerd.log_in_at_docker_hub(OF_LARDER);
    upstream.forget();

    dockerd
        .pull(&way, &Wanted::by_tag(&image))
        .expect_err("nobody has a password for the upstream");

    let asked = upstream.requests();
    assert!(!asked.is_empty(), "the mirror was asked");
    assert!(asked.iter().all(|request| request.status == 401), "{asked:#?}");
    let path = format!("{}/manifests/{}", image.repository, image.tag);
    let given = Curl::get(&larder.url(&path)).arg("-u").arg(OF_LARDER.to_string()).send();
    assert_eq!((given.status, given.header("www-authenticate").as_str()), (404, ""), "{given:?}");
    says_no_secret(&larder);
}

/// A registry with a token server, and Larder in front, which asks with its clients' credentials.
struct Tenants {
    guarded: Guarded,
    larder: Larder,
    /// Where bodies go.
    answer: PathBuf,
}

impl Tenants {
    fn start(work: &Work, port: u16, grant_ttl: &str) -> Self {
        Image::small();
        Image::of_a_team();
        let guarded = Guarded::for_users(work, &[LIBRARY, TEAM]);
        let keys = format!(
            "identity = \"client\"\ngrant_ttl = \"{grant_ttl}\"\n\
             ca = \"{}\"\ntoken_hosts = [\"127.0.0.1:{}\"]",
            guarded.certificates.ca.display(),
            guarded.server.port,
        );
        let larder = Setup {
            registry_keys: &keys,
            access_keys: ASKING,
            port: Some(port),
            has_host: false,
            ..Setup::new(work, &guarded.upstream.url())
        }
        .start();
        Self { guarded, larder, answer: work.data().join("answer") }
    }

    /// The answer, and its body.
    fn ask(&self, path: &str, login: Login, more: &[&str]) -> (Reply, Vec<u8>) {
        let url = format!("http://{}/{path}", self.larder.address());
        let mut curl = Curl::get(&url).arg("-u").arg(login.to_string()).to(&self.answer);
        for argument in more {
            curl = curl.arg(argument);
        }
        let reply = curl.send();
        (reply, fs::read(&self.answer).expect("curl wrote the body"))
    }
}

/// What of an answer could tell one from another: all but the date, and the id that each has.
fn shown((reply, body): (Reply, Vec<u8>)) -> String {
    let body = String::from_utf8_lossy(&body).into_owned();
    let id = body.split_once(r#""request_id":""#).map(|(_, rest)| rest[..16].to_owned());
    let body = id.map_or(body.clone(), |id| body.replace(&id, "ID"));
    let headers = reply.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date"));
    format!("{} {:?} {body}", reply.status, headers.collect::<Vec<_>>())
}

/// In what it says to operators, at its most talkative.
fn says_no_secret(larder: &Larder) {
    let metrics = Curl::get(&larder.admin_url("metrics"));
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    assert_eq!(metrics.to(file.path()).send().status, 200);
    let metrics = fs::read_to_string(file.path()).expect("curl wrote the body");
    let log = larder.log();
    assert!(log.contains("TRACE"), "it says all that it can");
    for (name, text) in [("log", log), ("metrics", metrics), ("report", larder.report())] {
        for login in [LIBRARY, TEAM, ANN, WRONG, WRONG_OF_LIBRARY, OF_LARDER] {
            for form in [login.password.to_owned(), STANDARD.encode(login.to_string())] {
                let line = text.lines().find(|line| line.contains(&form));
                assert_eq!(line, None, "a secret is in the {name}");
            }
        }
    }
}

/// Who may read `library/…`, and nothing else.
const LIBRARY: Login = Login { user: USER, password: "canary-of-library" };

/// Who may read `team/…`.
const TEAM: Login = Login { user: "team", password: "canary-of-team" };

/// A user of Larder's.
const ANN: Login = Login { user: "ann", password: "canary-of-ann" };

const WRONG: Login = Login { user: "ann", password: "canary-that-is-wrong" };
const WRONG_OF_LIBRARY: Login = Login { user: USER, password: "canary-that-is-wrong-too" };

/// Of Larder at its upstream.
const OF_LARDER: Login = Login { user: USER, password: "canary-of-larder" };

const ASKING: &str = "anonymous = \"none\"\nchallenge = \"basic\"\n";
const NEVER_ASKING: &str = "anonymous = \"pull\"\nchallenge = \"never\"\n";
