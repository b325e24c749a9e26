//! Real clients push and pull through a Larder that gets its credential from a cloud. The registry
//! is distribution's. Amazon's API is moto behind a check of signatures by botocore; Azure's and
//! Google's are stand-ins that refuse what is not asked as their documentation says.

use super::azure_registry::{self, CLIENT, TENANT, TOKENS};
use super::{REPOSITORY, empty};
use crate::lookalikes::wire::{self, VendorReply};
use crate::support::arrived::Reader;
use crate::support::built::Built;
use crate::support::certificates::Certificates;
use crate::support::client::{KINDS, Login};
use crate::support::larder::{Larder, Setup};
use crate::support::process::Process;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::token_server::{HTPASSWD, htpasswd};
use crate::support::tools::{self, present};
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

#[test]
fn dockerd_pushes_and_pulls_with_a_password_of_ecr() {
    pushes_and_pulls("dockerd", "ecr", &["moto-ecr"], ecr);
}

#[test]
fn containerd_pushes_and_pulls_with_a_password_of_ecr() {
    pushes_and_pulls("containerd", "ecr", &["moto-ecr"], ecr);
}

#[test]
fn dockerd_pushes_and_pulls_with_a_token_of_acr() {
    pushes_and_pulls("dockerd", "acr", &[], acr);
}

#[test]
fn containerd_pushes_and_pulls_with_a_token_of_acr() {
    pushes_and_pulls("containerd", "acr", &[], acr);
}

#[test]
fn dockerd_pushes_and_pulls_with_a_token_of_google() {
    pushes_and_pulls("dockerd", "google", &[], google);
}

#[test]
fn containerd_pushes_and_pulls_with_a_token_of_google() {
    pushes_and_pulls("containerd", "google", &[], google);
}

/// A registry of a cloud, and the configuration by which Larder is let in.
struct Cloud {
    /// The registry as Larder reaches it.
    url: String,
    registry: Registry,
    login: Login,
    keys: String,
    variables: Vec<(&'static str, String)>,
    /// They may be in no log.
    secrets: Vec<&'static str>,
    /// A part of the configuration, and another one by which nothing is given.
    another: (String, String),
    _api: Option<Process>,
}

impl Cloud {
    fn larder(&self, work: &Work, way: Way<'_>) -> Larder {
        let setup = Setup::new(work, &self.url);
        let setup = Setup { way: Some(way), pushes: true, registry_keys: &self.keys, ..setup };
        let variables: Vec<_> = self.variables.iter().map(|(name, it)| (*name, &**it)).collect();
        Setup { variables: &variables, ..setup }.start()
    }

