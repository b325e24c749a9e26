//! From the tables of the file to the options of every module.
//!
//! Each module declares its own options; this is the only place that knows them all. Reading files
//! and the environment for secrets happens on the way; nothing is created or connected to.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretSlice;

use super::access_log::{self, AccessLogSettings};
use super::checks;
use super::dashboard::{self, DashboardSettings};
use super::defaults;
use super::diagnostics::{Diagnostic, Diagnostics, ValueFault, quoted};
use super::import_keys;
use super::keys::{CacheTable, FileTable, PinTable};
use super::listeners::{self, ClientLimits, ListenerSettings};
use super::log_settings::LogSettings;
use super::proxies;
use super::reader::{KeyLocation, Located};
use super::registries;
use super::registry_keys::NamedRegistry;
use super::resolver::Resolver;
use super::traces;
use super::values::{ALL_PLATFORMS, FilledList};
use super::warm_keys::WarmTable;
use crate::bundle::BundleKey;
use crate::cache::CacheOptions;
use crate::http::ProxyOptions;
use crate::inventory::{ImageSelection, PinPattern, PullThreshold, WarmOptions, own_platform};
use crate::oci::RegistryName;
use crate::push::PushOptions;
use crate::registry::{RegistryOptions, RepositoryPattern};
use crate::store::{
    IndexOptions, ProtectionLimits, RegistryRetention, RetentionLimits, SpaceLimits, StoreOptions,
};
use crate::traces::TraceOptions;

/// Everything that an operator can decide, ready for use.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The listeners for clients; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// The address of the admin port, if it has one.
    pub admin: Option<SocketAddr>,
    /// The page for operators.
    pub dashboard: DashboardSettings,
    /// The share of one client.
    pub clients: ClientLimits,
    /// How long running transfers may go on after the request to stop.
    pub shutdown_grace: Duration,
    /// The log.
    pub log: LogSettings,
    /// The file with a line for each request, if there is one.
    pub access_log: Option<AccessLogSettings>,
    /// The collector of traces, if there is one.
    pub traces: Option<TraceOptions>,
    /// For the store.
    pub store: StoreOptions,
    /// The images that are kept.
    pub pins: Vec<PinPattern>,
    /// The images that are fetched at an interval.
    pub warm: Vec<WarmOptions>,
    /// The keys of which one has to have signed an archive; none if it needs no signature.
    pub import_keys: Vec<BundleKey>,
    /// For the pull path.
    pub cache: CacheOptions,
    /// The proxies towards upstreams: the environment's alone to say, as for any program.
    pub proxies: ProxyOptions,
    /// For the push path.
    pub push: PushOptions,
    /// The registries; at least one, at most one of them the default, no two with a common name.
    pub registries: Vec<RegistryOptions>,
    /// Warnings for the operator: the configuration is valid in spite of them.
    pub warnings: Vec<Diagnostic>,
}

/// Gives meaning to the tables, or says all that is wrong with them.
pub(super) fn resolve(
    mut file: FileTable,
    mut resolver: Resolver<'_>,
) -> Result<Settings, Diagnostics> {
    let listeners = listeners::resolve(&mut file, &mut resolver);
    let retention = retention(&file);
    let pins = file.pin.drain(..).map(pin).collect();
    let warm = std::mem::take(&mut file.warm);
    resolver.own = listeners.iter().map(|it| (it.address, it.names.clone())).collect();
    let registries = registries::resolve(file.registry.take(), &mut resolver);
    let settings = Settings {
        warm: warm.into_iter().map(|it| warm_options(it, &registries, &mut resolver)).collect(),
        admin: listeners::admin(&file.admin_listen, &listeners, &mut resolver),
        dashboard: dashboard::resolve(&file, &listeners, &mut resolver),
        clients: ClientLimits {
            stall: file.client_stall.0,
            connections: file.connections_per_client.0,
        },
        shutdown_grace: file.shutdown_grace,
        log: LogSettings { filter: file.log_level, format: file.log_format },
        access_log: access_log::resolve(&file.access_log, &mut resolver),
        traces: traces::resolve(&file.traces, &mut resolver),
        store: store_options(&file.cache, retention, &mut resolver),
        pins,
        import_keys: import_keys::resolve(&file.import, &mut resolver),
        cache: CacheOptions {
            memory: file.cache.memory.0,
            stale_wait: file.cache.stale_wait,
            scrub_every: file.cache.scrub_every,
        },
        proxies: proxies::resolve(&mut resolver),
        push: push_options(&file.cache, &mut resolver),
        registries,
        listeners,
        warnings: Vec::new(),
    };
    checks::check(&settings.listeners, &settings.registries, &mut resolver);
    let Resolver { reader, warnings, .. } = resolver;
    reader.into_result(Some(Settings { warnings, ..settings }))
}

fn pin(PinTable { registries, repositories, tags }: PinTable) -> PinPattern {
    let values = |list: FilledList<Located<RegistryName>>| list.0.into_iter().map(|it| it.value);
    PinPattern {
        registries: registries.map(|list| values(list).collect()),
        repositories: repositories.0,
        tags: tags.map_or_else(|| vec![RepositoryPattern::any()], |list| list.0),
    }
}

