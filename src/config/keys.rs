//! The keys of the file, save those of registries: their types, defaults and documentation.
//!
//! The comments here are what operators read: in the schema, in `config.example.toml` and in
//! `docs/configuration.md`. The first paragraph of a key says what it is for.

use std::time::Duration;

use super::access_log::AccessLogTable;
use super::auth_keys::AuthTable;
use super::import_keys::ImportTable;
use super::log_settings::{LogFilter, LogFormat};
use super::reader::{FromToml, Located};
use super::registry_keys::{RegistryTable, RegistryTables, TagRuleTable, UpstreamTable};
use super::table::{TableInfo, TomlTable, table};
use super::traces::TracesTable;
use super::values::{
    AdminAddress, CertificateUserName, ClientAuth, CountValue, FilledList, FlagValue, FreeAmount,
    OneOrMany, PositiveDuration, PositiveSize, SizeLimit,
};
use super::warm_keys::WarmTable;
use crate::access::{Action, AnonymousAccess, ChallengePolicy};
use crate::http::HostPort;
use crate::oci::RegistryName;
use crate::registry::{Door, RepositoryPattern};

table! {
    /// These keys stand above the first `[table]` of the file.
    struct FileTable in "" {
        /// IP addresses and ports on which clients are served.
        ///
        /// By default only this machine can use Larder; `0.0.0.0:5000` opens it to every client
        /// that can reach the port. In `LARDER_LISTEN`, commas separate several.
        listen: Located<OneOrMany<String>> = ["127.0.0.1:5000"];
        /// IP address and port of health checks and metrics; `""` for none.
        ///
        /// `/healthz`, `/readyz` and `/metrics` are served there over plain HTTP, to every client
        /// that can reach it. If the default address is in use, Larder logs that and does without;
        /// any other address has to be free.
        admin_listen: Located<AdminAddress> = "127.0.0.1:5001";
        /// Silence in both directions after which a client's connection is closed.
        ///
        /// A client that reads slowly is not silent.
        client_stall: PositiveDuration = "10m";
        /// Connections that one client may hold; `0` for any number.
        ///
        /// A client is an address, over IPv6 a network of 64 bits. Further connections are closed
        /// at once. Behind a proxy or NAT, all clients are one.
        connections_per_client: CountValue = 1024;
        /// How long transfers in flight may go on after SIGTERM.
        ///
        /// Keep it below the time after which the service manager kills Larder (systemd: 90s,
        /// Kubernetes: 30s, docker stop: 10s).
        shutdown_grace: Duration = "30s";
        /// The level of log lines, or levels of modules, as in `"info,larder::upstream=debug"`.
        ///
        /// Levels are `error`, `warn`, `info`, `debug`, `trace` and `off`. With
        /// `"info,larder::request=off"` requests are not logged. `LARDER_LOG` wins over it.
        log_level: LogFilter = "info";
        /// Whether log lines are text for people or JSON objects for machines.
        log_format: LogFormat = "text";
        /// A file with a line for each request.
        access_log: AccessLogTable = {};
        /// TLS on all addresses of `listen`.
        tls: Located<TlsTable>;
        /// The rights of clients on all addresses of `listen`.
        access: Located<AccessTable>;
        /// Several listeners with settings of their own, in place of `listen`, `[tls]` and
        /// `[access]`.
        listener: Located<Vec<Located<ListenerTable>>>;
        /// The page for operators.
        dashboard: DashboardTable = {};
        /// The cache directory, and how long content is kept and trusted.
        cache: CacheTable = {};
        /// The signatures that archives need to be imported.
        import: ImportTable = {};
        /// The registries that clients may name.
        registry: RegistryTables;
        /// Images that are kept, whatever else has to go.
        pin: Vec<PinTable> = [];
        /// Images that are fetched before clients ask for them.
        warm: Vec<Located<WarmTable>> = [];
        /// Traces of requests, for a collector of OpenTelemetry.
        traces: TracesTable = {};
    }
}

table! {
    /// Images that are kept, whatever else has to go. Any number of them; `larder pin` adds images
    /// one by one.
    ///
    /// Kept are the manifests and layers that clients have pulled of them, for as long as the tag
    /// names them. If they do not fit into the cache together, those beyond it are not kept, which
    /// the log tells.
    ///
    /// ```toml
    /// [[pin]]
    /// registries = ["docker.io"]
    /// repositories = ["library/*"]
    /// tags = ["lts", "v1.*"]
    /// ```
    struct PinTable in "[[pin]]" as "the pin" {
        /// Registries that it is for.
        registries: FilledList<Located<RegistryName>> => "all";
        /// Patterns of repositories, as in `allow`.
        repositories: FilledList<RepositoryPattern>, required;
        /// Patterns of tags: `*` is any text, `?` one character.
        tags: FilledList<RepositoryPattern> => "all";
    }
}

