//! The types of single values: how each is written, and what is refused.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use toml::de::{DeInteger, DeValue};
use url::Url;

use super::diagnostics::{ValueFault, nearest, quoted};
use super::log_settings::{LogFilter, LogFormat};
use super::quantity::{ZeroRule, duration, size, space};
use super::reader::{FromText, FromToml, Located, TomlValue};
use super::upstream_url;
use crate::access::{Action, AnonymousAccess, ChallengePolicy};
use crate::http::HostPort;
use crate::oci::{RegistryName, RepositoryName};
use crate::registry::{Door, RegistryNamePattern, RepositoryPattern};
use crate::store::SpaceAmount;

/// A duration that is longer than nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct PositiveDuration(pub Duration);

/// Space that is left free or protected.
#[derive(Clone, Copy, Debug)]
pub(super) struct FreeAmount(pub SpaceAmount);

/// Space that may be taken, or any.
#[derive(Clone, Copy, Debug)]
pub(super) struct SizeLimit(pub Option<SpaceAmount>);

/// Bytes, at least one.
#[derive(Clone, Copy, Debug)]
pub(super) struct PositiveSize(pub u64);

/// An address, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdminAddress(pub Option<SocketAddr>);

/// The first component of a path that names a registry, or none.
#[derive(Clone, Debug)]
pub(super) struct PathPrefix(pub Option<String>);

/// The user that a client certificate stands for.
#[derive(Clone, Debug)]
pub(super) struct CertificateUserName(pub String);

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    Optional,
    Required,
}

/// A platform of an index, or `all`.
#[derive(Clone, Debug)]
pub(super) struct PlatformName(pub String);

/// The identity with which an upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdentityKind {
    Client,
    Proxy,
}

/// A kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthKind {
    Acr,
    Anonymous,
    Basic,
    DockerConfig,
    Ecr,
    Google,
    Helper,
    Kubelet,
}

/// Texts that are values of a type: what the documentation calls them, and how they are read.
macro_rules! texts {
    ($($type:ty, $title:literal: $read:expr;)*) => {$(
        impl FromText for $type {
            const TITLE: &'static str = $title;

            fn from_text(text: &str) -> Result<Self, ValueFault> {
                $read(text)
            }
        }
    )*};
}

texts! {
    String, "string": |text: &str| Ok(text.to_owned());
    SecretString, "secret": |text: &str| Ok(SecretString::from(text));
    RegistryNamePattern, "pattern": |text: &str| text.parse::<RegistryNamePattern>().map_err(|fault| {
        ValueFault::new(fault.to_string()).hint("write it as `*.dkr.ecr.*.amazonaws.com`")
    });
    Duration, "duration": |text| duration(text, ZeroRule::Meaningful);
    PositiveDuration, "duration": |text| duration(text, ZeroRule::Rejected).map(PositiveDuration);
    FreeAmount, "size": |text| space(text).map(FreeAmount);
    SizeLimit, "size": |text| space(text).map(|it| SizeLimit(Some(it).filter(|it| it.of(100) > 0)));
    PositiveSize, "size": |text| size(text, ZeroRule::Rejected).map(PositiveSize);
    SocketAddr, "address": address;
    AdminAddress, "address": admin_address;
    HostPort, "host": host;
    Url, "URL": upstream_url::parse;
    RegistryName, "registry": registry_name;
    RepositoryPattern, "pattern": pattern;
    PathPrefix, "prefix": prefix;
    LogFilter, "filter": LogFilter::from_text;
    CertificateUserName, "user": certificate_user;
    PlatformName, "platform": platform;
}

/// Enumerations, with the words for their values.
macro_rules! words {
    ($($type:ident { $($variant:ident = $word:literal),* })*) => {$(
        impl FromText for $type {
            const TITLE: &'static str = "word";
            const WORDS: &'static [&'static str] = &[$($word),*];

            fn from_text(text: &str) -> Result<Self, ValueFault> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(no_word(text, Self::WORDS)),
                }
            }
        }
    )*};
}