fn warm_options(
    Located { value: written, at }: Located<WarmTable>,
    registries: &[RegistryOptions],
    resolver: &mut Resolver<'_>,
) -> WarmOptions {
    let pulled = pull_threshold(&written, &at, resolver);
    let images = written.images.iter().flat_map(|list| &list.0).filter_map(|image| {
        let selected = ImageSelection::resolve(&image.value, registries).map_err(|_| {
            ValueFault::new(format!("{} is not the name of an image", quoted(&image.value)))
                .hint("write `registry/repository:tag`; without a registry it is the default one")
        });
        resolver.accept(&image.at, selected)
    });
    let images = images.collect();
    let platforms = match written.platforms {
        None => vec![own_platform()],
        Some(list) if list.0.iter().any(|it| it.0 == ALL_PLATFORMS) => Vec::new(),
        Some(list) => list.0.into_iter().map(|it| it.0).collect(),
    };
    let every = written.every.value.0;
    if every < WARM_EVERY_MIN {
        let fault = ValueFault::new("it is less than a minute");
        resolver.report(&written.every.at, fault.hint("an upstream counts each look at a tag"));
    }
    WarmOptions { images, pulled, platforms, with_referrers: written.referrers, every }
}

/// The pulls that make a `[[warm]]` table fetch an image, if it is about pulls.
fn pull_threshold(
    written: &WarmTable,
    at: &KeyLocation,
    resolver: &mut Resolver<'_>,
) -> Option<PullThreshold> {
    if written.pulled.is_none() && written.within.is_given() {
        let fault = ValueFault::new("the table has no `pulled`");
        resolver.report(&written.within.at, fault.hint("say how many pulls within that time"));
    }
    if written.pulled.is_none() && written.images.is_none() {
        let fault = ValueFault::new("it has neither `images` nor `pulled`");
        resolver.report(at, fault.hint("name images, or say how often one has to be pulled"));
    }
    let pulls = written.pulled.as_ref()?.value.0;
    Some(PullThreshold { pulls, within: written.within.value.0 })
}

/// How long content is kept, and how much of each registry.
fn retention(file: &FileTable) -> RetentionLimits {
    let limit = |idle: Duration| Some(idle).filter(|idle| !idle.is_zero());
    let by_default = limit(file.cache.max_idle);
    let registries = file.registry.iter().flat_map(|tables| &tables.0).map(|registry| {
        let NamedRegistry { name, table, .. } = registry;
        let max_idle = table.max_idle.map_or(by_default, limit);
        RegistryRetention { registry: name.value.clone(), max_size: table.max_size.0, max_idle }
    });
    let differs = |it: &RegistryRetention| it.max_size.is_some() || it.max_idle != by_default;
    let protection =
        ProtectionLimits { amount: file.cache.protect_max.0, keep_for: file.cache.protect_for };
    let registries = registries.filter(differs).collect();
    RetentionLimits { max_idle: by_default, registries, protection }
}

fn store_options(
    written: &CacheTable,
    retention: RetentionLimits,
    resolver: &mut Resolver<'_>,
) -> StoreOptions {
    let dir = match &written.dir {
        Some(text) => {
            let dir = cache_dir(text, resolver);
            resolver.accept(&text.at, dir)
        }
        None => defaults::cache_dir(resolver.environment)
            .map_err(|fault| resolver.report_missing(fault))
            .ok(),
    };
    StoreOptions {
        dir: dir.unwrap_or_default(),
        limits: SpaceLimits { max_size: written.max_size.0, min_free: written.min_free.0 },
        retention,
        fill_keep: written.fill_keep.0,
        verify_every: written.verify_every.0,
        index: Some(IndexOptions { checker: Some(defaults::PROGRAM.into()) }),
    }
}

/// The store makes what is missing and checks what is there; here only what cannot be meant.
fn cache_dir(written: &Located<String>, resolver: &Resolver<'_>) -> Result<PathBuf, ValueFault> {
    let dir = resolver.path_as_written(&written.value)?;
    if !dir.is_absolute() {
        return Err(ValueFault::new(format!("{} is a relative path", quoted(&written.value)))
            .hint("write it from `/` or `~/` on, so that it is the same from everywhere"));
    }
    if SYSTEM_DIRS.split(' ').any(|theirs| dir == Path::new(theirs)) {
        return Err(ValueFault::new(format!("`{}` belongs to the system", dir.display()))
            .hint("give Larder a directory of its own, such as `/var/cache/larder`"));
    }
    // A disk that fails while it is looked at is none of the configuration's.
    if fs::metadata(&dir).is_ok_and(|there| !there.is_dir()) {
        return Err(ValueFault::new(format!("`{}` is not a directory", dir.display())));
    }
    Ok(dir)
}

fn push_options(written: &CacheTable, resolver: &mut Resolver<'_>) -> PushOptions {
    let key = written.session_key_file.as_ref().and_then(|file| {
        let bytes = resolver.secret_file(file, SESSION_KEY_BYTES_MAX)?;
        let min = PushOptions::SESSION_KEY_BYTES_MIN;
        let is_long = bytes.trim_ascii().len() >= min;
        let key = is_long.then(|| SecretSlice::from(bytes.trim_ascii().to_vec()));
        let fault = || {
            ValueFault::new(format!("the key has fewer than {min} bytes"))
                .hint("make one with `openssl rand -hex 32`")
        };
        resolver.accept(&file.at, key.ok_or_else(fault))
    });
    PushOptions { session_key: key }
}

/// A key that is longer gains nothing.
const SESSION_KEY_BYTES_MAX: u64 = 4096;

/// Runs that follow each other more closely only cost: tags are believed for about that long.
const WARM_EVERY_MIN: Duration = Duration::from_secs(60);

/// Directories that are named by mistake, as in `dir = "$UNSET/"`.
const SYSTEM_DIRS: &str = "/ /bin /boot /dev /etc /home /lib /lib64 /proc /root /run /sbin /sys \
                           /tmp /usr /var /var/lib /var/cache";
