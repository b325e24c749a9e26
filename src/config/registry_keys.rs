//! The keys of registries: their types, defaults and documentation.
//!
//! As in `keys.rs`, the comments are what operators read.

use std::time::Duration;

use serde_json::{Value, json};
use toml::de::DeValue;
use url::Url;

use super::auth_keys::AuthList;
use super::diagnostics::{ValueFault, quoted};
use super::reader::{FromText, FromToml, Located, TomlValue};
use super::table::{TomlTable, table};
use super::values::{IdentityKind, OneOrMany, PathPrefix, SizeLimit, UpstreamConnections};
use crate::http::HostPort;
use crate::oci::RegistryName;
use crate::registry::{RegistryNamePattern, RepositoryPattern};

table! {
    /// A registry. As soon as one is configured, only the configured ones exist. Without any these
    /// exist: docker.io (the default), ghcr.io, quay.io, gcr.io, registry.k8s.io, mcr.microsoft.com
    /// and public.ecr.aws, all anonymous.
    ///
    /// The name is the one that clients use, a host and perhaps a port. Or it is a pattern of
    /// hosts, such as `*.dkr.ecr.*.amazonaws.com`, in which each `*` stands for one label or a part
    /// of one: then the table is for every registry that it matches and that has no table of its
    /// own. [Upstreams](docs/upstreams.md#many-registries-by-one-entry) has more about patterns.
    struct RegistryTable in "[registry.\"…\"]" {
        /// The registry's URL: `http://` or `https://`, a host, and perhaps a path.
        ///
        /// Requests go to `<path>/v2/…`. A path after `/v2/` in the URL is a project: the names of
        /// all repositories at the upstream begin with it. [Upstreams](docs/upstreams.md) has
        /// Artifactory, Harbor, ECR, GitLab, Nexus and others.
        ///
        /// In place of the URL a table may stand, `{ url = "…" }` with any of `auth`, `ca`,
        /// `client_cert`, `client_key`, `token_hosts`, `redirect_hosts` and `trace_context`; or a
        /// list of up to eight of either. The last of a list is the registry itself, and the keys
        /// of the registry's own table are for it alone. Those before it are mirrors: they are
        /// asked first for content by digest, and any failure leads to the next. They are asked for
        /// tags only while the registry itself is down. For docker.io the default is
        /// `https://registry-1.docker.io`; with a mirror, `["http://mirror.corp:5000",
        /// "https://registry-1.docker.io"]`.
        upstream: UpstreamList => "`\"https://<name>\"`" | "https://registry-1.docker.io";
        /// Used for requests that name no registry, as those of dockerd's `registry-mirrors`.
        ///
        /// docker.io is the default unless it says `false` or another registry says `true`.
        default: Located<bool> => "`false`" | true;
        /// Other names that clients may use for it, in `?ns=` and as first part of the path.
        ///
        /// docker.io has those two by default, any other registry none.
        aliases: Vec<Located<RegistryName>> => "`[]`" | ["index.docker.io", "registry-1.docker.io"];
        /// First part of the path that names it: it has a dot and no colon; `""` for none.
        ///
        /// As in `localhost:5000/docker.io/library/alpine`. A registry whose name has a port, or no
        /// dot, has no prefix unless one is given.
        prefix: Located<PathPrefix> => "its name" | "docker.io";
        /// Larder's own hosts, as `host` or `host:port`, at which every request means it.
        ///
        /// A host without a port is meant with any.
        hosts: Vec<Located<HostPort>> = [];
        /// How long a tag is served without revalidation; `"0s"` to always ask.
        tag_ttl: Duration = "60s";
        /// Other times for some tags, as in `{ match = "v*", ttl = "1d" }`; the first match counts.
        tag_rules: Vec<TagRuleTable> = [];
        /// How long the absence of a tag is served without revalidation, up to `tag_ttl`.
        ///
        /// A tag that is asked for too early, by a kubelet or a CI job that waits for it, shows
        /// after this time. With `push = true` the default is `"0s"`: absent tags are asked for
        /// each time. While the upstream is unavailable, an absence is served up to `max_stale`.
        /// The absence of referrers, and unless this is `"0s"` of the tag in their place (`sha256-`
        /// and a hash), is cached for five times `tag_ttl`.
        negative_tag_ttl: Duration => "`\"5s\"`" | "5s";
        /// How long an expired tag is served while the upstream is unavailable.
        max_stale: Duration = "30d";
        /// The cache alone answers, whatever its age; the upstream is never asked.
        ///
        /// Content that is not cached does not exist. For a network without the outside.
        offline: Located<bool> = false;
        /// A range of a layer that is not cached starts a download of the whole.
        ///
        /// With `false`, such ranges are passed through, one upstream request each, and not stored:
        /// for lazy pullers (SOCI, zstd:chunked) that read little of large layers. A range that
        /// includes the last byte downloads the whole layer even so, since only then can it be
        /// verified before it leaves; but not a footer (eStargz), a bounded one of at most 64 KiB.
        /// Large ranges side by side (SOCI's parallel pull) download the whole layer as well.
        fill_on_range: bool = true;
        /// Pass pushes and deletions on to the upstream, for [permitted](docs/access.md) clients.
        ///
        /// Pushed content is in the cache at once.
        push: bool = false;
        /// How long a confirmed blob may be reported to pushing clients without asking again.
        ///
        /// A client that is told that a blob exists does not upload it. With `"0s"`, the upstream
        /// is asked each time.
        membership_ttl: Duration = "60s";
        /// Repositories that may be asked for, by full name; `*` within a component, `**` across.
        ///
        /// The full name of `alpine` is `library/alpine`. To clients, other repositories do not
        /// exist.
        allow: Vec<RepositoryPattern> = ["**"];
        /// Repositories that may not be asked for, even if `allow` matches.
        deny: Vec<RepositoryPattern> = [];
        /// Space that its content may take, as for [`[cache]`](#max_size); `"0"` for any.
        ///
        /// Content counts to the registry that it was first fetched from. Downloads in flight are
        /// not counted.
        max_size: SizeLimit = "0";
        /// Time without a pull after which its content is evicted; `"0s"` for none.
        max_idle: Duration => "`cache.max_idle`" | "0s";
        /// Identity with which the upstream is asked.
        ///
        /// `"proxy"`: Larder's own credential, `auth`; a client that may pull here sees all that
        /// this credential sees. `"client"`: the client's own credential, with which it logs in to
        /// Larder (`challenge = "basic"`); cached content is served only to clients whose right to
        /// the repository [the registry itself has
        /// confirmed](docs/access.md#the-registrys-own-users). At one host there can be one such
        /// registry; with `hosts` of its own, it is served at these alone.
        identity: Located<IdentityKind> = "proxy";
        /// With `identity = "client"`: how long a client's confirmed right is kept.
        grant_ttl: Located<Duration> = "5m";
        /// With `identity = "client"`: how much longer while the registry is unavailable.
        grant_grace: Located<Duration> = "1h";
        /// Answers say in `Cache-Status` how they came about.
        ///
        /// With `identity = "client"` the default is `false`.
        cache_status: bool => "`true`" | true;
        /// Larder's own credential for the upstream.
        ///
        /// The simplest is `{ type = "basic", username = "…", password_file = "…" }`; [all
        /// types](docs/credentials.md). A list of up to eight has them [take
        /// turns](docs/credentials.md#several-logins): when one has used up its rate limit, the
        /// next one asks.
        auth: Located<AuthList> => "`{ type = \"anonymous\" }`" | { type = "anonymous" };
        /// Trusted token servers beyond the upstream's own domain, as `host` or `host:port`.
        ///
        /// The credential is sent to them.
        token_hosts: Located<Vec<HostPort>> => "`[]`" | [];
        /// Hosts with private addresses that the upstream may redirect downloads to.
        redirect_hosts: Located<Vec<HostPort>> => "`[]`" | [];
        /// The upstream is sent `traceparent` and `tracestate`, so that its spans join the
        /// [traces](docs/operations.md#traces) of Larder.
        ///
        /// Its token servers and storage elsewhere are not. For an upstream of your own: another
        /// Larder, Harbor, a gateway.
        trace_context: Located<bool> => "`false`" | false;
        /// With a pattern as the name: the hosts that it matches may have private addresses.
        ///
        /// Clients choose these hosts, so only public addresses are connected to otherwise.
        private_hosts: Located<bool> => "`false`" | false;
        /// PEM file of certificates to trust for the upstream beside the system's.
        ///
        /// They are of authorities that sign the upstream's certificate, or that certificate
        /// itself, as `openssl req -x509` makes it.
        ca: Located<String>;
        /// PEM file of a client certificate that is shown to the upstream.
        client_cert: Located<String>;
        /// PEM file with the private key of `client_cert`.
        client_key: Located<String>;
        /// Most requests in flight to the upstream, from 1 to 65535; further ones queue.
        ///
        /// The limit holds for layers and for everything else separately, idle connections
        /// included.
        max_connections: UpstreamConnections = 64;
    }
}

