//! Google's registries: each identity of Google Cloud leads to a pull, each fault to a message that
//! names it, and no secret gets anywhere else.

use bytes::Bytes;
use http::{Method, Request, Response};
use larder::clock::{SystemClock, WallClock as _, unix_seconds};
use serde_json::{Value, json};

use super::machine::{Machine, Pulled};
use super::server::{Function, fields, header, reply};
use super::token::TestKey;
use crate::support::{Auth, Image, ScriptedRegistry};

const HOST: &str = "europe-west1-docker.pkg.dev";

const EMAIL: &str = "larder@corp.iam.gserviceaccount.com";

const AUDIENCE: &str =
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

const SECRETS: [&str; 4] = [
    "canary-access-token",
    "canary-subject-token",
    "canary-federated-token",
    "canary-key-of-a-header",
];

fn token() -> Response<Bytes> {
    let answer = json!({ "access_token": SECRETS[0], "expires_in": 3599, "token_type": "Bearer" });
    reply(200, answer.to_string())
}

fn refused(request: &Request<Bytes>) -> Response<Bytes> {
    // It repeats what it was given.
    let given = String::from_utf8_lossy(request.body()).into_owned();
    reply(400, json!({ "error": "invalid_grant", "error_description": given }).to_string())
}

fn form_of(request: &Request<Bytes>) -> Option<Vec<(String, String)>> {
    let is_form = request.method() == Method::POST
        && header(request, "content-type") == "application/x-www-form-urlencoded";
    let mut form = fields(request.body());
    form.sort();
    is_form.then_some(form)
}

/// The service that gives a token for an assertion of a service account.
fn oauth2(key: TestKey) -> Function {
    Function::new(move |request| {
        let form = form_of(request).unwrap_or_default();
        let [assertion, grant] = &form[..] else { return refused(request) };
        let is_right = request.uri().path() == "/token"
            && assertion.0 == "assertion"
            && is_signed(&key, &assertion.1)
            && grant.0 == "grant_type"
            && grant.1 == "urn:ietf:params:oauth:grant-type:jwt-bearer";
        if is_right { token() } else { refused(request) }
    })
}

fn is_signed(key: &TestKey, assertion: &str) -> bool {
    let Some((header, claims)) = key.verified(assertion) else { return false };
    let now = unix_seconds(SystemClock.now());
    let time = |name: &str| claims[name].as_u64().unwrap_or_default();
    header == json!({ "alg": "RS256", "typ": "JWT", "kid": "key-1" })
        && claims["iss"] == EMAIL
        && claims["scope"] == SCOPE
        && claims["aud"] == "https://oauth2.googleapis.com/token"
        && time("iat").abs_diff(now) < 60
        && time("exp") == time("iat") + 3600
}

/// The metadata server.
fn metadata() -> Function {
    Function::new(|request| {
        let path = "/computeMetadata/v1/instance/service-accounts/default/token";
        let is_right = header(request, "metadata-flavor") == "Google"
            && request.uri().path() == path
            && !request.headers().contains_key("x-forwarded-for");
        let mut answer = if is_right { token() } else { reply(403, "canary") };
        answer.headers_mut().insert("metadata-flavor", "Google".parse().unwrap());
        answer
    })
}

