//! Access of clients that log in, to registries that want a login.
//!
//! The token server is distribution's own: a user may do everything in the repositories that begin
//! with the user's name, and asks in vain elsewhere, for which it issues a token without any
//! rights.

mod every_client;
mod tenants;

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::client::{Client as _, Login};
use crate::support::curl::{Curl, Reply};
use crate::support::dockerd::Dockerd;
use crate::support::image::Image;
use crate::support::larder::{Larder, Setup};
use crate::support::token_server::{Guarded, HTPASSWD, USER, behind_htpasswd};
use crate::support::tools::requires;
use crate::support::wait;
use crate::support::way::{Door, Wanted};
use crate::support::work::Work;

/// dockerd gives a mirror that asks for a password the one for Docker Hub, and cannot be given
/// another one. So Larder does not ask; and were it sent, it would open the registry behind the
/// mirror, as this one takes it.
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
    /// The file that bodies go to.
    answer: PathBuf,
}

impl Tenants {
    /// For `LIBRARY` and `TEAM`.
    fn start(work: &Work) -> Self {
        let guarded = Guarded::for_users(work, &[LIBRARY, TEAM]);
        Self::before(work, guarded, wait::free_port())
    }

    fn before(work: &Work, guarded: Guarded, port: u16) -> Self {
        Image::small();
        Image::of_a_team();
        let larder = Setup {
            // Short, for one test waits until it is over.
            registry_keys: &format!("{}\ngrant_ttl = \"1s\"", asked_by_clients(&guarded)),
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

/// Keys of a registry that is asked with its clients' credentials.
fn asked_by_clients(guarded: &Guarded) -> String {
    format!("identity = \"client\"\n{}", trusting(guarded))
}

/// Keys of a registry whose token server is the one that was started with it.
fn trusting(Guarded { certificates, server, .. }: &Guarded) -> String {
    let (ca, port) = (certificates.ca.display(), server.port);
    format!("ca = \"{ca}\"\ntoken_hosts = [\"127.0.0.1:{port}\"]")
}

/// A key of a registry that is asked with this credential.
fn auth(Login { user, password }: Login) -> String {
    format!("auth = {{ type = \"basic\", username = \"{user}\", password = \"{password}\" }}")
}

/// The parts of an answer that could tell it from another: all but the date and the request's id.
fn shown((reply, body): (Reply, Vec<u8>)) -> String {
    let body = String::from_utf8_lossy(&body).into_owned();
    let id = body.split_once(r#""request_id":""#).map(|(_, rest)| rest[..16].to_owned());
    let body = id.map_or(body.clone(), |id| body.replace(&id, "ID"));
    // For a HEAD, curl writes the headers as the body.
    let body: Vec<_> = body.lines().filter(|line| !line.starts_with("date:")).collect();
    let headers = reply.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date"));
    format!("{} {:?} {body:?}", reply.status, headers.collect::<Vec<_>>())
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

/// This user may read `library/…`, and nothing else.
const LIBRARY: Login = Login { user: USER, password: "canary-of-library" };

/// This user may read `team/…`.
const TEAM: Login = Login { user: "team", password: "canary-of-team" };

/// A user of Larder's.
const ANN: Login = Login { user: "ann", password: "canary-of-ann" };

const WRONG: Login = Login { user: "ann", password: "canary-that-is-wrong" };
const WRONG_OF_LIBRARY: Login = Login { user: USER, password: "canary-that-is-wrong-too" };

/// The login of Larder at its upstream.
const OF_LARDER: Login = Login { user: USER, password: "canary-of-larder" };

const ASKING: &str = "anonymous = \"none\"\nchallenge = \"basic\"\n";
const NEVER_ASKING: &str = "anonymous = \"pull\"\nchallenge = \"never\"\n";
