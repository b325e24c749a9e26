//! AWS: the services that give a credential to a machine, a container or a role, and the one that
//! gives passwords of registries for it. Everything is at one address.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response};
use larder::clock::{SystemClock, WallClock as _};

use super::aws_signature::{Keys, signer};
use super::server::{Calls, fields, header, reply, serve};

/// The region of everything.
pub const REGION: &str = "eu-west-1";

/// The role of web identities, and the one that is assumed.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/larder";

/// Every secret of the stand-in.
pub const SECRETS: [&str; 8] = [
    "canary-password-of-ecr",
    "canary-secret-of-static-keys",
    "canary-secret-of-temporary-keys",
    "canary-session-of-temporary-keys",
    "canary-token-of-metadata",
    "canary-token-of-containers",
    "canary-token-of-web-identity",
    "canary-token-of-sso",
];

/// Keys without an end.
pub const STATIC: Keys = Keys { id: "AKIAIOSFODNN7EXAMPLE", secret: SECRETS[1], session: None };

/// Keys of a session.
pub const TEMPORARY: Keys =
    Keys { id: "ASIAIOSFODNN7EXAMPLE", secret: SECRETS[2], session: Some(SECRETS[3]) };

/// Starts the services. Their passwords end at `end`, in seconds since 1970.
pub async fn start(end: f64) -> (SocketAddr, Calls) {
    serve(move |request| answer(request, end)).await
}

fn answer(request: &Request<Bytes>, end: f64) -> Response<Bytes> {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::PUT, "/latest/api/token") => metadata_token(request),
        (&Method::GET, _) if path.starts_with("/latest/meta-data/") => metadata(request),
        (&Method::GET, "/v1/credentials") => container(request),
        (&Method::GET, "/federation/credentials") => sso(request),
        (&Method::GET, "/") => assume_role(request),
        (&Method::POST, "/") if request.headers().contains_key("x-amz-target") => {
            registry_password(request, REGION, SECRETS[0], end)
        }
        (&Method::POST, "/") => web_identity(request),
        _ => reply(404, "no such service"),
    }
}

fn metadata_token(request: &Request<Bytes>) -> Response<Bytes> {
    let ttl = header(request, "x-aws-ec2-metadata-token-ttl-seconds").parse::<u32>();
    // It answers none that came through a proxy.
    let is_direct = !request.headers().contains_key("x-forwarded-for");
    match ttl {
        Ok(1..=21_600) if is_direct => reply(200, SECRETS[4]),
        _ => reply(400, ""),
    }
}

fn metadata(request: &Request<Bytes>) -> Response<Bytes> {
    if header(request, "x-aws-ec2-metadata-token") != SECRETS[4] {
        return reply(401, "");
    }
    match request.uri().path() {
        "/latest/meta-data/iam/security-credentials/" => reply(200, "node"),
        "/latest/meta-data/iam/security-credentials/node" => {
            let (end, kind) = (in_an_hour(), "AWS-HMAC");
            reply(
                200,
                format!(
                    r#"{{"Code":"Success","LastUpdated":"{end}","Type":"{kind}","AccessKeyId":"{}",
                    "SecretAccessKey":"{}","Token":"{}","Expiration":"{end}"}}"#,
                    TEMPORARY.id, SECRETS[2], SECRETS[3]
                ),
            )
        }
        _ => reply(404, ""),
    }
}

fn container(request: &Request<Bytes>) -> Response<Bytes> {
    if header(request, "authorization") != SECRETS[5] {
        // It repeats what it was given, which is not to be shown.
        return reply(403, format!("no such token: {}", header(request, "authorization")));
    }
    reply(
        200,
        format!(
            r#"{{"AccessKeyId":"{}","SecretAccessKey":"{}","Token":"{}","Expiration":"{}","AccountId":"123456789012"}}"#,
            TEMPORARY.id,
            SECRETS[2],
            SECRETS[3],
            in_an_hour()
        ),
    )
}

