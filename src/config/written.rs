//! The configuration exactly as written: which keys there are, and of which TOML type.
//!
//! Every key is optional here and nothing is interpreted: a size is still a text. Defaults are in
//! `defaults.rs`, meaning is given in `resolved.rs` and the files beside it. The field names below
//! are the keys; the names of environment variables, the hints for misspelt keys and the test of
//! the example file are derived from them.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use secrecy::SecretString;
use serde::de::Error as _;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// A text, and where it is.
pub(super) type Text = Spanned<String>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileTable {
    pub listen: Option<Spanned<OneOrMany<String>>>,
    pub admin_listen: Option<Text>,
    pub tls: Option<Spanned<TlsTable>>,
    pub access: Option<Spanned<AccessTable>>,
    pub listener: Vec<Spanned<ListenerTable>>,
    pub client_stall: Option<Text>,
    pub connections_per_client: Option<Spanned<CountValue>>,
    pub shutdown_grace: Option<Text>,
    pub cache: CacheTable,
    pub registry: BTreeMap<Text, RegistryTable>,
}

/// `[tls]`, and `tls` of a listener
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsTable {
    pub cert: Option<Text>,
    pub key: Option<Text>,
    pub client_ca: Option<Text>,
    pub client_auth: Option<Text>,
}

/// `[[listener]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListenerTable {
    pub address: Option<Text>,
    pub names: Option<Spanned<Vec<Text>>>,
    pub doors: Option<Spanned<Vec<Text>>>,
    pub tls: Option<Spanned<TlsTable>>,
    pub access: Option<Spanned<AccessTable>>,
}

/// `[access]`, and `access` of a listener
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AccessTable {
    pub anonymous: Option<Text>,
    pub challenge: Option<Text>,
    pub htpasswd: Option<Text>,
    pub insecure_basic: Option<Spanned<FlagValue>>,
    pub certificate: Vec<Spanned<CertificateTable>>,
    pub rule: Vec<Spanned<RuleTable>>,
}

/// `[[access.certificate]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CertificateTable {
    pub name: Option<Text>,
    pub user: Option<Text>,
}

/// `[[access.rule]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleTable {
    pub users: Option<Spanned<Vec<Text>>>,
    pub registries: Option<Spanned<Vec<Text>>>,
    pub repositories: Option<Spanned<Vec<Text>>>,
    pub actions: Option<Spanned<Vec<Text>>>,
}

/// `[cache]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CacheTable {
    pub dir: Option<Text>,
    pub memory: Option<Text>,
    pub min_free: Option<Text>,
    pub fill_keep: Option<Text>,
    pub session_key_file: Option<Text>,
    pub stale_wait: Option<Text>,
    pub verify_every: Option<Text>,
}

/// `[registry."…"]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RegistryTable {
    pub upstream: Option<Spanned<OneOrMany<UpstreamEntry>>>,
    pub default: Option<Spanned<bool>>,
    pub aliases: Option<Vec<Text>>,
    pub hosts: Option<Vec<Text>>,
    pub prefix: Option<Text>,
    pub tag_ttl: Option<Text>,
    pub tag_rules: Option<Vec<Spanned<TagRule>>>,
    pub max_stale: Option<Text>,
    pub offline: Option<Spanned<bool>>,
    pub fill_on_range: Option<Spanned<bool>>,
    pub push: Option<Spanned<bool>>,
    pub membership_ttl: Option<Text>,
    pub allow: Option<Vec<Text>>,
    pub deny: Option<Vec<Text>>,
    pub identity: Option<Text>,
    pub grant_ttl: Option<Text>,
    pub grant_grace: Option<Text>,
    pub cache_status: Option<Spanned<bool>>,
    pub auth: Option<Spanned<AuthTable>>,
    pub token_hosts: Option<Spanned<Vec<Text>>>,
    pub redirect_hosts: Option<Spanned<Vec<Text>>>,
    pub ca: Option<Text>,
    pub client_cert: Option<Text>,
    pub client_key: Option<Text>,
    pub max_connections: Option<Spanned<i64>>,
}

/// An entry of `upstream`: a URL, or a table that has one.
#[derive(Debug)]
pub(super) enum UpstreamEntry {
    Table(Box<UpstreamTable>),
    Url(String),
}

/// An entry of `upstream` that is a table.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct UpstreamTable {
    pub url: Option<Text>,
    pub auth: Option<Spanned<AuthTable>>,
    pub ca: Option<Text>,
    pub client_cert: Option<Text>,
    pub client_key: Option<Text>,
    pub token_hosts: Option<Spanned<Vec<Text>>>,
    pub redirect_hosts: Option<Spanned<Vec<Text>>>,
}