table! {
    /// An upstream that needs more than a URL.
    struct UpstreamTable in "upstream" as "the upstream" {
        /// Its URL, as for a registry.
        url: Located<Url>, required;
        /// As for a registry, for this upstream alone.
        auth: Located<AuthList> => "`{ type = \"anonymous\" }`" | { type = "anonymous" };
        /// As for a registry, for this upstream alone.
        ca: Located<String>;
        /// As for a registry, for this upstream alone.
        client_cert: Located<String>;
        /// As for a registry, for this upstream alone.
        client_key: Located<String>;
        /// As for a registry, for this upstream alone.
        token_hosts: Located<Vec<HostPort>> => "`[]`" | [];
        /// As for a registry, for this upstream alone.
        redirect_hosts: Located<Vec<HostPort>> => "`[]`" | [];
        /// As for a registry, for this upstream alone.
        trace_context: Located<bool> => "`false`" | false;
    }
}

table! {
    /// A time for some tags.
    struct TagRuleTable in "tag_rules" as "the rule" {
        /// Pattern of the tags: `*` is any text, `?` one character.
        r#match: RepositoryPattern, required;
        /// How long they are served without revalidation.
        ttl: Duration, required;
    }
}

/// The upstreams of a registry, at least one.
#[derive(Debug)]
pub(super) struct UpstreamList(pub Vec<UpstreamTable>);

