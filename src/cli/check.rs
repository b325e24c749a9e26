//! `larder check`: what results from the configuration.
//!
//! The report goes to stdout and is for people; problems and warnings go to stderr. Secrets are in
//! neither.

use std::fmt;
use std::io::Write;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::check_json::CheckDocument;
use super::check_online::{self, OnlineSubjects};
use super::check_text::ProblemForm;
use super::exit::ExitStatus;
use super::logging;
use super::output::{json, labelled, say};
use crate::amounts::bytes;
use crate::config;
use crate::config::{
    ConfigArgs, Diagnostics, Environment, ListenerSettings, LoadedConfig, Settings,
};
use crate::registry;
use crate::registry::{AskedAs, OpenDoors};
use crate::store::{ProtectionLimits, RetentionLimits};
use crate::traces::TraceOptions;
use crate::upstream::{self, ProxyCredential};

/// Reads the configuration and reports on it, and `online` on the upstreams.
pub(super) fn run(
    arguments: &ConfigArgs,
    online: Option<&OnlineSubjects>,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> ExitStatus {
    let form = ProblemForm::of_stderr(environment);
    let loaded = match load(arguments, environment) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let shown: Vec<_> = problems.iter().map(|problem| form.error(problem)).collect();
            say(err, &shown.join("\n"));
            return ExitStatus::Misused;
        }
    };
    loaded.settings.warnings.iter().for_each(|warning| say(err, &form.warning(warning)));
    say(out, &CheckReport(&loaded).to_string());
    online.map_or(ExitStatus::Done, |on| check_online::run(&loaded.settings, on, out, err))
}

/// Reads the configuration and prints one JSON object about it.
pub(super) fn run_json(
    arguments: &ConfigArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> ExitStatus {
    let (document, exit) = match load(arguments, environment) {
        Ok(loaded) => (CheckDocument::of_valid(&loaded), ExitStatus::Done),
        Err(problems) => (CheckDocument::of_invalid(&problems), ExitStatus::Misused),
    };
    say(out, &json(&document));
    exit
}

/// The configuration, and the variable of the log with it.
fn load(arguments: &ConfigArgs, environment: &Environment) -> Result<LoadedConfig, Diagnostics> {
    let loaded = config::load(arguments, environment)?;
    logging::filter(&loaded.settings.log, environment)?;
    Ok(loaded)
}

struct CheckReport<'l>(&'l LoadedConfig);

impl fmt::Display for CheckReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadedConfig { settings, file, overrides, changed } = self.0;
        let file = file.as_ref().map_or("the defaults".into(), |file| file.display().to_string());
        line(f, "configuration", &file)?;
        if !overrides.is_empty() {
            line(f, "overridden by", &list(overrides))?;
        }
        if !changed.is_empty() {
            writeln!(f, "\n# what differs from the defaults")?;
            changed.iter().try_for_each(|key| writeln!(f, "{key}"))?;
            writeln!(f, "\n# what results")?;
        }
        let is_plain = settings.listeners.iter().all(is_plain);
        if is_plain {
            let addresses: Vec<_> = settings.listeners.iter().map(|it| it.address).collect();
            line(f, "listen", &list(&addresses))?;
        }
        line(f, "admin_listen", &or_none(settings.admin.as_ref()))?;
        line(f, "dashboard", &or_none(settings.dashboard.address.as_ref()))?;
        line(f, "client_stall", &time(settings.clients.stall))?;
        line(f, "connections", &connections_per_client(settings.clients.connections))?;
        line(f, "shutdown_grace", &time(settings.shutdown_grace))?;
        if !is_plain {
            settings.listeners.iter().try_for_each(|it| listener(f, it))?;
        }
        writeln!(f, "\n[cache]")?;
        line(f, "dir", &settings.store.dir.display().to_string())?;
        line(f, "memory", &bytes(settings.cache.memory))?;
        let limits = settings.store.limits;
        line(f, "max_size", &limits.max_size.map_or("no limit".into(), |size| size.to_string()))?;
        line(f, "min_free", &min_free(&limits.min_free.to_string()))?;
        line(f, "max_idle", &max_idle(settings.store.retention.max_idle))?;
        line(f, "protected", &protection(settings.store.retention.protection))?;
        line(f, "fill_keep", &time(settings.store.fill_keep))?;
        line(f, "stale_wait", &time(settings.cache.stale_wait))?;
        line(f, "verify_every", &time(settings.store.verify_every))?;
        line(f, "scrub_every", &scrub_every(settings.cache.scrub_every))?;
        settings.traces.iter().try_for_each(|options| traces(f, options))?;
        if settings.proxies.http.is_some() || settings.proxies.https.is_some() {
            proxies(f, settings)?;
        }
        if !settings.registries.iter().any(|entry| entry.is_default) {
            writeln!(f)?;
            line(f, "default", "none: requests that name no registry are answered with 404")?;
        }
        settings.registries.iter().try_for_each(|entry| {
            registry(f, entry)?;
            retention(f, &settings.store.retention, entry)
        })
    }
}