/// An entry of `tag_rules`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TagRule {
    pub r#match: Option<Text>,
    pub ttl: Option<Text>,
}

/// `auth`. One struct for all types, so that serde keeps the place of each key.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuthTable {
    pub r#type: Option<Text>,
    pub username: Option<Text>,
    pub password: Option<Spanned<SecretString>>,
    pub password_file: Option<Text>,
    pub password_env: Option<Text>,
}

/// A whole number that may also come from a variable, which only has texts.
#[derive(Debug)]
pub(super) struct CountValue(pub Option<i64>);

impl<'de> Deserialize<'de> for CountValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = CountValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<CountValue, E> {
        Ok(CountValue(Some(number)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<CountValue, E> {
        Ok(CountValue(text.trim().parse().ok()))
    }
}

/// Yes or no, which may also come from a variable, which only has texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlagValue(pub Option<bool>);

impl<'de> Deserialize<'de> for FlagValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlagVisitor)
    }
}

struct FlagVisitor;

impl Visitor<'_> for FlagVisitor {
    type Value = FlagValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean")
    }

    fn visit_bool<E: serde::de::Error>(self, flag: bool) -> Result<FlagValue, E> {
        Ok(FlagValue(Some(flag)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FlagValue, E> {
        Ok(FlagValue(text.trim().parse().ok()))
    }
}

/// A value, or a list of such.
#[derive(Debug)]
pub(super) enum OneOrMany<T> {
    Many(Vec<Spanned<T>>),
    One(T),
}

impl<T> OneOrMany<T> {
    /// The values, each with its place.
    pub(super) fn into_items(this: Spanned<Self>) -> Vec<Spanned<T>> {
        let span = this.span();
        match this.into_inner() {
            Self::Many(items) => items,
            Self::One(item) => vec![Spanned::new(span, item)],
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(text.into_deserializer()).map(OneOrMany::One)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMany::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
    }
}

impl<'de> Deserialize<'de> for UpstreamEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UpstreamVisitor)
    }
}

struct UpstreamVisitor;

impl<'de> Visitor<'de> for UpstreamVisitor {
    type Value = UpstreamEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL or a table with a `url`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<UpstreamEntry, E> {
        Ok(UpstreamEntry::Url(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UpstreamEntry, A::Error> {
        let table = UpstreamTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(UpstreamEntry::Table(Box::new(table)))
    }
}

/// Each kind of table, as a message would call it, and its keys.
pub(super) fn sections() -> [(&'static str, KeyNames); 11] {
    [
        ("", keys::<FileTable>()),
        ("[cache]", keys::<CacheTable>()),
        ("[access]", keys::<AccessTable>()),
        ("[registry.\"…\"]", keys::<RegistryTable>()),
        ("upstream", keys::<UpstreamTable>()),
        ("auth", keys::<AuthTable>()),
        ("[tls]", keys::<TlsTable>()),
        ("[[listener]]", keys::<ListenerTable>()),
        ("tag_rules", keys::<TagRule>()),
        ("[[access.certificate]]", keys::<CertificateTable>()),
        ("[[access.rule]]", keys::<RuleTable>()),
    ]
}

/// Every key that has one value for the whole process, with the table it is in (`""`
/// is the top).
pub(super) fn single_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    let is_single =
        |key: &&&str| !matches!(**key, "access" | "cache" | "listener" | "registry" | "tls");
    let top = keys::<FileTable>().iter().filter(is_single).map(|key| ("", *key));
    let tls = keys::<TlsTable>().iter().map(|key| ("tls", *key));
    let is_table = |key: &&&str| matches!(**key, "certificate" | "rule");
    let access = keys::<AccessTable>().iter().filter(move |key| !is_table(key));
    let access = access.map(|key| ("access", *key));
    top.chain(tls).chain(access).chain(keys::<CacheTable>().iter().map(|key| ("cache", *key)))
}

/// The names of the keys of a table.
pub(super) type KeyNames = &'static [&'static str];

/// The keys that `T` knows, from what its derived code asks a deserializer for.
fn keys<'de, T: Deserialize<'de>>() -> KeyNames {
    let mut noted: KeyNames = &[];
    let refused = T::deserialize(KeyNoter { noted: &mut noted }).is_err();
    debug_assert!(refused, "the noter has no values to give");
    noted
}

/// Notes the fields of the struct that is asked for, and gives nothing.
struct KeyNoter<'n> {
    noted: &'n mut KeyNames,
}

impl<'de> Deserializer<'de> for KeyNoter<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: KeyNames,
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.noted = fields;
        Err(Self::Error::custom("noted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