words! {
    Action { Pull = "pull", Push = "push", Delete = "delete" }
    AnonymousAccess { None = "none", Pull = "pull", Push = "push" }
    AuthKind {
        Anonymous = "anonymous", Basic = "basic", DockerConfig = "docker-config",
        Helper = "helper", Kubelet = "kubelet", Ecr = "ecr", Acr = "acr", Google = "google"
    }
    ChallengePolicy { Never = "never", Basic = "basic" }
    ClientAuth { Optional = "optional", Required = "required" }
    Door { Registry = "registry", Namespace = "ns", Host = "host", Prefix = "prefix", Mirror = "mirror" }
    IdentityKind { Proxy = "proxy", Client = "client" }
    LogFormat { Text = "text", Json = "json" }
}

/// A value, or a list of such.
#[derive(Clone, Debug)]
pub(super) struct OneOrMany<T>(pub Vec<Located<T>>);

impl<T: FromToml> FromToml for OneOrMany<T> {
    const EXPECTED: &'static str = "a string or a list";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        if value.get().is_array() {
            return Vec::read(value).map(Self);
        }
        value.expect::<Self, _>(|it| (it.is_str() || it.is_table()).then_some(()))?;
        Located::read(value).map(|item| Self(vec![item]))
    }

    fn schema() -> Value {
        json!({ "anyOf": [T::schema(), Vec::<T>::schema()] })
    }
}

/// A list that is not to be empty: that could mean all or none.
#[derive(Clone, Debug)]
pub(super) struct FilledList<T>(pub Vec<T>);

impl<T: FromToml> FromToml for FilledList<T> {
    const EXPECTED: &'static str = Vec::<T>::EXPECTED;

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        if value.get().as_array().is_some_and(|items| items.is_empty()) {
            value.report(ValueFault::new("the list is empty"));
        }
        Vec::read(value).map(Self)
    }

    fn schema() -> Value {
        Vec::<T>::schema()
    }
}

/// A number of connections, or any; a text in a variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountValue(pub Option<NonZeroUsize>);

impl FromToml for CountValue {
    const EXPECTED: &'static str = "an integer";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let number = match value.get() {
            DeValue::String(text) => text.trim().parse().ok(),
            _ => integer(value.expect::<Self, _>(DeValue::as_integer)?),
        };
        let fault = || ValueFault::new("it must be a number, from 1 on, or 0 for any number");
        value.accept(number.ok_or_else(fault)).map(|number| Self(NonZeroUsize::new(number)))
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0 })
    }
}

/// A number of connections to an upstream.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpstreamConnections(pub usize);

impl FromToml for UpstreamConnections {
    const EXPECTED: &'static str = "an integer";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let number = integer(value.expect::<Self, _>(DeValue::as_integer)?);
        let number = number.filter(|number| (1..=MAX_CONNECTIONS_MAX).contains(number));
        let fault = || ValueFault::new(format!("it must be from 1 to {MAX_CONNECTIONS_MAX}"));
        value.accept(number.ok_or_else(fault)).map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 1, "maximum": MAX_CONNECTIONS_MAX })
    }
}

/// A number of pulls.
#[derive(Clone, Copy, Debug)]
pub(super) struct PullCount(pub u64);

impl FromToml for PullCount {
    const EXPECTED: &'static str = "an integer";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let number = integer(value.expect::<Self, _>(DeValue::as_integer)?);
        let number = number.filter(|number| *number > 0);
        let fault = || ValueFault::new("it must be a number, from 1 on");
        value.accept(number.ok_or_else(fault)).map(|number| Self(number as u64))
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 1 })
    }
}

/// Yes or no; a text in a variable.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlagValue(pub bool);

impl FromToml for FlagValue {
    const EXPECTED: &'static str = bool::EXPECTED;

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let Some(text) = value.get().as_str() else { return bool::read(value).map(Self) };
        let flag = text.trim().parse();
        value.accept(flag.map_err(|_| ValueFault::new("it must be `true` or `false`"))).map(Self)
    }

    fn schema() -> Value {
        bool::schema()
    }
}