    fn assert_not_shown(&self, larder: &Larder) {
        let log = larder.log();
        let shown = self.secrets.iter().find(|secret| log.contains(**secret));
        assert_eq!(shown, None, "in the log");
    }
}

fn pushes_and_pulls(name: &str, cloud_name: &str, tools: &[&str], start: fn(&Work) -> Cloud) {
    let kind = KINDS.into_iter().find(|client| client.name == name).expect("it is in the table");
    let test = format!("{name}_pushes_and_pulls_with_a_credential_of_{cloud_name}");
    if !present(&test, &[kind.tools, DISTRIBUTION, HTPASSWD, tools]) {
        return;
    }
    let work = Work::new(&test);
    let cloud = start(&work);
    let built = Built::version(&work, "2.3.0");

    // This containerd says only with a pull which registry it means.
    for &door in kind.doors.iter().filter(|door| **door != Door::Ns) {
        let way = Way::plain(door, wait::free_port());
        let larder = cloud.larder(&work, way);
        let pushed = (kind.start)(&work, &way).push(&way, &built, REPOSITORY);
        pushed.unwrap_or_else(|error| panic!("by {way}: {error}\n{}", larder.log()));
        cloud.assert_not_shown(&larder);
    }
    let (login, registry) = (cloud.login.to_string(), cloud.registry.url());
    let reader = Reader { work: &work, registry: &registry, login: Some(&login) };
    let image = reader.image(REPOSITORY, &built);

    for &door in kind.doors {
        // Each with an empty cache.
        let way = Way::plain(door, wait::free_port());
        let larder = cloud.larder(&work, way);
        let pulled = (kind.start)(&work, &way).pull(&way, &Wanted::by_tag(&image));
        pulled.unwrap_or_else(|error| panic!("by {way}: {error}\n{}", larder.log()));
        cloud.assert_not_shown(&larder);
    }

    assert_another_secret_fails(&work, cloud);
    println!(
        "client: {name}: {}: pushed and pulled with a credential of {cloud_name}",
        kind.version()
    );
}

/// The service of the cloud is one that looks at what it is shown.
fn assert_another_secret_fails(work: &Work, mut cloud: Cloud) {
    let (right, wrong) = &cloud.another;
    for (_, value) in &mut cloud.variables {
        *value = value.replace(right, wrong);
    }
    cloud.keys = cloud.keys.replace(right, wrong);
    let larder = cloud.larder(work, Way::plain(Door::Prefix, wait::free_port()));
    let refused = tools::run(&mut larder.command(&["check", "--online"]));
    let said = refused.expect_err("another secret signs nothing that is taken");
    assert!(said.contains("FAILED"), "{said}");
    cloud.assert_not_shown(&larder);
}

/// A registry of distribution that takes this login alone.
fn guarded(work: &Work, login: Login) -> Registry {
    empty(work, &Guard::Htpasswd { file: &htpasswd(work, &[login]) })
}

fn ecr(work: &Work) -> Cloud {
    let (port, process) = ecr_api(work, None);
    let registry = guarded(work, LOGIN);
    let endpoint = format!("http://127.0.0.1:{port}");
    Cloud {
        url: registry.url(),
        registry,
        login: LOGIN,
        keys: format!(
            "auth = {{ type = \"ecr\", region = \"eu-west-1\", endpoint = \"{endpoint}\" }}"
        ),
        variables: vec![
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ],
        secrets: vec![SECRET, LOGIN.password],
        another: (SECRET.to_owned(), "another".to_owned()),
        _api: Some(process),
    }
}

/// Amazon's API, which takes what this key has signed: the port, and the process. Over TLS if there
/// are certificates.
pub(super) fn ecr_api(work: &Work, certificates: Option<&Certificates>) -> (u16, Process) {
    let port = wait::free_port();
    let mut command = tools::command("moto-ecr");
    command.args([&port.to_string(), KEY_ID, SECRET]);
    if let Some(Certificates { certificate, key, .. }) = certificates {
        command.arg(certificate).arg(key);
    }
    let mut process = Process::spawn("moto-ecr", &command, &work.log("ecr-api.log"));
    process.wait_until_ready(|| wait::answers(port));
    (port, process)
}

/// A service principal, whose secret is in a file.
fn acr(work: &Work) -> Cloud {
    let registry = guarded(work, LOGIN);
    let port = azure_registry::serve(registry.port);
    let dir = work.new_dir("principal");
    for (name, secret) in [("right", azure_registry::SECRET), ("wrong", "another")] {
        std::fs::write(dir.join(name), secret).expect("the test's directory can be written");
    }
    let file = dir.join("right");
    let (url, file) = (format!("http://127.0.0.1:{port}"), file.display());
    let mut secrets = TOKENS.to_vec();
    secrets.extend([azure_registry::SECRET, LOGIN.password]);
    Cloud {
        keys: format!(
            "auth = {{ type = \"acr\", tenant = \"{TENANT}\", client_id = \"{CLIENT}\", \
             client_secret_file = \"{file}\", authority = \"{url}\" }}"
        ),
        url,
        registry,
        login: LOGIN,
        variables: Vec::new(),
        secrets,
        another: ("/right".to_owned(), "/wrong".to_owned()),
        _api: None,
    }
}

/// A machine of Google Cloud with a service account. Its metadata server gives one token only to a
/// request that no page could make.
fn google(work: &Work) -> Cloud {
    let registry = guarded(work, GOOGLE_LOGIN);
    let port = wire::serve(|request, _| {
        let is_right = request.path == METADATA_PATH
            && request.header("metadata-flavor") == Some("Google")
            && request.header("x-forwarded-for").is_none();
        let token = GOOGLE_LOGIN.password;
        let answer =
            format!(r#"{{"access_token":"{token}","expires_in":3599,"token_type":"Bearer"}}"#);
        let reply = if is_right {
            VendorReply::new(200, "application/json", answer)
        } else {
            VendorReply::new(403, "text/plain", "no")
        };
        reply.with("Metadata-Flavor", "Google")
    });
    // A registry is no metadata server.
    let another = (port.to_string(), registry.port.to_string());
    Cloud {
        url: registry.url(),
        registry,
        login: GOOGLE_LOGIN,
        keys: "auth = { type = \"google\" }".to_owned(),
        variables: vec![("GCE_METADATA_HOST", format!("127.0.0.1:{port}"))],
        secrets: vec![GOOGLE_LOGIN.password],
        another,
        _api: None,
    }
}

pub(super) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";

pub(super) const SECRET: &str = "canary-secret-of-keys";

const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// The password that moto gives, and its region.
pub(super) const LOGIN: Login =
    Login { user: "AWS", password: "123456789012-auth-token-eu-west-1" };

/// An access token is the password of this user.
const GOOGLE_LOGIN: Login =
    Login { user: "oauth2accesstoken", password: "ya29.canary-access-token" };