/// The limits of a registry's content, where they are its own.
fn retention(
    f: &mut fmt::Formatter<'_>,
    limits: &RetentionLimits,
    entry: &registry::RegistryOptions,
) -> fmt::Result {
    let Some(own) = limits.registries.iter().find(|own| own.registry == entry.name) else {
        return Ok(());
    };
    line(f, "max_size", &own.max_size.map_or("no limit".into(), |size| size.to_string()))?;
    line(f, "max_idle", &max_idle(own.max_idle))
}

/// A month is none of whole days otherwise.
const DAY_SECONDS: u64 = 86_400;

/// How much content goes last that no upstream can give now.
fn protection(limits: ProtectionLimits) -> String {
    if limits.is_on() {
        let seconds = limits.keep_for.as_secs();
        let span = if seconds.is_multiple_of(DAY_SECONDS) {
            format!("{}days", seconds / DAY_SECONDS)
        } else {
            time(limits.keep_for)
        };
        format!("{} until {span} after the last pull", limits.amount)
    } else {
        "none".to_owned()
    }
}

/// How long content is kept without a pull.
fn max_idle(limit: Option<Duration>) -> String {
    limit.map_or("no limit".into(), time)
}

fn connections_per_client(most: Option<NonZeroUsize>) -> String {
    most.map_or("any number per client".to_owned(), |most| format!("{most} per client"))
}

fn scrub_every(every: Duration) -> String {
    if every.is_zero() { "never".to_owned() } else { time(every) }
}

/// A size is cut to what a small file system can spare.
fn min_free(amount: &str) -> String {
    let is_cut = !amount.ends_with('%') && amount != "0 B";
    let note = if is_cut { ", at most a twentieth of the file system" } else { "" };
    format!("{amount}{note}")
}

/// The collector, which variables of OpenTelemetry may name, too.
fn traces(f: &mut fmt::Formatter<'_>, options: &TraceOptions) -> fmt::Result {
    writeln!(f, "\n[traces]")?;
    line(f, "endpoint", options.url.as_str())?;
    line(f, "sample_ratio", &options.sample_ratio.to_string())
}

/// The proxies that the environment names; their users and passwords are not shown.
fn proxies(f: &mut fmt::Formatter<'_>, settings: &Settings) -> fmt::Result {
    let proxies = &settings.proxies;
    writeln!(f, "\n[environment]")?;
    line(f, "HTTP_PROXY", &or_none(proxies.http.as_ref()))?;
    line(f, "HTTPS_PROXY", &or_none(proxies.https.as_ref()))?;
    line(f, "NO_PROXY", &or_none(Some(&proxies.direct).filter(|list| !list.is_empty())))
}

fn or_none<T: fmt::Display>(value: Option<&T>) -> String {
    value.map_or("none".to_owned(), T::to_string)
}

