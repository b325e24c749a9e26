//! Users as a running Larder has them: from files, which change, and from certificates.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::image::Blob;
use crate::support::instance::{TlsClient, client_of, free_address};
use crate::support::log::assert_without;
use crate::support::registry::basic;
use crate::support::tls::TestCa;
use crate::support::{Instance, ScriptedRegistry};

const REPOSITORY: &str = "team/app";
const ANN: &str = "canary-of-ann";
const BEN: &str = "canary-of-ben";
const WRONG: &str = "canary-that-is-wrong";

fn line(user: &str, password: &str) -> String {
    format!("{user}:{}\n", bcrypt::hash_with_result(password, 4).unwrap())
}

/// Larder at an address, with Ann as its only user.
async fn guarded(more: &str, files: &[(&str, &str)]) -> (Instance, SocketAddr, Blob) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    hub.put_blob(REPOSITORY, &blob);
    let address = free_address();
    let config = format!(
        "listen = '{address}'\n[access]\nanonymous = 'none'\nchallenge = 'basic'\n\
         htpasswd = 'users'\n{more}\n[registry.'docker.io']\nupstream = 'http://{}'\n",
        hub.listen().await
    );
    let ann = line("ann", ANN);
    let files: Vec<_> = files.iter().copied().chain([("users", ann.as_str())]).collect();
    let variables = [("LARDER_LOG", "trace")];
    (Instance::start_with(&files, &config, &variables).await, address, blob)
}

async fn status(address: SocketAddr, blob: &Blob, user: &str, password: &str) -> u16 {
    let header = basic(user, password);
    let headers = [("authorization", header.as_str())];
    client_of(address).get_with(&blob.path(REPOSITORY), &headers).await.status.as_u16()
}

/// Bad files: the old users stay, and the log says which line of which file is at fault.
#[tokio::test]
async fn users_are_read_again_and_a_bad_file_changes_nothing() {
    let (mut larder, address, blob) = guarded("", &[]).await;
    assert_eq!(status(address, &blob, "ann", ANN).await, 200);
    assert_eq!(status(address, &blob, "ann", WRONG).await, 401);
    assert_eq!(status(address, &blob, "ben", BEN).await, 401);

    let both = format!("{}{}", line("ann", ANN), line("ben", BEN));
    larder.write("users", &both);
    assert!(larder.reload().await.contains("was read again"));
    assert_eq!(status(address, &blob, "ben", BEN).await, 200);

    let plain = format!("{both}eve:{WRONG}\n");
    for (bad, at) in
        [("", "users:1:1"), (&*plain, "users:3:1"), ("ann\n", "users:1:1"), ("\0", "users:1:1")]
    {
        larder.write("users", bad);
        let said = larder.reload().await;
        assert!(said.contains(at) && said.contains("the old one stays"), "{bad:?}\n{said}");
        for (user, password) in [("ann", ANN), ("ben", BEN)] {
            assert_eq!(status(address, &blob, user, password).await, 200, "{bad:?}");
        }
    }
    larder.write("users", &line("ben", BEN));
    larder.reload().await;
    assert_eq!(status(address, &blob, "ann", ANN).await, 401);
    assert_without(&larder.log(), &[ANN, BEN, WRONG], &["ann", "ben", "eve"]);
}

/// What `larder check` prints is pasted into tickets.
#[tokio::test]
async fn a_report_of_the_configuration_has_no_secret_in_it() {
    let (larder, ..) = guarded("", &[]).await;
    let check = |larder: &Instance| {
        let check = Command::new(env!("CARGO_BIN_EXE_larder"))
            .args(["check", "--config"])
            .arg(larder.path("config.toml"))
            .env_clear()
            .env("HOME", "/home/test")
            .output()
            .unwrap();
        let said = [check.stdout, check.stderr].concat();
        (check.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = check(&larder);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("anonymous        none\nchallenge        basic\nhtpasswd"), "{said}");
    assert!(!said.contains("$2"), "{said}");

    larder.write("users", &format!("{}ann2:{WRONG}\n", line("ann", ANN)));
    let (code, said) = check(&larder);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("users:2:1") && !said.contains(WRONG), "{said}");
}

/// The name is read from the very certificate that the handshake verified.
#[tokio::test]
async fn a_certificate_that_the_authority_signed_is_its_user() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let (cert, key) = ca.issue("larder.test");
    let ca_pem = String::from_utf8(ca.pem()).unwrap();
    let more = "[[access.certificate]]\nname = '*.ci.corp'\nuser = 'ci'\n\
                [[access.rule]]\nusers = ['ci']\nactions = ['pull']\n\
                [tls]\ncert = 'crt'\nkey = 'key'\nclient_ca = 'ca'\nclient_auth = 'optional'\n";
    let files = [("crt", cert.as_str()), ("key", &key), ("ca", &ca_pem)];
    let (_larder, address, blob) = guarded(more, &files).await;
    let get = async |own: Option<(String, String)>| {
        let client = TlsClient::new(address, &ca.pem(), own.as_ref()).client();
        let path = blob.path(REPOSITORY);
        let reply = client.try_call(crate::support::Version::Http11, http::Method::GET, &path, &[]);
        reply.await.map(|reply| reply.status.as_u16()).ok()
    };
    assert_eq!(get(Some(ca.issue("r1.ci.corp"))).await, Some(200));
    assert_eq!(get(Some(ca.issue("r1.other.corp"))).await, Some(401));
    assert_eq!(get(None).await, Some(401));
    assert_eq!(get(Some(other.issue("r1.ci.corp"))).await, None, "the handshake fails");
}