table! {
    /// TLS towards clients, on all addresses of `listen`; without this table they are served plain
    /// HTTP.
    ///
    /// `cert` and `key` are read again when they change; a pair that is not valid leaves the old
    /// one in service. Relative paths start at the directory of the configuration file.
    ///
    /// ```toml
    /// [tls]
    /// cert = "/etc/larder/tls.crt"
    /// key = "/etc/larder/tls.key"
    /// client_ca = "/etc/larder/clients-ca.pem"
    /// client_auth = "optional"
    /// ```
    struct TlsTable in "[tls]" {
        /// PEM file with the certificate and then its chain.
        cert: Located<String>;
        /// PEM file with the private key of `cert`, without a passphrase.
        key: Located<String>;
        /// PEM file of authorities; clients are asked for a certificate that one of them signed.
        client_ca: Located<String>;
        /// Whether a client without a certificate is turned away.
        client_auth: Located<ClientAuth> => "`\"optional\"`";
    }
}

table! {
    /// The rights of clients on all addresses of `listen`. See [Access](docs/access.md).
    struct AccessTable in "[access]" {
        /// Rights of a client without credentials.
        ///
        /// Deleting always needs a rule.
        anonymous: AnonymousAccess = "pull";
        /// Whether clients are asked for a user and a password.
        ///
        /// With `"never"`, credentials are not even read: dockerd offers Docker Hub's password to
        /// any mirror that asks for one.
        challenge: Located<ChallengePolicy> = "never";
        /// File of users and hashed passwords.
        ///
        /// Its lines are made by `htpasswd -nB -C 10 USER`, with bcrypt or Argon2. It is read again
        /// when it changes; if a line is not valid, the users that were known stay.
        ///
        /// ```toml
        /// [access]
        /// challenge = "basic"
        /// htpasswd = "/etc/larder/htpasswd"
        /// ```
        htpasswd: Located<String>;
        /// Accept passwords without TLS from other machines.
        ///
        /// For a listener behind a proxy that has TLS.
        insecure_basic: FlagValue = false;
        /// The users that the holders of client certificates are.
        certificate: Vec<Located<CertificateTable>> = [];
        /// Rights of users.
        rule: Vec<RuleTable> = [];
    }
}

table! {
    /// The users that the holders of client certificates are (see `client_ca`). The first entry
    /// counts whose `name` matches; a certificate that matches none stands for no user.
    ///
    /// ```toml
    /// [tls]
    /// cert = "/etc/larder/tls.crt"
    /// key = "/etc/larder/tls.key"
    /// client_ca = "/etc/larder/clients-ca.pem"
    ///
    /// [[access.certificate]]
    /// name = "*.ci.corp"
    /// user = "ci"
    /// ```
    struct CertificateTable in "[[access.certificate]]" as "the certificate" {
        /// Common name, DNS name or URI in the certificate; `*` is any text.
        name: RepositoryPattern, required;
        /// The user that it stands for.
        user: CertificateUserName, required;
    }
}

table! {
    /// Rights of users. Without rules, users may pull and push. Rules are additive, also to
    /// `anonymous`. Push does not imply pull; delete always needs a rule.
    ///
    /// ```toml
    /// [access]
    /// challenge = "basic"
    /// htpasswd = "/etc/larder/htpasswd"
    ///
    /// [[access.rule]]
    /// users = ["ci", "release-*"]
    /// registries = ["docker.io"]
    /// repositories = ["team/**"]
    /// actions = ["pull", "push"]
    /// ```
    struct RuleTable in "[[access.rule]]" as "the rule" {
        /// Patterns of the users that it is for.
        users: FilledList<Located<RepositoryPattern>>, required;
        /// Registries that it is for.
        registries: FilledList<Located<RegistryName>> => "all";
        /// Patterns of repositories that it is for, as in `allow`.
        repositories: FilledList<RepositoryPattern> => "all";
        /// The actions that it permits.
        actions: FilledList<Action>, required;
    }
}

table! {
    /// A listener with settings of its own. Any number of them can stand in place of `listen`,
    /// `[tls]` and `[access]`, which are short for one.
    ///
    /// ```toml
    /// [[listener]]
    /// address = "0.0.0.0:5443"
    /// names = ["mirror.corp"]
    /// doors = ["registry", "ns", "host", "prefix", "mirror"]
    /// tls = { cert = "/etc/larder/tls.crt", key = "/etc/larder/tls.key" }
    /// access = { anonymous = "none", challenge = "basic", htpasswd = "/etc/larder/htpasswd" }
    /// ```
    struct ListenerTable in "[[listener]]" as "the listener" {
        /// IP address and port.
        address: Located<std::net::SocketAddr>, required;
        /// Hosts that it answers to, as `host` or `host:port`; all if there are none.
        names: Vec<HostPort> = [];
        /// The [ways](docs/clients.md#how-a-request-names-its-registry) of naming a registry there.
        doors: Located<Vec<Door>> => "all";
        /// A table with the keys of `[tls]`.
        tls: Located<TlsTable>;
        /// A table with the keys of `[access]`.
        access: Located<AccessTable>;
    }
}