/// Whether there is nothing to say of it but its address.
fn is_plain(listener: &ListenerSettings) -> bool {
    listener.tls.is_none()
        && listener.names.is_empty()
        && listener.doors == OpenDoors::all()
        && listener.access.is_default()
}

fn listener(f: &mut fmt::Formatter<'_>, listener: &ListenerSettings) -> fmt::Result {
    writeln!(f, "\n[[listener]]")?;
    line(f, "address", &listener.address.to_string())?;
    let names = if listener.names.is_empty() { "any".into() } else { list(&listener.names) };
    line(f, "names", &names)?;
    line(f, "doors", &listener.doors.to_string())?;
    let Some(tls) = &listener.tls else {
        line(f, "tls", "none")?;
        return access(f, &listener.access);
    };
    line(f, "cert", &tls.cert.display().to_string())?;
    line(f, "key", &tls.key.display().to_string())?;
    match &tls.clients {
        None => line(f, "client_auth", "none"),
        Some(clients) if clients.is_required => line(f, "client_auth", "required"),
        Some(_) => line(f, "client_auth", "optional"),
    }?;
    access(f, &listener.access)
}

fn access(f: &mut fmt::Formatter<'_>, access: &config::AccessSettings) -> fmt::Result {
    let options = &access.options;
    line(f, "anonymous", options.policy.anonymous.as_str())?;
    line(f, "challenge", options.challenge.as_str())?;
    if let Some(path) = &access.htpasswd {
        line(f, "htpasswd", &path.display().to_string())?;
    }
    for known in &options.certificates {
        line(f, "certificate", &format!("{} is {}", known.name, known.user.escape_debug()))?;
    }
    options.policy.rules.iter().try_for_each(|rule| line(f, "rule", &rule.to_string()))
}

fn registry(f: &mut fmt::Formatter<'_>, entry: &registry::RegistryOptions) -> fmt::Result {
    let upstream = &entry.upstream;
    writeln!(f, "\n[registry.\"{}\"]", entry.key())?;
    for mirror in &entry.mirrors {
        line(f, "mirror", &reached(mirror))?;
    }
    if entry.pattern.is_some() {
        return pattern(f, entry);
    }
    line(f, "upstream", upstream.url.as_str().trim_end_matches('/'))?;
    line(f, "default", if entry.is_default { "yes" } else { "no" })?;
    line(f, "aliases", &list(&entry.aliases))?;
    line(f, "prefix", entry.prefix.as_deref().unwrap_or("none"))?;
    if !entry.hosts.is_empty() {
        line(f, "hosts", &list(&entry.hosts))?;
    }
    registry_rules(f, entry)
}

/// An entry for every registry that its name matches.
fn pattern(f: &mut fmt::Formatter<'_>, entry: &registry::RegistryOptions) -> fmt::Result {
    line(f, "upstream", "https:// and the name")?;
    line(f, "prefix", "the name")?;
    line(f, "private_hosts", if entry.upstream.must_be_public { "no" } else { "yes" })?;
    registry_rules(f, entry)
}

fn registry_rules(f: &mut fmt::Formatter<'_>, entry: &registry::RegistryOptions) -> fmt::Result {
    if entry.rules.push {
        line(f, "push", "yes: clients that may push write to the upstream")?;
    }
    line(f, "tag_ttl", &time(entry.tags.ttl))?;
    line(f, "max_stale", &time(entry.tags.max_stale))?;
    for rule in &entry.rules.tags {
        line(f, "tag_rules", &format!("{} for {}", time(rule.ttl), rule.pattern))?;
    }
    // By default everything is.
    if list(&entry.rules.allow) != "**" {
        line(f, "allow", &list(&entry.rules.allow))?;
    }
    if !entry.rules.deny.is_empty() {
        line(f, "deny", &list(&entry.rules.deny))?;
    }
    if !entry.rules.fill_on_range {
        line(f, "fill_on_range", "no: ranges of what is not held are passed through")?;
    }
    if entry.rules.offline {
        line(f, "offline", "yes: the upstream is never asked")?;
    }
    match entry.identity {
        AskedAs::Proxy => {}
        AskedAs::Client(policy) => {
            line(f, "identity", "client")?;
            line(f, "grant_ttl", &time(policy.ttl))?;
            line(f, "grant_grace", &time(policy.grace))?;
        }
    }
    connection(f, &entry.upstream)
}