fn sso(request: &Request<Bytes>) -> Response<Bytes> {
    let asked = fields(request.uri().query().unwrap_or_default().as_bytes());
    let wanted = [("role_name", "Puller"), ("account_id", "123456789012")];
    let is_asked = wanted
        .iter()
        .all(|(name, value)| asked.contains(&((*name).to_owned(), (*value).to_owned())));
    if !is_asked || header(request, "x-amz-sso_bearer_token") != SECRETS[7] {
        return reply(401, r#"{"__type":"UnauthorizedException"}"#);
    }
    let end = SystemClock.now() + Duration::from_secs(3600);
    let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    reply(
        200,
        format!(
            r#"{{"roleCredentials":{{"accessKeyId":"{}","secretAccessKey":"{}","sessionToken":"{}","expiration":{end}}}}}"#,
            TEMPORARY.id, SECRETS[2], SECRETS[3]
        ),
    )
}

fn web_identity(request: &Request<Bytes>) -> Response<Bytes> {
    let form = fields(request.body());
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, it)| it.as_str());
    let is_right = header(request, "content-type") == "application/x-www-form-urlencoded"
        && value("Action") == Some("AssumeRoleWithWebIdentity")
        && value("Version") == Some("2011-06-15")
        && value("RoleArn") == Some(ROLE)
        && value("RoleSessionName") == Some("larder")
        && value("WebIdentityToken") == Some(SECRETS[6]);
    if is_right {
        reply(200, sts_answer("AssumeRoleWithWebIdentity"))
    } else {
        reply(400, sts_refusal("InvalidIdentityToken"))
    }
}

fn assume_role(request: &Request<Bytes>) -> Response<Bytes> {
    let form = fields(request.uri().query().unwrap_or_default().as_bytes());
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, it)| it.as_str());
    if signer(request, &[STATIC], "sts", REGION).is_err() {
        return reply(403, sts_refusal("SignatureDoesNotMatch"));
    }
    let is_right = value("Action") == Some("AssumeRole")
        && value("Version") == Some("2011-06-15")
        && value("RoleSessionName") == Some("larder");
    match value("RoleArn") {
        Some(ROLE) if is_right => reply(200, sts_answer("AssumeRole")),
        _ => reply(403, sts_refusal("AccessDenied")),
    }
}

fn sts_answer(action: &str) -> String {
    format!(
        r#"<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
        <AssumedRoleUser><Arn>{ROLE}</Arn><AssumedRoleId>A:larder</AssumedRoleId></AssumedRoleUser>
        <Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>
        <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials>
        </{action}Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>
        </{action}Response>"#,
        TEMPORARY.id,
        SECRETS[2],
        SECRETS[3],
        in_an_hour()
    )
}

fn sts_refusal(code: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{} is not welcome\
         </Message></Error></ErrorResponse>",
        SECRETS[6]
    )
}

/// The password of the registries of a region, for a call that is signed for it.
pub fn registry_password(
    request: &Request<Bytes>,
    region: &str,
    password: &str,
    end: f64,
) -> Response<Bytes> {
    let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
    if header(request, "content-type") != "application/x-amz-json-1.1"
        || header(request, "x-amz-target") != target
        || serde_json::from_slice::<serde_json::Value>(request.body()).is_err()
    {
        return reply(400, r#"{"__type":"SerializationException"}"#);
    }
    if let Err(reason) = signer(request, &[STATIC, TEMPORARY], "ecr", region) {
        let reason = if reason.ends_with("Exception") { reason } else { "Other".to_owned() };
        let kind = format!("com.amazon.coral.service#{reason}");
        return reply(400, format!(r#"{{"__type":"{kind}","message":"{}"}}"#, SECRETS[1]));
    }
    let token = STANDARD.encode(format!("AWS:{password}"));
    let proxy = format!("https://123456789012.dkr.ecr.{region}.amazonaws.com");
    let answer = format!(
        r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":{end},
        "proxyEndpoint":"{proxy}"}}]}}"#
    );
    reply(200, answer)
}

fn in_an_hour() -> String {
    let end = SystemClock.now() + Duration::from_secs(3600);
    humantime::format_rfc3339_seconds(end).to_string()
}