table! {
    /// The [page](docs/dashboard.md) for operators. It only reads.
    struct DashboardTable in "[dashboard]" {
        /// IP address and port of the page; `""` for none.
        ///
        /// The page is served there over plain HTTP. Beyond this machine it takes `htpasswd`. If
        /// the default address is in use, Larder logs that and does without; any other address has
        /// to be free.
        listen: Located<AdminAddress> = "127.0.0.1:5002";
        /// Hosts by which browsers may ask for it, beside addresses and `localhost`.
        names: Vec<HostPort> = [];
        /// File of the users that may look at it, as in `[access]`; without one, everybody may.
        htpasswd: Located<String>;
        /// Accept passwords without TLS from other machines.
        ///
        /// For a page behind a proxy that has TLS.
        insecure_basic: FlagValue = false;
    }
}

table! {
    /// The cache directory, and how long content is kept and trusted.
    struct CacheTable in "[cache]" {
        /// The cache directory, from `/` or `~/` on; made if it is missing.
        ///
        /// One process per directory. With `XDG_CACHE_HOME` set, the default is `larder/` in there.
        dir: Located<String> => "`\"~/.cache/larder\"`" | "~/.cache/larder";
        /// Memory for manifests, tags and memberships, not layers.
        memory: PositiveSize = "64MiB";
        /// Space that the cache directory may take, as a size or in per cent of the file system, as
        /// in `"80%"`; `"0"` for as much as `min_free` leaves.
        ///
        /// Blobs are evicted to stay below it: those that are worth least for their size first, and
        /// none that is being read. A blob that is larger is passed through.
        max_size: SizeLimit = "0";
        /// Space that is left free on the file system, as a size or in per cent; `"0"` for none.
        ///
        /// Blobs are evicted when less than this is free, whatever has taken it; when nothing is
        /// left to evict, blobs are passed through. A size is at most a twentieth of the file
        /// system.
        min_free: FreeAmount = "1GiB";
        /// Time without a pull after which content is evicted; `"0s"` for none.
        ///
        /// The last pull counts, never the first: content that is pulled stays.
        max_idle: Duration = "0s";
        /// Space of content that goes last because no upstream can give it now, as a size or in per
        /// cent of what content may take; `"0"` for none.
        ///
        /// Such is content of a registry that is down, limited or `offline`, and of images whose
        /// tag the upstream no longer has. The excess is evicted as all other content.
        protect_max: FreeAmount = "25%";
        /// Time without a pull after which such content is no longer protected; `"0s"` for none.
        protect_for: Duration = "90d";
        /// How long an interrupted download is kept to be resumed.
        fill_keep: PositiveDuration = "1d";
        /// File with a secret of 32 bytes or more, by which the ids of uploads are sealed.
        ///
        /// Several Larders before one registry need the same. Without it, one is made in
        /// `session.key` in `dir`.
        session_key_file: Located<String>;
        /// How long a client waits for an expired tag to be revalidated before it is served stale.
        ///
        /// An upstream that did not answer in that time is not waited for again until it has
        /// answered. With `"0s"`, the tag is served stale at once. Container clients themselves
        /// give up after about 30s.
        stale_wait: Duration = "2s";
        /// Content is verified again on first access after this long, or after a reboot.
        ///
        /// Readers of a large layer get each part as soon as it is verified. Corrupt content is
        /// fetched again.
        verify_every: PositiveDuration = "30d";
        /// All content is read from the disk and verified within this time; `"0s"` for never.
        ///
        /// It is read slowly, and waits for clients: a cache of 1 TB at about 3 MB/s. Corrupt
        /// content is fetched again from a registry that had it, or is gone.
        scrub_every: Duration = "30d";
    }
}

/// The tables of the file.
pub(super) const TABLES: [TableInfo; 17] = [
    FileTable::INFO,
    AccessLogTable::INFO,
    TlsTable::INFO,
    AccessTable::INFO,
    CertificateTable::INFO,
    RuleTable::INFO,
    ListenerTable::INFO,
    DashboardTable::INFO,
    CacheTable::INFO,
    PinTable::INFO,
    WarmTable::INFO,
    ImportTable::INFO,
    RegistryTable::INFO,
    UpstreamTable::INFO,
    TagRuleTable::INFO,
    AuthTable::INFO,
    TracesTable::INFO,
];

/// The title of the table in which a key belongs.
pub(super) fn home_of(key: &str) -> Option<&'static str> {
    let has_it = |table: &&TableInfo| table.keys.iter().any(|known| known.name == key);
    TABLES.iter().find(has_it).map(|table| table.title)
}

/// Every key that has one value for the whole process, with the table that it is in (`""` is the
/// top).
pub(super) fn single_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    let tables = [
        ("", FileTable::INFO),
        ("access_log", AccessLogTable::INFO),
        ("tls", TlsTable::INFO),
        ("access", AccessTable::INFO),
        ("dashboard", DashboardTable::INFO),
        ("cache", CacheTable::INFO),
        ("import", ImportTable::INFO),
        ("traces", TracesTable::INFO),
    ];
    tables.into_iter().flat_map(|(name, table)| {
        table.keys.iter().filter(|key| !key.is_table).map(move |key| (name, key.name))
    })
}

/// The JSON schema of the file, for editors.
pub fn schema() -> String {
    let mut schema = FileTable::schema();
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "Larder's configuration".into();
    format!("{schema:#}\n")
}