/// The login at an upstream, and the hosts that are trusted with it.
fn connection(f: &mut fmt::Formatter<'_>, upstream: &upstream::UpstreamOptions) -> fmt::Result {
    let further = upstream.further_logins.iter().map(|login| &login.credential);
    for credential in std::iter::once(&upstream.credential).chain(further) {
        match credential {
            ProxyCredential::Anonymous => line(f, "auth", "anonymous")?,
            ProxyCredential::Basic { username, .. } => {
                line(f, "auth", &format!("basic, as {}", username.escape_debug()))?;
            }
            ProxyCredential::Issued(source) => line(f, "auth", source.kind())?,
        }
    }
    if upstream.ca_pem.is_some() {
        line(f, "ca", "trusted beside the system's")?;
    }
    if upstream.client_identity.is_some() {
        line(f, "client_cert", "shown to the upstream")?;
    }
    if !upstream.token_hosts.is_empty() {
        line(f, "token_hosts", &list(&upstream.token_hosts))?;
    }
    if !upstream.redirect_hosts.is_empty() {
        line(f, "redirect_hosts", &list(&upstream.redirect_hosts))?;
    }
    if upstream.trace_context {
        line(f, "trace_context", "sent to the upstream")?;
    }
    line(f, "max_connections", &upstream.max_connections.to_string())
}

