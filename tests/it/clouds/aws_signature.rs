//! Signature Version 4, computed a second time (AWS, "Create a signed AWS API request").

use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::Request;
use larder::clock::{SystemClock, WallClock as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::server::{fields, header};

/// A key pair, with its session if it is temporary.
#[derive(Clone, Debug)]
pub struct Keys {
    pub id: &'static str,
    pub secret: &'static str,
    pub session: Option<&'static str>,
}

/// The keys that signed `request` for `service` in `region`; else the reason of the refusal.
pub fn signer<'k>(
    request: &Request<Bytes>,
    keys: &'k [Keys],
    service: &str,
    region: &str,
) -> Result<&'k Keys, String> {
    let authorization = header(request, "authorization");
    let parts = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=").ok_or("unsigned")?;
    let (credential, parts) = parts.split_once(", SignedHeaders=").ok_or("no headers")?;
    let (signed, signature) = parts.split_once(", Signature=").ok_or("no signature")?;
    let (id, scope) = credential.split_once('/').ok_or("no scope")?;
    let keys = keys.iter().find(|keys| keys.id == id).ok_or("UnrecognizedClientException")?;
    let date = header(request, "x-amz-date");
    check_date(date)?;
    if scope != format!("{}/{region}/{service}/aws4_request", &date[..8]) {
        return Err(format!("the scope is {scope}"));
    }
    if header(request, "x-amz-security-token") != keys.session.unwrap_or_default() {
        return Err("another session".to_owned());
    }
    let names: Vec<_> = signed.split(';').collect();
    let amazon = request.headers().keys().map(http::HeaderName::as_str);
    for name in amazon.filter(|name| name.starts_with("x-amz-")).chain(["host"]) {
        if !names.contains(&name) {
            return Err(format!("{name} is not signed"));
        }
    }
    let payload = hex(digest::digest(&digest::SHA256, request.body()).as_ref());
    if header(request, "x-amz-content-sha256") != payload {
        return Err("the body is not signed".to_owned());
    }
    let canonical = canonical(request, &names, &payload);
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
    let first = format!("AWS4{}", keys.secret).into_bytes();
    let key = scope.split('/').fold(first, |key, part| mac(&key, part.as_bytes()));
    let expected = hex(&mac(&key, text.as_bytes()));
    if signature == expected { Ok(keys) } else { Err("InvalidSignatureException".to_owned()) }
}

fn canonical(request: &Request<Bytes>, names: &[&str], payload: &str) -> String {
    const UNRESERVED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    let encoded = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let query = fields(request.uri().query().unwrap_or_default().as_bytes());
    let mut query: Vec<_> =
        query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    query.sort();
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method(), request.uri().path(), query.join("&"));
    for name in names {
        writeln!(canonical, "{name}:{}", header(request, name).trim()).unwrap();
    }
    write!(canonical, "\n{}\n{payload}", names.join(";")).unwrap();
    canonical
}

/// AWS takes five minutes on either side.
fn check_date(date: &str) -> Result<(), String> {
    let (day, time) = date.split_once('T').ok_or("no date")?;
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &day[..4],
        &day[4..6],
        &day[6..],
        &time[..2],
        &time[2..4],
        &time[4..6]
    );
    let date = humantime::parse_rfc3339(&text).map_err(|error| error.to_string())?;
    let now = SystemClock.now();
    let off = now.duration_since(date).unwrap_or_else(|error| error.duration());
    if off < Duration::from_secs(300) { Ok(()) } else { Err("RequestExpired".to_owned()) }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
