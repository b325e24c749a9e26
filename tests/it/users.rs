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

/// Each file that cannot be used, and the line that says why.
fn bad_files() -> Vec<(&'static str, Vec<u8>, usize)> {
    let good = line("ann", ANN);
    let hash = good.trim().strip_prefix("ann:").unwrap().to_owned();
    let second = |text: &str| format!("{good}{text}\n").into_bytes();
    let of_cost = |cost: &str| second(&format!("ben:{}", hash.replacen("$04$", cost, 1)));
    let of_58_bytes = format!("ben:$2y$04${}", "ä".repeat(26));
    vec![
        ("empty", Vec::new(), 1),
        ("only remarks", b"# nobody\n\n".to_vec(), 1),
        ("no colon", second("ben"), 2),
        ("no hash", second("ben:"), 2),
        ("no user", second(&format!(":{hash}")), 2),
        ("a plain password", second(&format!("ben:{WRONG}")), 2),
        ("SHA-1", second("ben:{SHA}87v6s3eHqd2RLCJcj3rX9yLAHmo="), 2),
        ("MD5", second("ben:$apr1$hR3lF0Mv$yiHFOcmEoSZ0TdpG5xJKR/"), 2),
        ("crypt", second("ben:rl0uE0OTLKZ0c"), 2),
        ("an hour of bcrypt", of_cost("$31$"), 2),
        ("no cost of bcrypt's", of_cost("$00$"), 2),
        ("letters that are longer than a byte", second(&of_58_bytes), 2),
        ("half a hash", second(&format!("ben:{}", &hash[..40])), 2),
        ("a hash and more", second(&format!("ben:{hash}x")), 2),
        ("a user twice", second(&format!("ben:{hash}\nann:{hash}")), 3),
        ("a user with a space", second(&format!("b n:{hash}")), 2),
        ("a user with a colon", second(&format!("b:n:{hash}")), 2),
        ("a user with NUL", second(&format!("b\0n:{hash}")), 2),
        ("a carriage return in the middle", second(&format!("b\rn:{hash}")), 2),
        ("no text", [good.as_bytes(), b"b\xff:x\n"].concat(), 2),
    ]
}

fn run(command: &str, config: &std::path::Path) -> (Option<i32>, String) {
    let program = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args([command, "--config"])
        .arg(config)
        .env_clear()
        .env("HOME", "/home/test")
        .output()
        .unwrap();
    let said = [program.stdout, program.stderr].concat();
    (program.status.code(), String::from_utf8(said).unwrap())
}

/// A start with it is refused, and a Larder that runs with another one keeps that.
#[tokio::test]
async fn each_bad_file_of_users_is_named_with_its_line_and_never_used() {
    let (mut larder, address, blob) = guarded("", &[]).await;
    for (what, text, at) in bad_files() {
        std::fs::write(larder.path("users"), &text).unwrap();
        for command in ["check", "serve"] {
            let (code, said) = run(command, &larder.path("config.toml"));
            assert_eq!(code, Some(2), "{what}: {said}");
            assert!(said.contains(&format!("users:{at}:1")), "{what}: {said}");
            assert!(!said.contains("panicked"), "{what}: {said}");
            assert_without(&said, &[ANN, WRONG, "$2b$", "87v6s3eHqd2RLCJcj3rX9yLAHmo="], &["ben"]);
        }
        let said = larder.reload().await;
        assert!(said.contains(&format!("users:{at}:1")), "{what}: {said}");
        assert!(said.contains("the old one stays"), "{what}: {said}");
        assert_eq!(status(address, &blob, "ann", ANN).await, 200, "{what}");
    }
    assert_without(&larder.log(), &[ANN, WRONG], &["ann", "ben"]);
}

/// Odd files that are valid, and mean something else than they seem to.
#[tokio::test]
async fn files_of_users_may_be_odd_and_mean_what_they_say() {
    let (mut larder, address, blob) = guarded("", &[]).await;
    let long = "x".repeat(72);
    let nul = format!("{BEN}\0");
    // One letter that is two: `ë`, and `e` with dots. Neither user is the other.
    let users = format!(
        "\u{feff}# people\r\n\r\n{}{}zo\u{eb}:{}",
        line("ann", ANN).replace('\n', "\r\n"),
        line("long", &long),
        line("x", BEN).trim().strip_prefix("x:").unwrap(),
    );
    larder.write("users", &users);
    let said = larder.reload().await;
    assert!(said.contains("was read again"), "{said}");
    assert!(larder.log().contains("a bcrypt cost below 10"), "cheap hashes are warned of");
    for (user, password, want) in [
        ("ann", ANN, 200),
        ("long", &long, 200),
        ("long", &format!("{long}x"), 401),
        ("zo\u{eb}", BEN, 200),
        ("zoe\u{308}", BEN, 401),
        ("zo\u{eb}", &nul, 401),
        ("zo\u{eb}\0", BEN, 401),
        ("ANN", ANN, 401),
    ] {
        assert_eq!(status(address, &blob, user, password).await, want, "{user:?} {password:?}");
    }
    // A million users are more than a file may hold.
    larder.write("users", &"u:x\n".repeat(4 << 20));
    let said = larder.reload().await;
    assert!(
        said.contains("8388608 bytes")
            && !said.contains("nobody has one")
            && said.contains("the old one stays"),
        "{said}"
    );
    assert_eq!(status(address, &blob, "ann", ANN).await, 200);
}

/// The output of `larder check` is pasted into tickets.
#[tokio::test]
async fn a_report_of_the_configuration_has_no_secret_in_it() {
    let (larder, ..) = guarded("", &[]).await;
    let check = || run("check", &larder.path("config.toml"));
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("anonymous        none\nchallenge        basic\nhtpasswd"), "{said}");
    assert!(!said.contains("$2"), "{said}");

    larder.write("users", &format!("{}ann2:{WRONG}\n", line("ann", ANN)));
    let (code, said) = check();
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