/// The URL of a mirror, and the kind of credential that it is asked with.
fn reached(mirror: &upstream::UpstreamOptions) -> String {
    let url = mirror.url.as_str().trim_end_matches('/');
    match &mirror.credential {
        ProxyCredential::Anonymous => url.to_owned(),
        ProxyCredential::Basic { username, .. } => format!("{url}, as {}", username.escape_debug()),
        ProxyCredential::Issued(source) => format!("{url}, by {}", source.kind()),
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    f.write_str(&labelled(name, value))
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str) -> (ExitStatus, String, String) {
        check_with(toml, &[])
    }

    fn check_with(toml: &str, variables: &[(&str, &str)]) -> (ExitStatus, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, toml).unwrap();
        let arguments = ConfigArgs { config: Some(path), ..ConfigArgs::default() };
        let own = [("HOME", "/home/test"), ("SECRET", "hunter2")];
        let environment = own.iter().chain(variables).copied().collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(&arguments, None, &environment, &mut out, &mut err);
        let out = String::from_utf8(out).unwrap();
        let shown = out.replace(dir.path().to_str().unwrap(), "DIR");
        (exit, shown, String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_report_shows_what_results() {
        let (exit, out, err) = check(
            "listen = ['0.0.0.0:5000']\n[cache]\nmemory = '128MB'\n[registry.'harbor.corp:8443']\n\
             upstream = ['http://cache.corp', 'https://harbor.corp:8443']\n\
             default = true\nprefix = 'harbor.corp'\nredirect_hosts = ['minio.corp']\n\
             auth = { type = 'basic', username = 'robot', password_env = 'SECRET' }\n",
        );

        assert_eq!((exit, err.as_str()), (ExitStatus::Done, ""));
        assert_eq!(
            out,
            "configuration    DIR/config.toml\n\
             \n\
             # what differs from the defaults\n\
             listen = [\"0.0.0.0:5000\"]  # default: [\"127.0.0.1:5000\"]\n\
             cache.memory = \"128MB\"  # default: \"64MiB\"\n\
             registry.\"harbor.corp:8443\".upstream = \
             [\"http://cache.corp\",\"https://harbor.corp:8443\"]\n\
             registry.\"harbor.corp:8443\".default = true\n\
             registry.\"harbor.corp:8443\".prefix = \"harbor.corp\"\n\
             registry.\"harbor.corp:8443\".auth.type = \"basic\"\n\
             registry.\"harbor.corp:8443\".auth.username = \"robot\"\n\
             registry.\"harbor.corp:8443\".auth.password_env = \"SECRET\"\n\
             registry.\"harbor.corp:8443\".redirect_hosts = [\"minio.corp\"]\n\
             \n\
             # what results\n\
             listen           0.0.0.0:5000\n\
             admin_listen     127.0.0.1:5001\n\
             dashboard        127.0.0.1:5002\n\
             client_stall     10m\n\
             connections      1024 per client\n\
             shutdown_grace   30s\n\
             \n\
             [cache]\n\
             dir              /home/test/.cache/larder\n\
             memory           122.1 MiB\n\
             max_size         no limit\n\
             min_free         1.0 GiB, at most a twentieth of the file system\n\
             max_idle         no limit\n\
             protected        25% until 90days after the last pull\n\
             fill_keep        1day\n\
             stale_wait       2s\n\
             verify_every     30days\n\
             scrub_every      30days\n\
             \n\
             [registry.\"harbor.corp:8443\"]\n\
             mirror           http://cache.corp\n\
             upstream         https://harbor.corp:8443\n\
             default          yes\n\
             aliases          none\n\
             prefix           harbor.corp\n\
             tag_ttl          1m\n\
             max_stale        30days\n\
             auth             basic, as robot\n\
             redirect_hosts   minio.corp\n\
             max_connections  64\n"
        );
    }

    #[test]
    fn what_differs_from_the_defaults_comes_first_and_is_led_by_push() {
        let (exit, out, _) = check_with(
            "log_level = 'debug'\n[traces]\nheaders = 'authorization: Bearer hunter2'\n\
             [registry.'docker.io']\nupstream = 'https://registry-1.docker.io'\npush = true\n",
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")],
        );

        assert_eq!(exit, ExitStatus::Done);
        let first = "configuration    DIR/config.toml\n\
                     \n\
                     # what differs from the defaults\n\
                     registry.\"docker.io\".push = true  # default: false\n\
                     log_level = \"debug\"  # default: \"info\"\n\
                     registry.\"docker.io\".upstream = \"https://registry-1.docker.io\"\n\
                     traces.headers is secret\n\
                     \n\
                     # what results\n\
                     listen           127.0.0.1:5000\n";
        assert!(out.starts_with(first), "{out}");
        let traces = "[traces]\n\
                      endpoint         http://127.0.0.1:4318/v1/traces\n\
                      sample_ratio     1\n";
        assert!(out.contains(traces) && !out.contains("hunter2"), "{out}");
    }

    #[test]
    fn proxies_are_shown_without_their_passwords() {
        let variables =
            [("ALL_PROXY", "http://me:hunter2@p.corp:3128"), ("NO_PROXY", "corp.example")];
        let (exit, out, _) = check_with("", &variables);

        assert_eq!(exit, ExitStatus::Done);
        let want = "[environment]\nHTTP_PROXY       http://p.corp:3128\n\
            HTTPS_PROXY      http://p.corp:3128\nNO_PROXY         corp.example\n";
        assert!(out.contains(want), "{out}");
        assert!(!out.contains("hunter2"), "{out}");
    }

    #[test]
    fn all_problems_are_reported_at_once_and_nothing_on_stdout() {
        let (exit, out, err) = check("shutdown_grace = '5'\n[cache]\nmemory = '0'\n");

        assert_eq!((exit, out.as_str()), (ExitStatus::Misused, ""));
        assert!(err.contains("config.toml:1:18\n key: shutdown_grace\nhint: "), "{err}");
        assert!(err.contains("config.toml:3:10\n key: cache.memory\nhint: "), "{err}");
    }
}
