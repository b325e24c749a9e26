//! Real clients push and pull through a Larder that gets its password from Amazon's API, which is
//! moto behind a check of signatures by botocore. The registry is distribution's.

use super::{REPOSITORY, empty};
use crate::support::arrived::Reader;
use crate::support::built::Built;
use crate::support::client::{KINDS, Login};
use crate::support::larder::{Larder, Setup};
use crate::support::process::Process;
use crate::support::registry::{DISTRIBUTION, Guard};
use crate::support::token_server::{HTPASSWD, htpasswd};
use crate::support::tools::{self, present};
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

#[test]
fn dockerd_pushes_and_pulls_with_a_password_of_ecr() {
    pushes_and_pulls("dockerd");
}

#[test]
fn containerd_pushes_and_pulls_with_a_password_of_ecr() {
    pushes_and_pulls("containerd");
}

fn pushes_and_pulls(name: &str) {
    let kind = KINDS.into_iter().find(|client| client.name == name).expect("it is in the table");
    let test = format!("{name}_pushes_and_pulls_with_a_password_of_ecr");
    if !present(&test, &[kind.tools, DISTRIBUTION, HTPASSWD, &["moto-ecr"]]) {
        return;
    }
    let work = Work::new(&test);
    let (api, _process) = start_api(&work);
    let registry = empty(&work, &Guard::Htpasswd { file: &htpasswd(&work, &[LOGIN]) });
    let url = registry.url();
    let keys = format!(
        "auth = {{ type = \"ecr\", region = \"eu-west-1\", endpoint = \"http://127.0.0.1:{api}\" }}"
    );
    let built = Built::version(&work, "2.3.0");
    let start = |way: Way<'_>, secret: &str| -> Larder {
        let variables = [
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let setup = Setup::new(&work, &url);
        let setup = Setup { way: Some(way), pushes: true, registry_keys: &keys, ..setup };
        Setup { variables: &variables, ..setup }.start()
    };

    // This containerd says only with a pull which registry it means.
    let door = kind.doors.iter().find(|door| **door != Door::Ns).expect("there are others");
    let way = Way::plain(*door, wait::free_port());
    let larder = start(way, SECRET);
    let pushed = (kind.start)(&work, &way).push(&way, &built, REPOSITORY);
    pushed.unwrap_or_else(|error| panic!("by {way}: {error}\n{}", larder.log()));
    let login = LOGIN.to_string();
    let reader = Reader { work: &work, registry: &url, login: Some(&login) };
    let image = reader.image(REPOSITORY, &built);
    assert!(!larder.log().contains(LOGIN.password) && !larder.log().contains(SECRET));

    for &door in kind.doors {
        // Each with an empty cache.
        let way = Way::plain(door, wait::free_port());
        let larder = start(way, SECRET);
        let pulled = (kind.start)(&work, &way).pull(&way, &Wanted::by_tag(&image));
        pulled.unwrap_or_else(|error| panic!("by {way}: {error}\n{}", larder.log()));
        assert!(!larder.log().contains(LOGIN.password) && !larder.log().contains(SECRET));
    }

    let way = Way::plain(Door::Prefix, wait::free_port());
    let larder = start(way, "another");
    let refused = tools::run(&mut larder.command(&["check", "--online"]));
    let said = refused.expect_err("another secret signs nothing that is taken");
    assert!(said.contains("FAILED") && said.contains("InvalidSignatureException"), "{said}");
    println!("client: {name}: {}: pushed and pulled with a password of ECR", kind.version());
}

/// Amazon's API at a free port.
fn start_api(work: &Work) -> (u16, Process) {
    let port = wait::free_port();
    let log = work.log("ecr-api.log");
    let mut command = tools::command("moto-ecr");
    command.args([&port.to_string(), KEY_ID, SECRET]);
    let mut process = Process::spawn("moto-ecr", &command, &log);
    process.wait_until_ready(|| wait::answers(port));
    (port, process)
}

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";

const SECRET: &str = "canary-secret-of-keys";

/// The password that moto gives.
const LOGIN: Login = Login { user: "AWS", password: "123456789012-auth-token" };
