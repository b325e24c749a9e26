//! Azure's registries: each identity of Entra leads to a pull, each fault to a message that names
//! it, and no secret gets anywhere else.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response};
use larder::clock::{SystemClock, WallClock as _, unix_seconds};
use rcgen::{CertificateParams, PublicKeyData as _};

use super::machine::{LATE, Machine, Pulled};
use super::server::{Function, fields, header, reply};
use super::token::{TestKey, issued};
use crate::support::Image;

const HOST: &str = "corp.azurecr.io";

const ENTRA: &str = "login.microsoftonline.com";

const TENANT: &str = "11111111-2222-3333-4444-555555555555";

const CLIENT: &str = "66666666-7777-8888-9999-000000000000";

const RESOURCE: &str = "https://containerregistry.azure.net";

const SECRETS: [&str; 6] = [
    "canary-secret-of-principal",
    "canary-token-of-entra",
    "canary-refresh-token",
    "canary-access-token",
    "canary-federated-token",
    "canary-identity-header",
];

fn entra_token() -> String {
    issued(&format!(r#"{{"tid":"{TENANT}","exp":{LATE}}}"#), SECRETS[1])
}

fn refresh_token() -> String {
    issued(&format!(r#"{{"exp":{LATE}}}"#), SECRETS[2])
}

type Form = Vec<(String, String)>;

/// Whether the form has these fields and no others.
fn is_form(request: &Request<Bytes>, wanted: &[(&str, &str)]) -> bool {
    let mut given: Form = fields(request.body());
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut wanted: Form = wanted.iter().map(own).collect();
    given.sort();
    wanted.sort();
    header(request, "content-type") == "application/x-www-form-urlencoded" && given == wanted
}

/// Entra, which takes a secret, what the key of a certificate signed, and a federated token. Its
/// refusals repeat what it was given.
fn entra(key: TestKey, print: String) -> Function {
    let base = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("scope", "https://containerregistry.azure.net/.default"),
    ];
    Function::new(move |request| {
        let path = format!("/{TENANT}/oauth2/v2.0/token");
        if request.method() != Method::POST || request.uri().path() != path {
            return reply(404, r#"{"error":"invalid_request"}"#);
        }
        let mut with_secret = base.to_vec();
        with_secret.push(("client_secret", SECRETS[0]));
        let form = fields(request.body());
        let assertion = form.iter().find(|(name, _)| name == "client_assertion");
        let assertion = assertion.map_or("", |(_, value)| value);
        let mut with_assertion = base.to_vec();
        with_assertion.extend([
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ]);
        let is_right = is_form(request, &with_secret)
            || (is_form(request, &with_assertion)
                && (assertion == SECRETS[4] || is_signed(&key, &print, assertion)));
        if !is_right {
            let given = String::from_utf8_lossy(request.body()).into_owned();
            return reply(
                401,
                serde_json::json!({ "error": "invalid_client", "error_description": given,
                    "error_codes": [7_000_215] })
                .to_string(),
            );
        }
        let token = entra_token();
        reply(
            200,
            format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#),
        )
    })
}

fn is_signed(key: &TestKey, print: &str, assertion: &str) -> bool {
    let Some((header, claims)) = key.verified(assertion) else { return false };
    let now = unix_seconds(SystemClock.now());
    let time = |name: &str| claims[name].as_u64().unwrap_or_default();
    header["alg"] == "PS256"
        && header["typ"] == "JWT"
        && header["x5t#S256"] == print
        && claims["aud"] == format!("https://{ENTRA}/{TENANT}/oauth2/v2.0/token")
        && claims["iss"] == CLIENT
        && claims["sub"] == CLIENT
        && claims["jti"].as_str().is_some_and(|id| id.len() == 22)
        && time("nbf").abs_diff(now) < 60
        && time("iat").abs_diff(now) < 60
        && (now..=now + 600).contains(&time("exp"))
}

/// A registry with its exchange and its token server.
fn registry(image: &Image) -> Function {
    let manifest = image.manifest.blob.clone();
    let media_type = image.manifest.media_type.clone();
    Function::new(move |request| {
        let errors = r#"{"errors":[{"code":"UNAUTHORIZED","message":"canary"}]}"#;
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/oauth2/exchange") => exchange(request, errors),
            (&Method::POST, "/oauth2/token") => access(request, errors),
            (&Method::GET | &Method::HEAD, path) if path.starts_with("/v2/") => {
                if header(request, "authorization") != format!("Bearer {}", SECRETS[3]) {
                    let realm = format!("https://{HOST}/oauth2/token");
                    let challenge = format!(
                        r#"Bearer realm="{realm}",service="{HOST}",scope="repository:team/app:pull""#
                    );
                    let mut refusal = reply(401, errors);
                    refusal.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
                    return refusal;
                }
                if !path.contains("/manifests/") {
                    return reply(200, "{}");
                }
                Response::builder()
                    .header("content-type", &media_type)
                    .header("docker-content-digest", manifest.digest.to_string())
                    .body(manifest.bytes.clone())
                    .unwrap()
            }
            _ => reply(404, errors),
        }
    })
}

fn exchange(request: &Request<Bytes>, errors: &'static str) -> Response<Bytes> {
    let token = entra_token();
    let wanted = [
        ("grant_type", "access_token"),
        ("service", HOST),
        ("tenant", TENANT),
        ("access_token", token.as_str()),
    ];
    if !is_form(request, &wanted) {
        return reply(401, errors);
    }
    reply(200, format!(r#"{{"refresh_token":"{}"}}"#, refresh_token()))
}

fn access(request: &Request<Bytes>, errors: &'static str) -> Response<Bytes> {
    let form = fields(request.body());
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, it)| it.as_str());
    let is_right = value("grant_type") == Some("refresh_token")
        && value("service") == Some(HOST)
        && value("scope") == Some("repository:team/app:pull")
        && value("refresh_token") == Some(refresh_token().as_str());
    if is_right {
        reply(200, format!(r#"{{"access_token":"{}"}}"#, SECRETS[3]))
    } else {
        reply(400, errors)
    }
}

/// The metadata service of a virtual machine.
fn metadata() -> Function {
    Function::new(|request| {
        let query = fields(request.uri().query().unwrap_or_default().as_bytes());
        let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|it| it.1.as_str());
        let is_right = header(request, "metadata") == "true"
            && request.uri().path() == "/metadata/identity/oauth2/token"
            && value("api-version") == Some("2018-02-01")
            && value("resource") == Some(RESOURCE)
            && value("client_id").is_none_or(|id| id == CLIENT)
            && !request.headers().contains_key("x-forwarded-for");
        if !is_right {
            return reply(400, r#"{"error":"invalid_request","error_description":"canary"}"#);
        }
        reply(200, format!(r#"{{"access_token":"{}","expires_in":"86399"}}"#, entra_token()))
    })
}

/// The identity service of App Service and Container Apps.
fn app_service() -> Function {
    Function::new(|request| {
        let query = fields(request.uri().query().unwrap_or_default().as_bytes());
        let has = |name: &str, value: &str| query.iter().any(|it| it.0 == name && it.1 == value);
        let is_right = header(request, "x-identity-header") == SECRETS[5]
            && request.uri().path() == "/msi/token"
            && has("api-version", "2019-08-01")
            && has("resource", RESOURCE);
        if !is_right {
            // It repeats what it was given.
            return reply(401, header(request, "x-identity-header").to_owned());
        }
        reply(200, format!(r#"{{"access_token":"{}","expires_on":"{LATE}"}}"#, entra_token()))
    })
}

fn certificate(key: &TestKey) -> (String, String) {
    let pair = rcgen::KeyPair::try_from(key.pkcs8.as_slice()).unwrap();
    assert!(!pair.der_bytes().is_empty());
    let certificate =
        CertificateParams::new(["larder".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let print = digest::digest(&digest::SHA256, certificate.der());
    (format!("{}{}", certificate.pem(), key.pem()), URL_SAFE_NO_PAD.encode(print))
}

/// A machine before Entra and a registry, with the PEM of a service principal.
fn machine() -> (Machine, Function, Function) {
    let key = TestKey::new();
    let (pem, print) = certificate(&key);
    let (entra, registry) = (entra(key, print), registry(&Image::random(1, &[100])));
    let machine = Machine::new()
        .file("pem", &pem)
        .file("secret", &format!("{}\n", SECRETS[0]))
        .file("federated", SECRETS[4])
        .serves(ENTRA, &entra)
        .serves(HOST, &registry);
    (machine, entra, registry)
}

type Change<'c> = Box<dyn Fn(Machine) -> Machine + 'c>;

async fn pull(machine: Machine, more: &str) -> Pulled {
    let config = format!("[registry.'{HOST}']\nca = 'ca'\nauth = {{ type = 'acr'{more} }}\n");
    machine.pull(&config, &format!("/v2/{HOST}/team/app/manifests/latest")).await
}

#[tokio::test(start_paused = true)]
async fn each_identity_of_entra_leads_to_a_pull_and_no_secret_is_shown() {
    let ids = format!(", tenant = '{TENANT}', client_id = '{CLIENT}'");
    let of_environment =
        |machine: Machine| machine.with("AZURE_TENANT_ID", TENANT).with("AZURE_CLIENT_ID", CLIENT);
    let metadata = metadata();
    let at_metadata = |machine: Machine| machine.serves_locally("169.254.169.254", 80, &metadata);
    let (endpoint, app) = ("http://127.0.0.1:41056/msi/token", app_service());
    let rows: [(&str, Change<'_>, String); 8] = [
        ("secret", Box::new(|it| it), format!("{ids}, client_secret_file = 'secret'")),
        ("certificate", Box::new(|it| it), format!("{ids}, client_certificate = 'pem'")),
        (
            "secret of the environment",
            Box::new(|it| of_environment(it).with("AZURE_CLIENT_SECRET", SECRETS[0])),
            String::new(),
        ),
        (
            "certificate of the environment",
            Box::new(|it| of_environment(it).with_path("AZURE_CLIENT_CERTIFICATE_PATH", "pem")),
            String::new(),
        ),
        (
            "workload identity",
            Box::new(|it| of_environment(it).with_path("AZURE_FEDERATED_TOKEN_FILE", "federated")),
            String::new(),
        ),
        ("virtual machine", Box::new(at_metadata), String::new()),
        ("identity of a user", Box::new(at_metadata), format!(", client_id = '{CLIENT}'")),
        (
            "app service",
            Box::new(|it| {
                it.serves_locally("127.0.0.1", 41056, &app)
                    .with("IDENTITY_ENDPOINT", endpoint)
                    .with("IDENTITY_HEADER", SECRETS[5])
            }),
            String::new(),
        ),
    ];
    for (name, change, more) in rows {
        let (machine, _, registry) = machine();
        let pulled = pull(change(machine), &more).await;
        assert_eq!(pulled.status, 200, "{name}: {} {:?}", pulled.body, registry.calls());
        pulled.assert_without(name, &SECRETS);
        assert!(pulled.said.contains(&LATE.to_string()), "{name}: the end is in no metric");
    }
}

#[tokio::test(start_paused = true)]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn the_faults_of_each_identity_are_named_and_lead_nowhere() {
    let ids = format!(", tenant = '{TENANT}', client_id = '{CLIENT}'");
    let tripwire = Function::new(|_| reply(200, entra_token()));
    let (machine_of, tripwire) = (|| machine().0, &tripwire);
    for (name, machine, more, want) in [
        (
            "wrong secret",
            machine_of().file("secret", "canary-wrong-secret"),
            format!("{ids}, client_secret_file = 'secret'"),
            "login.microsoftonline.com:443 answered 401 (invalid_client, AADSTS7000215)",
        ),
        (
            "no file",
            machine_of(),
            format!("{ids}, client_secret_file = 'absent'"),
            "absent: No such file",
        ),
        (
            "no key",
            machine_of().file("pem", "canary"),
            format!("{ids}, client_certificate = 'pem'"),
            "pem: there is no private key of RSA in it",
        ),
        (
            "no tenant",
            machine_of(),
            format!(", client_id = '{CLIENT}', client_secret_file = 'secret'"),
            "`tenant` or `AZURE_TENANT_ID` is not set",
        ),
        (
            "another authority",
            machine_of().serves("login.evil.test", tripwire).name("login.evil.test", "10.0.0.1"),
            format!(
                "{ids}, client_secret_file = 'secret', authority = 'https://login.absent.test'"
            ),
            "login.absent.test",
        ),
        (
            "wrong header",
            machine_of()
                .serves_locally("127.0.0.1", 41056, &app_service())
                .with("IDENTITY_ENDPOINT", "http://127.0.0.1:41056/msi/token")
                .with("IDENTITY_HEADER", "canary-wrong-header"),
            String::new(),
            "managed identity: 127.0.0.1:41056 answered 401",
        ),
        (
            "hostile endpoint",
            machine_of()
                .serves_locally("evil.test", 80, tripwire)
                .with("IDENTITY_ENDPOINT", "http://evil.test/msi/token")
                .with("IDENTITY_HEADER", SECRETS[5]),
            String::new(),
            "evil.test:80 may not be called without TLS",
        ),
        (
            "private endpoint",
            machine_of()
                .serves_locally("10.0.0.1", 443, tripwire)
                .with("IDENTITY_ENDPOINT", "https://10.0.0.1/msi/token")
                .with("IDENTITY_HEADER", SECRETS[5]),
            String::new(),
            "managed identity: 10.0.0.1:443",
        ),
        (
            "arc",
            machine_of().with("IDENTITY_ENDPOINT", "http://127.0.0.1:40342/token"),
            String::new(),
            "`IDENTITY_HEADER` is not",
        ),
    ] {
        let pulled = pull(machine, &more).await;
        assert_eq!(pulled.status, 502, "{name}: {}", pulled.body);
        assert!(pulled.body.contains(want), "{name}: {}", pulled.body);
        assert!(pulled.said.contains("credential-refused"), "{name}: {}", pulled.said);
        pulled.assert_without(name, &["canary"]);
    }
    assert_eq!(tripwire.calls(), Vec::<String>::new());
}

/// The exchange of a registry that does not take the identity.
#[tokio::test(start_paused = true)]
async fn a_registry_that_refuses_the_exchange_is_named() {
    let refusing = Function::new(|request| {
        if request.uri().path() == "/oauth2/exchange" {
            return reply(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"canary"}]}"#);
        }
        let mut refusal = reply(401, "");
        let challenge = format!(r#"Bearer realm="https://{HOST}/oauth2/token",service="{HOST}""#);
        refusal.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        refusal
    });
    let (machine, ..) = machine();
    let machine = machine.serves(HOST, &refusing);
    let more =
        format!(", tenant = '{TENANT}', client_id = '{CLIENT}', client_secret_file = 'secret'");
    let pulled = pull(machine, &more).await;
    assert_eq!(pulled.status, 502, "{}", pulled.body);
    let want = format!("{HOST}:443 answered 401 (UNAUTHORIZED)");
    assert!(pulled.body.contains(&want), "{}", pulled.body);
    pulled.assert_without("exchange", &["canary"]);
}
