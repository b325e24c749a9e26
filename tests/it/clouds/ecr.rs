//! Amazon ECR: each way in which a machine has a credential of AWS leads to a pull, each fault to a
//! message that names it, and no secret gets anywhere else.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::aws::{self, REGION, ROLE, SECRETS, STATIC, TEMPORARY};
use crate::support::instance::{client_of, free_address};
use crate::support::{Auth, Image, Instance, ScriptedRegistry};

/// A program's home, and what it finds there and in its environment.
struct Home {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".aws/sso/cache")).unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let variables =
            vec![("HOME".to_owned(), home), ("LARDER_LOG".to_owned(), "trace".to_owned())];
        // Nothing is asked at the address of instances, which may be there.
        Self { dir, variables }.with("AWS_EC2_METADATA_DISABLED", "true")
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path().join(name), text).unwrap();
        self
    }

    fn keys(self) -> Self {
        self.with("AWS_ACCESS_KEY_ID", STATIC.id).with("AWS_SECRET_ACCESS_KEY", STATIC.secret)
    }

    fn script(self, name: &str, text: &str) -> Self {
        let this = self.file(name, &format!("#!/bin/sh\n{text}\n"));
        let path = this.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        this
    }
}

/// The outcome of a pull: its status, the answer, and all that Larder says of it.
struct Pulled {
    status: u16,
    body: String,
    said: String,
}

impl Pulled {
    fn assert_secretive(&self, name: &str) {
        for secret in SECRETS {
            assert!(!self.body.contains(secret), "{name}: {secret}: {}", self.body);
            assert!(!self.said.contains(secret), "{name}: {secret}: {}", self.said);
        }
    }
}

/// A registry that wants the password of ECR.
async fn registry() -> (ScriptedRegistry, SocketAddr) {
    let hub = ScriptedRegistry::new();
    hub.put_image("team/app", "latest", &Image::random(1, &[1000]));
    hub.requires(Auth::basic("AWS", SECRETS[0]));
    let address = hub.listen().await;
    (hub, address)
}

async fn pull(home: &Home, aws: SocketAddr, keys: &str) -> Pulled {
    let (_hub, upstream) = registry().await;
    let (address, admin) = (free_address(), free_address());
    let config = format!(
        "listen = ['{address}']\nadmin_listen = '{admin}'\ndashboard.listen = ''\n[registry.'up.test']\n\
         upstream = 'http://{upstream}'\nauth = {{ type = 'ecr', region = '{REGION}', \
         endpoint = 'http://{aws}', sts_endpoint = 'http://{aws}'{keys} }}\n"
    );
    let variables: Vec<_> =
        home.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let larder = Instance::start_with(&[], &config, &variables).await;
    let reply = client_of(address).get("/v2/up.test/team/app/manifests/latest").await;
    let ready = client_of(admin).get("/readyz").await.text();
    let metrics = client_of(admin).get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body);
    let said = format!("{}\n{ready}\n{metrics}", larder.log());
    Pulled { status: reply.status.as_u16(), body: reply.text(), said }
}