/// The fault of a text that is none of `words`.
fn no_word(text: &str, words: &[&'static str]) -> ValueFault {
    let fault = ValueFault::new(format!("{} is none of `{}`", quoted(text), words.join("`, `")));
    match nearest(text, words) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault,
    }
}

pub(super) fn integer(number: &DeInteger<'_>) -> Option<usize> {
    usize::from_str_radix(number.as_str(), number.radix()).ok()
}

/// An IP address with a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, ValueFault> {
    text.parse().map_err(|_| {
        ValueFault::new(format!("{} is not an IP address with a port", quoted(text)))
            .hint("write `127.0.0.1:5000` for this machine, `0.0.0.0:5000` or `[::]:5000` for all")
    })
}

fn admin_address(text: &str) -> Result<AdminAddress, ValueFault> {
    if text.is_empty() {
        return Ok(AdminAddress(None));
    }
    address(text).map(|address| AdminAddress(Some(address)))
}

/// `host` or `host:port`.
fn host(text: &str) -> Result<HostPort, ValueFault> {
    // A URL parser lets these through, or drops them.
    let is_odd = text.contains(|c: char| c == '*' || c.is_whitespace() || c.is_control());
    text.parse().ok().filter(|_| !is_odd).ok_or_else(|| {
        ValueFault::new(format!("{} is not a host", quoted(text)))
            .hint("write `host` or `host:port`, without a scheme and without patterns")
    })
}

fn registry_name(text: &str) -> Result<RegistryName, ValueFault> {
    text.parse().map_err(|_| {
        ValueFault::new(format!("{} is not the name of a registry", quoted(text)))
            .hint("write a host, perhaps with a port, such as `registry.corp:5000`")
    })
}

fn pattern(text: &str) -> Result<RepositoryPattern, ValueFault> {
    text.parse().map_err(|_| {
        ValueFault::new(format!("{} is not a pattern", quoted(text)))
            .hint("`*` is any text without a slash, `**` any number of components")
    })
}

fn prefix(text: &str) -> Result<PathPrefix, ValueFault> {
    match text {
        "" => Ok(PathPrefix(None)),
        _ => check_prefix(text).map(|prefix| PathPrefix(Some(prefix))),
    }
}

/// A prefix is the first component of a path, told from an organisation on Docker Hub by its dot.
pub(super) fn check_prefix(text: &str) -> Result<String, ValueFault> {
    const HINT: &str = "write something like `harbor.corp`, or `\"\"` for none";
    if text.contains(':') {
        return Err(ValueFault::new("a prefix can hold no colon").hint(HINT));
    }
    if !text.contains('.') {
        return Err(ValueFault::new("a prefix needs a dot")
            .hint(format!("without one it could be an organisation on Docker Hub; {HINT}")));
    }
    if text.contains('/') || text.parse::<RepositoryName>().is_err() {
        return Err(ValueFault::new("a prefix is one path component, in lower case").hint(HINT));
    }
    Ok(text.to_owned())
}

fn platform(text: &str) -> Result<PlatformName, ValueFault> {
    let is_part = |part: &str| {
        let is_allowed = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
        !part.is_empty() && part.bytes().all(is_allowed)
    };
    let is_platform = (2..=3).contains(&text.split('/').count()) && text.split('/').all(is_part);
    if text == ALL_PLATFORMS || is_platform {
        return Ok(PlatformName(text.to_owned()));
    }
    Err(ValueFault::new(format!("{} is not a platform", quoted(text)))
        .hint("write `linux/amd64`, `linux/arm/v7`, or `all` alone"))
}

fn certificate_user(text: &str) -> Result<CertificateUserName, ValueFault> {
    if text.is_empty() || text.contains([':', '\n', '\0']) {
        return Err(ValueFault::new("this is not a user name"));
    }
    Ok(CertificateUserName(text.to_owned()))
}

/// The word for every platform of an index.
pub(super) const ALL_PLATFORMS: &str = "all";

/// One address has no more ports towards another.
const MAX_CONNECTIONS_MAX: usize = 65_535;