/// The exchange of another issuer's token.
fn sts() -> Function {
    Function::new(|request| {
        let mut wanted = [
            ("audience", AUDIENCE),
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("scope", SCOPE),
            ("subject_token", SECRETS[1]),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        wanted.sort();
        if request.uri().path() != "/v1/token" || form_of(request) != Some(wanted.to_vec()) {
            return refused(request);
        }
        let answer = json!({
            "access_token": SECRETS[2], "expires_in": 3599, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        });
        reply(200, answer.to_string())
    })
}

/// The tokens of service accounts for those who may impersonate them.
fn iam() -> Function {
    Function::new(|request| {
        let path = format!("/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken");
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let is_right = request.uri().path() == path
            && header(request, "authorization") == format!("Bearer {}", SECRETS[2])
            && header(request, "content-type") == "application/json"
            && body == json!({ "scope": [SCOPE], "lifetime": "3600s" });
        if !is_right {
            let error = json!({ "error": { "code": 403, "message": "canary",
                "status": "PERMISSION_DENIED" } });
            return reply(403, error.to_string());
        }
        let answer = json!({ "accessToken": SECRETS[0], "expireTime": "2100-01-01T00:00:00Z" });
        reply(200, answer.to_string())
    })
}

/// Another issuer on this machine, which gives its token in JSON for a header.
fn issuer() -> Function {
    Function::new(|request| match header(request, "x-key") {
        key if key == SECRETS[3] => reply(200, json!({ "id_token": SECRETS[1] }).to_string()),
        key => reply(403, key.to_owned()),
    })
}

fn service_account(key: &TestKey, token_uri: &str) -> String {
    json!({
        "type": "service_account", "project_id": "corp", "private_key_id": "key-1",
        "private_key": key.pem(), "client_email": EMAIL, "client_id": "1",
        "token_uri": token_uri,
    })
    .to_string()
}

fn external_account(source: &Value, more: &[(&str, &str)]) -> String {
    let mut account = json!({
        "type": "external_account", "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token", "credential_source": source,
    });
    for (name, value) in more {
        account[name] = json!(value);
    }
    account.to_string()
}

fn impersonation() -> String {
    format!(
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
    )
}

/// A machine before Google, whose registry takes the access token or, if there is no
/// impersonation, the federated one.
fn machine(key: TestKey, password: &str) -> Machine {
    let hub = ScriptedRegistry::new();
    hub.put_image("corp/team/app", "latest", &Image::random(1, &[100]));
    hub.requires(Auth::basic("oauth2accesstoken", password));
    Machine::new()
        .serves("oauth2.googleapis.com", &oauth2(key))
        .serves("sts.googleapis.com", &sts())
        .serves("iamcredentials.googleapis.com", &iam())
        .serves_locally("127.0.0.1", 9000, &issuer())
        .registry(HOST, &hub)
}

async fn pull(machine: Machine, more: &str) -> Pulled {
    let config = format!("[registry.'{HOST}']\nca = 'ca'\nauth = {{ type = 'google'{more} }}\n");
    machine.pull(&config, &format!("/v2/{HOST}/corp/team/app/manifests/latest")).await
}

#[tokio::test(start_paused = true)]
async fn each_identity_of_google_leads_to_a_pull_and_no_secret_is_shown() {
    let file = ", file = 'google.json'";
    let key = TestKey::new();
    let private = key.pem().lines().nth(3).unwrap().to_owned();
    let account = service_account(&key, "https://oauth2.googleapis.com/token");
    let url = json!({
        "url": "http://127.0.0.1:9000/token", "headers": { "X-Key": SECRETS[3] },
        "format": { "type": "json", "subject_token_field_name": "id_token" },
    });
    let impersonation = impersonation();
    let impersonated = [("service_account_impersonation_url", impersonation.as_str())];
    let of_a_file = |machine: Machine, more: &[(&str, &str)]| {
        let source = json!({ "file": format!("{}/subject", machine.dir()) });
        let account = external_account(&source, more);
        machine.file("subject", &format!("{}\n", SECRETS[1])).file("google.json", &account)
    };
    for (name, machine, more) in [
        ("key file", machine(key, SECRETS[0]).file("google.json", &account), file),
        (
            "key file of the environment",
            {
                let key = TestKey::new();
                let account = service_account(&key, "https://oauth2.googleapis.com/token");
                machine(key, SECRETS[0])
                    .file("google.json", &account)
                    .with_path("GOOGLE_APPLICATION_CREDENTIALS", "google.json")
            },
            "",
        ),
        (
            "metadata server",
            machine(TestKey::new(), SECRETS[0])
                .serves_locally("169.254.169.254", 80, &metadata())
                .name("metadata.google.internal", "169.254.169.254"),
            "",
        ),
        (
            "metadata server elsewhere",
            machine(TestKey::new(), SECRETS[0])
                .serves_locally("127.0.0.1", 8080, &metadata())
                .with("GCE_METADATA_HOST", "127.0.0.1:8080"),
            "",
        ),
        ("federation by file", of_a_file(machine(TestKey::new(), SECRETS[2]), &[]), file),
        (
            "impersonation by file",
            of_a_file(machine(TestKey::new(), SECRETS[0]), &impersonated),
            file,
        ),
        (
            "impersonation by URL",
            machine(TestKey::new(), SECRETS[0])
                .file("google.json", &external_account(&url, &impersonated)),
            file,
        ),
    ] {
        let pulled = pull(machine, more).await;
        assert_eq!(pulled.status, 200, "{name}: {}", pulled.body);
        pulled.assert_without(name, &SECRETS);
        pulled.assert_without(name, &[&private]);
        let end = "larder_upstream_credential_end_seconds";
        assert!(pulled.said.contains(end), "{name}: {}", pulled.said);
    }
}

#[tokio::test(start_paused = true)]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn the_faults_of_each_identity_are_named_and_lead_nowhere() {
    let tripwire = Function::new(|_| token());
    let at = |url: &str| json!({ "url": url });
    let (google, evil) = ("https://oauth2.googleapis.com/token", "https://evil.test/token");
    let other_key = service_account(&TestKey::new(), google);
    let elsewhere = service_account(&TestKey::new(), evil);
    let odd_key = json!({ "type": "service_account", "private_key_id": "k", "private_key": "canary",
        "client_email": EMAIL, "token_uri": google });
    let not_google = "is no `https://` URL of Google's";
    for (name, file, want) in [
        ("another key", other_key, "oauth2.googleapis.com:443 answered 400 (invalid_grant)"),
        ("another token_uri", elsewhere, not_google),
        ("no key", odd_key.to_string(), "`private_key`: there is no private key of RSA in it"),
        ("rubbish", "canary".to_owned(), "it is no credentials file of Google"),
        ("other type", json!({ "type": "authorized_user" }).to_string(), "its `type` is neither"),
        (
            "another token_url",
            external_account(&json!({ "file": "/x" }), &[("token_url", evil)]),
            not_google,
        ),
        (
            "another impersonation",
            external_account(
                &json!({ "file": "/x" }),
                &[("service_account_impersonation_url", evil)],
            ),
            not_google,
        ),
        (
            "plain source",
            external_account(&at("http://evil.test/token"), &[]),
            "`credential_source`: evil.test:80 may not be called without TLS",
        ),
        (
            "private source",
            external_account(&at("https://10.0.0.1/token"), &[]),
            "`credential_source`: 10.0.0.1:443",
        ),
        (
            "name of a private source",
            external_account(&at("https://inner.test/token"), &[]),
            "`credential_source`: inner.test:443",
        ),
        (
            "file as a URL",
            external_account(&at("file:///etc/passwd"), &[]),
            "`credential_source`: ",
        ),
        (
            "refusing source",
            external_account(&at("http://127.0.0.1:9000/token"), &[]),
            "`credential_source`: 127.0.0.1:9000 answered 403",
        ),
        (
            "program",
            external_account(&json!({ "executable": { "command": "canary" } }), &[]),
            "only a `file` and a `url` are supported",
        ),
        (
            "another token",
            external_account(&json!({ "file": "SUBJECT" }), &[]),
            "sts.googleapis.com:443 answered 400 (invalid_grant)",
        ),
        (
            "a file that is no file",
            external_account(&json!({ "file": "/proc/self" }), &[]),
            "`credential_source`: /proc/self: it is not a file",
        ),
    ] {
        let machine = machine(TestKey::new(), SECRETS[0]).file("subject", "canary-of-another");
        let file = file.replace("SUBJECT", &format!("{}/subject", machine.dir()));
        let machine = machine
            .file("google.json", &file)
            .serves_locally("evil.test", 80, &tripwire)
            .serves_locally("10.0.0.1", 443, &tripwire)
            .name("inner.test", "10.0.0.1");
        let pulled = pull(machine, ", file = 'google.json'").await;
        assert_eq!(pulled.status, 502, "{name}: {}", pulled.body);
        assert!(pulled.body.contains(want), "{name}: {}", pulled.body);
        assert!(pulled.said.contains("credential-refused"), "{name}: {}", pulled.said);
        pulled.assert_without(name, &["canary"]);
    }
    assert_eq!(tripwire.calls(), Vec::<String>::new());
}

/// A captive portal answers at any name; no token is taken from it.
#[tokio::test(start_paused = true)]
async fn a_metadata_server_that_is_none_of_googles_is_not_believed() {
    let machine = machine(TestKey::new(), SECRETS[0])
        .serves_locally("169.254.169.254", 80, &Function::new(|_| token()))
        .name("metadata.google.internal", "169.254.169.254");
    let pulled = pull(machine, "").await;
    assert_eq!(pulled.status, 502, "{}", pulled.body);
    assert!(
        pulled.body.contains("metadata server: metadata.google.internal:80 is none of Google's")
    );
    pulled.assert_without("portal", &["canary"]);
}