impl FromToml for UpstreamList {
    const EXPECTED: &'static str = OneOrMany::<UpstreamEntry>::EXPECTED;

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let count = value.get().as_array().map_or(1, |items| items.len());
        if count == 0 {
            let fault = ValueFault::new("the list of upstreams is empty");
            value.report(fault.hint("leave the key out for the default"));
        } else if count > UPSTREAMS_MAX {
            let fault = ValueFault::new(format!("there are more than {UPSTREAMS_MAX} upstreams"));
            value.report(fault.hint("leave out those that are rarely of use"));
        }
        let entries = OneOrMany::<UpstreamEntry>::read(value)?.0;
        Some(Self(entries.into_iter().map(|entry| entry.value.0).collect()))
    }

    fn schema() -> Value {
        OneOrMany::<UpstreamEntry>::schema()
    }
}

/// An entry of `upstream`: a URL, or a table that has one.
struct UpstreamEntry(UpstreamTable);

impl FromToml for UpstreamEntry {
    const EXPECTED: &'static str = "a URL or a table with a `url`";

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        if value.get().is_table() {
            return UpstreamTable::read(value).map(Self);
        }
        let text = value.expect::<Self, _>(DeValue::as_str)?;
        let url = value.accept(Url::from_text(text))?;
        Some(Self(UpstreamTable::at(Located { value: url, at: value.at.clone() })))
    }

    fn schema() -> Value {
        json!({ "anyOf": [Url::schema(), UpstreamTable::schema()] })
    }
}

impl UpstreamTable {
    /// The upstream at `url`, of which nothing else is known.
    pub(super) fn at(url: Located<Url>) -> Self {
        Self {
            url,
            auth: None,
            ca: None,
            client_cert: None,
            client_key: None,
            token_hosts: None,
            redirect_hosts: None,
            trace_context: None,
        }
    }
}

/// The registries, in the order of the file.
#[derive(Debug)]
pub(super) struct RegistryTables(pub Vec<NamedRegistry>);

/// `[registry."<name>"]`
#[derive(Debug)]
pub(super) struct NamedRegistry {
    /// The name; if the key is a pattern, a name that it matches.
    pub name: Located<RegistryName>,
    pub pattern: Option<RegistryNamePattern>,
    pub table: RegistryTable,
}

impl FromToml for RegistryTables {
    const EXPECTED: &'static str = RegistryTable::EXPECTED;
    const IS_TABLE: bool = true;

    fn read(value: &mut TomlValue<'_, '_>) -> Option<Self> {
        let mut entries: Vec<_> = value.expect::<Self, _>(DeValue::as_table)?.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut registries = Vec::new();
        for (key, table) in entries {
            if let Some(name) = dotted_name(key.get_ref(), table.get_ref()) {
                let fault = ValueFault::new(format!("the dots of `{name}` divide tables"));
                let hint = format!("put the name in quotes: `[registry.\"{name}\"]`");
                value.child(key.get_ref(), table).report(fault.hint(hint));
                continue;
            }
            let named = name_of(value, key.get_ref(), key.span().start);
            let table = RegistryTable::read(&mut value.child(key.get_ref(), table));
            let named = named.zip(table);
            registries.extend(named.map(|((name, pattern), table)| NamedRegistry {
                name,
                pattern,
                table,
            }));
        }
        Some(Self(registries))
    }

    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": RegistryTable::schema() })
    }
}

/// The name of a registry, and the pattern if it is one.
fn name_of(
    value: &mut TomlValue<'_, '_>,
    key: &str,
    offset: usize,
) -> Option<(Located<RegistryName>, Option<RegistryNamePattern>)> {
    if !key.contains('*') {
        return Some((value.name(key, offset)?, None));
    }
    let Located { value: pattern, at } = value.name::<RegistryNamePattern>(key, offset)?;
    Some((Located { value: pattern.sample().clone(), at }, Some(pattern)))
}

/// The name that was meant by `[registry.docker.io]`, which TOML reads as a table in a table.
fn dotted_name(first: &str, table: &DeValue<'_>) -> Option<String> {
    let is_known = |key: &str| RegistryTable::INFO.keys.iter().any(|known| known.name == key);
    let mut inner = table.as_table()?.iter();
    let (key, table) =
        inner.find(|(key, it)| it.get_ref().is_table() && !is_known(key.get_ref()))?;
    let rest = key.get_ref();
    let rest = dotted_name(rest, table.get_ref()).unwrap_or_else(|| rest.to_string());
    Some(format!("{first}.{}", quoted(&rest).trim_matches('`')))
}

/// They share the time in which clients want an answer: 25 s.
const UPSTREAMS_MAX: usize = 8;