/// A day in 2100.
const LATE: f64 = 4_102_444_800.0;

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn each_source_of_an_aws_credential_leads_to_a_password_of_ecr() {
    let (aws, _) = aws::start(LATE).await;
    let url = format!("http://{aws}");
    let start_url = "https://corp.awsapps.com/start";
    // The SHA-1 of the URL, as the command line of AWS names the file.
    let cache = ".aws/sso/cache/a51746d4aa793ae07b25e90c3a5db96fc7832bd7.json";
    let sso = format!(
        "[profile corp]\nsso_start_url = {start_url}\nsso_region = {REGION}\n\
         sso_account_id = 123456789012\nsso_role_name = Puller\n"
    );
    let token = format!(r#"{{"accessToken":"{}","expiresAt":"2099-01-01T00:00:00Z"}}"#, SECRETS[7]);
    let keys = format!(
        "[corp]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        STATIC.id, STATIC.secret
    );
    let printed = format!(
        r#"echo '{{"Version":1,"AccessKeyId":"{}","SecretAccessKey":"{}","SessionToken":"{}"}}'"#,
        TEMPORARY.id, TEMPORARY.secret, SECRETS[3]
    );
    let process = Home::new().script("give", &printed);
    let process_config =
        format!("[default]\ncredential_process = {}/give --x\n", process.path().display());
    let identity = Home::new().file("token", SECRETS[6]);
    let identity_token = identity.path().join("token").display().to_string();
    let container = Home::new().file("token", &format!("{}\n", SECRETS[5]));
    let container_token = container.path().join("token").display().to_string();
    let session = Home::new()
        .with("AWS_ACCESS_KEY_ID", TEMPORARY.id)
        .with("AWS_SECRET_ACCESS_KEY", TEMPORARY.secret)
        .with("AWS_SESSION_TOKEN", SECRETS[3]);
    for (name, home, more) in [
        ("environment", Home::new().keys(), String::new()),
        ("session in the environment", session, String::new()),
        ("profile", Home::new().file(".aws/credentials", &keys), ", profile = 'corp'".to_owned()),
        ("process", process.file(".aws/config", &process_config), String::new()),
        (
            "sso",
            Home::new()
                .file(".aws/config", &sso)
                .file(cache, &token)
                .with("AWS_PROFILE", "corp")
                .with("AWS_SSO_ENDPOINT", &format!("{url}/federation/credentials")),
            String::new(),
        ),
        (
            "web identity",
            identity
                .with("AWS_ROLE_ARN", ROLE)
                .with("AWS_WEB_IDENTITY_TOKEN_FILE", &identity_token),
            String::new(),
        ),
        (
            "container",
            container
                .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{url}/v1/credentials"))
                .with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &container_token),
            String::new(),
        ),
        (
            "instance",
            Home::new()
                .with("AWS_EC2_METADATA_DISABLED", "false")
                .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url),
            String::new(),
        ),
        ("assumed role", Home::new().keys(), format!(", role_arn = '{ROLE}'")),
    ] {
        let pulled = pull(&home, aws, &more).await;
        assert_eq!(pulled.status, 200, "{name}: {} {}", pulled.body, pulled.said);
        pulled.assert_secretive(name);
        let end = "larder_upstream_credential_end_seconds{registry=\"up.test\"} 4102444800";
        assert!(pulled.said.contains(end), "{name}: {}", pulled.said);
    }
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn the_faults_of_each_source_are_named_and_lead_nowhere() {
    let (aws, calls) = aws::start(LATE).await;
    let (tripwire, tripped) = aws::start(LATE).await;
    let url = format!("http://{aws}");
    let wrong = Home::new().with("AWS_ACCESS_KEY_ID", STATIC.id);
    let container = |uri: &str| {
        Home::new()
            .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)
            .with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another")
    };
    let identity = Home::new().file("token", "of-another");
    let token = identity.path().join("token").display().to_string();
    let process = Home::new().script("fail", &format!("echo {} >&2; exit 1", SECRETS[2]));
    let process_config =
        format!("[default]\ncredential_process = {}/fail\n", process.path().display());
    let odd = Home::new().script("odd", &format!("echo '\"{}\"'", SECRETS[2]));
    let odd_config = format!("[default]\ncredential_process = {}/odd\n", odd.path().display());
    let plain = format!("http://localtest.me:{}/v1/credentials", tripwire.port());
    for (name, home, more, want) in [
        ("none", Home::new(), "", "no source has a credential of AWS"),
        ("no such profile", Home::new(), ", profile = 'corp'", "profile `corp` of AWS has no"),
        (
            "wrong key",
            wrong.with("AWS_SECRET_ACCESS_KEY", "wrong"),
            "",
            "answered 400 (InvalidSignatureException)",
        ),
        (
            "unknown key",
            Home::new().with("AWS_ACCESS_KEY_ID", "AKIA").with("AWS_SECRET_ACCESS_KEY", "wrong"),
            "",
            "answered 400 (UnrecognizedClientException)",
        ),
        (
            "other role",
            Home::new().keys(),
            ", role_arn = 'arn:aws:iam::123456789012:role/other'",
            "assuming `role_arn`: 127.0.0.1 answered 403 (AccessDenied)",
        ),
        (
            "identity",
            identity.with("AWS_ROLE_ARN", ROLE).with("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
            "",
            "web identity: 127.0.0.1 answered 400 (InvalidIdentityToken)",
        ),
        (
            "no identity",
            Home::new()
                .with("AWS_ROLE_ARN", ROLE)
                .with("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent"),
            "",
            "web identity: reading /nonexistent: No such file",
        ),
        (
            "container",
            container(&format!("{url}/v1/credentials")),
            "",
            "container credentials: 127.0.0.1 answered 403",
        ),
        ("plain container", container(&plain), "", "may not be called without TLS"),
        (
            "private container",
            container("http://10.0.0.1/v1/credentials"),
            "",
            "10.0.0.1:80 may not be called without TLS",
        ),
        (
            "user in a container's URL",
            container(&format!("http://169.254.170.2@10.0.0.1:{}/", tripwire.port())),
            "",
            "may not be called without TLS",
        ),
        ("process", process.file(".aws/config", &process_config), "", "`credential_process`: `/"),
        (
            "rubbish of a process",
            odd.file(".aws/config", &odd_config),
            "",
            "`credential_process`: what it gives is unusable",
        ),
    ] {
        let pulled = pull(&home, aws, more).await;
        assert_eq!(pulled.status, 502, "{name}: {} {}", pulled.body, pulled.said);
        assert!(pulled.body.contains(want), "{name}: {}", pulled.body);
        assert!(pulled.said.contains("credential-refused"), "{name}: {}", pulled.said);
        pulled.assert_secretive(name);
    }
    assert!(!calls.lock().unwrap().is_empty());
    assert_eq!(*tripped.lock().unwrap(), Vec::<String>::new());
}

/// Clocks differ, and test servers give any date.
#[tokio::test]
async fn a_password_that_has_ended_when_it_comes_is_used_and_not_asked_for_with_each_pull() {
    let (aws, calls) = aws::start(1_420_070_400.0).await;
    let (_hub, upstream) = registry().await;
    let address = free_address();
    let config = format!(
        "listen = ['{address}']\n[registry.'up.test']\nupstream = 'http://{upstream}'\ntag_ttl = '0s'\n\
         auth = {{ type = 'ecr', region = '{REGION}', endpoint = 'http://{aws}' }}\n"
    );
    let keys = [("AWS_ACCESS_KEY_ID", STATIC.id), ("AWS_SECRET_ACCESS_KEY", STATIC.secret)];
    let _larder = Instance::start_with(&[], &config, &keys).await;
    for _ in 0..5 {
        let reply = client_of(address).get("/v2/up.test/team/app/manifests/latest").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(*calls.lock().unwrap(), ["POST /"]);
}
