//! From what is written to what every module is given.
//!
//! Each module declares its own `CacheOptions`; this is the only place that knows them all. Reading
//! files and the environment for secrets happens on the way; nothing is created or connected to.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretSlice;
use url::Host;

use super::diagnostics::{Diagnostics, ValueFault, quoted};
use super::listeners::{ClientLimits, ListenerSettings};
use super::quantity::ZeroRule;
use super::resolver::Resolver;
use super::written::{CacheTable, FileTable, Text};
use super::{access, defaults, listeners, proxies, registries};
use crate::cache;
use crate::http::ProxyOptions;
use crate::push;
use crate::registry;
use crate::store;

/// Everything that an operator can decide, ready for use.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients are listened to; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Where operators are answered, if anywhere.
    pub admin: Option<SocketAddr>,
    /// What one client may hold.
    pub clients: ClientLimits,
    /// How long running transfers may go on after the request to stop.
    pub shutdown_grace: Duration,
    /// For the store.
    pub store: store::StoreOptions,
    /// For the pull path.
    pub cache: cache::CacheOptions,
    /// What is between us and upstreams: the environment's alone to say, as for any program.
    pub proxies: ProxyOptions,
    /// For the push path.
    pub push: push::PushOptions,
    /// The registries; at least one, at most one of them the default, no two with a common name.
    pub registries: Vec<registry::RegistryOptions>,
    /// What the operator should be told although it stops nothing.
    pub warnings: Vec<String>,
}

/// Gives meaning to what is written, or says all that is wrong with it.
pub(super) fn resolve(
    file: FileTable,
    mut resolver: Resolver<'_>,
) -> Result<Settings, Diagnostics> {
    let listeners =
        listeners::resolve(file.listen, file.tls, file.access, file.listener, &mut resolver);
    let (stall, connections) = (file.client_stall, file.connections_per_client);
    let clients = listeners::client_limits(stall.as_ref(), connections.as_ref(), &mut resolver);
    let grace = file.shutdown_grace.as_ref();
    let admin = listeners::admin(file.admin_listen.as_ref(), &listeners, &mut resolver);
    let settings = Settings {
        shutdown_grace: resolver.duration(grace, ZeroRule::Meaningful, defaults::SHUTDOWN_GRACE),
        store: store_options(&file.cache, &mut resolver),
        cache: cache_options(&file.cache, &mut resolver),
        proxies: proxies::resolve(&mut resolver),
        push: push_options(&file.cache, &mut resolver),
        registries: registries::resolve(file.registry, &mut resolver),
        listeners,
        admin,
        clients,
        warnings: Vec::new(),
    };
    refuse_loops(&settings, &mut resolver);
    access::check(&settings.listeners, &settings.registries, &mut resolver);
    Diagnostics::none_or(resolver.problems, Settings { warnings: resolver.warnings, ..settings })
}

fn store_options(written: &CacheTable, resolver: &mut Resolver<'_>) -> store::StoreOptions {
    let dir = match &written.dir {
        Some(text) => cache_dir(text, resolver),
        None => defaults::cache_dir(resolver.environment())
            .map_err(|fault| resolver.report_missing(fault))
            .ok(),
    };
    store::StoreOptions {
        dir: dir.unwrap_or_default(),
        min_free: resolver.size(
            written.min_free.as_ref(),
            ZeroRule::Meaningful,
            defaults::MIN_FREE,
        ),
        // What is being fetched right now must not look too old to keep.
        fill_keep: resolver.duration(
            written.fill_keep.as_ref(),
            ZeroRule::Rejected,
            defaults::FILL_KEEP,
        ),
        verify_every: resolver.duration(
            written.verify_every.as_ref(),
            ZeroRule::Rejected,
            defaults::VERIFY_EVERY,
        ),
        index: Some(store::IndexOptions { checker: Some(defaults::PROGRAM.into()) }),
    }
}

/// The store makes what is missing and checks what is there; here only what cannot be meant.
fn cache_dir(text: &Text, resolver: &mut Resolver<'_>) -> Option<PathBuf> {
    let dir = resolver.path_as_written(text.get_ref()).and_then(|dir| {
        if !dir.is_absolute() {
            return Err(ValueFault::new(format!("{} is a relative path", quoted(text.get_ref())))
                .hint("write it from `/` or `~/` on, so that it is the same from everywhere"));
        }
        if NOT_OURS.iter().any(|theirs| dir == Path::new(theirs)) {
            return Err(ValueFault::new(format!("`{}` belongs to the system", dir.display()))
                .hint("give Larder a directory of its own, such as `/var/cache/larder`"));
        }
        if dir.exists() && !dir.is_dir() {
            return Err(ValueFault::new(format!("`{}` is not a directory", dir.display())));
        }
        Ok(dir)
    });
    resolver.accept(text.span(), dir)
}

fn cache_options(written: &CacheTable, resolver: &mut Resolver<'_>) -> cache::CacheOptions {
    let stale_wait = written.stale_wait.as_ref();
    cache::CacheOptions {
        memory: resolver.size(written.memory.as_ref(), ZeroRule::Rejected, defaults::MEMORY),
        stale_wait: resolver.duration(stale_wait, ZeroRule::Meaningful, defaults::STALE_WAIT),
    }
}

fn push_options(written: &CacheTable, resolver: &mut Resolver<'_>) -> push::PushOptions {
    let key = written.session_key_file.as_ref().and_then(|file| {
        let bytes = resolver.file(file, SESSION_KEY_BYTES_MAX, true)?;
        let is_long = bytes.trim_ascii().len() >= push::PushOptions::SESSION_KEY_BYTES_MIN;
        let key = is_long.then(|| SecretSlice::from(bytes.trim_ascii().to_vec()));
        let fault = || {
            let min = push::PushOptions::SESSION_KEY_BYTES_MIN;
            ValueFault::new(format!("the key has fewer than {min} bytes"))
                .hint("make one with `openssl rand -hex 32`")
        };
        resolver.accept(file.span(), key.ok_or_else(fault))
    });
    push::PushOptions { session_key: key }
}

/// A key that is longer gains nothing.
const SESSION_KEY_BYTES_MAX: u64 = 4096;

/// A request to a registry that is Larder itself would come back for ever.
fn refuse_loops(settings: &Settings, resolver: &mut Resolver<'_>) {
    let upstreams = settings.registries.iter().flat_map(|registry| {
        let upstreams = registry.mirrors.iter().chain([&registry.upstream]);
        upstreams.map(move |upstream| (&registry.name, &upstream.url))
    });
    for (name, url) in upstreams {
        let port = url.port_or_known_default();
        let target = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain("localhost")) => Some(IpAddr::from([127, 0, 0, 1])),
            _ => None,
        };
        let is_own = |own: &SocketAddr| {
            let is_same = target == Some(own.ip());
            let is_any = own.ip().is_unspecified() && target.is_some_and(|ip| ip.is_loopback());
            Some(own.port()) == port && (is_same || is_any)
        };
        if let Some(own) = settings.listeners.iter().map(|own| own.address).find(is_own) {
            resolver.report_missing(ValueFault::new(format!(
                "an upstream of `{name}` is Larder itself, which listens on `{own}`"
            )));
        }
    }
}

/// Directories that somebody names by mistake, as in `dir = "$UNSET/"`.
const NOT_OURS: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/cache",
];
