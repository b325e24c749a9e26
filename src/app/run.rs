//! The process: what it does from its start to its end, and upon signals.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;

use super::access_log::OpenedAccessLog;
use super::certificates::LOOK_EVERY;
use super::control_socket::ControlSocket;
use super::notify::ServiceManager;
use super::operators::OperatorPorts;
use super::ports::ListenPorts;
use super::pull_log::PullLog;
use super::{App, AppParts, StartError, certificates, passwords, request_log, users};
use crate::clock::BootId;
use crate::config::{ConfigSource, Diagnostic, Diagnostics, LogOutput, Settings};
use crate::http::InheritedListeners;

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Running transfers were waited for, as long as the grace allows.
    Stopped,
    /// A second signal came, so nothing was waited for any more.
    Interrupted,
}

/// Serves until SIGTERM or SIGINT; a second one ends the process at once. On SIGHUP the
/// configuration is read again from `source`. `log` is the form of the lines of requests.
pub async fn run(
    settings: Settings,
    source: ConfigSource,
    log: LogOutput,
) -> Result<RunEnd, StartError> {
    prepare_process();
    warn(&settings);
    let mut signals = SignalStreams::new().map_err(StartError::Signals)?;
    let access_log = OpenedAccessLog::open(settings.access_log.as_ref())?;
    let inherited = Arc::new(InheritedListeners::of_process().map_err(StartError::Inherited)?);
    warn_of_unused(&inherited, &settings);
    let mut ports = ListenPorts::new(Arc::clone(&inherited));
    let mut operators = OperatorPorts::new(&inherited);
    let prepared = ports.prepare(&settings.listeners)?;
    let for_operators = operators.prepare(&settings)?;
    let page = operators.commit_admin(for_operators).await;
    let Some(app) = open(&settings, &mut signals).await? else { return Ok(RunEnd::Interrupted) };
    operators.show(&app, settings.store.dir.clone());
    operators.commit_page(page, &app).await;
    let control = ControlSocket::open(&app, &settings.store.dir, operators.page());
    let (request_lines, pull_log) = (request_log::start(&app, log), PullLog::start(&app));
    let access_log = access_log.start(&app);
    ports.commit(prepared, &app).await;
    let manager = ServiceManager::of(&source.environment);
    manager.ready();
    let opened = settings.clone();
    let process =
        RunningProcess { app: app.clone(), ports, operators, settings, opened, source, manager };
    let sweeping = tokio::spawn(async move { app.sweep_periodically().await });
    let end = process.serve(&mut signals).await;
    sweeping.abort();
    control.close().await;
    if end == RunEnd::Stopped {
        pull_log.finish().await;
        request_lines.finish().await;
        access_log.finish().await;
    }
    Ok(end)
}

fn prepare_process() {
    raise_descriptor_limit();
    // No file of this process is for others, whatever the umask was.
    umask(Mode::RWXG | Mode::RWXO);
    warn_of_missing_boot_id();
}

fn warn_of_missing_boot_id() {
    if BootId::of_machine().is_none() {
        tracing::warn!(
            "cannot read /proc/sys/kernel/random/boot_id: after each restart of Larder, stored \
             content is verified before it is a hit; a unit must not have ProcSubset=pid"
        );
    }
}

/// Tells of sockets of the service manager that no listener uses: connections to one would wait for
/// ever.
fn warn_of_unused(inherited: &InheritedListeners, settings: &Settings) {
    let addresses = settings.listeners.iter().map(|listener| listener.address);
    let of_operators = [settings.admin, settings.dashboard.address];
    let used: Vec<_> = addresses.chain(of_operators.into_iter().flatten()).collect();
    for address in inherited.unused(&used) {
        let hint = "`listen` and the socket unit's `ListenStream` have to be the same";
        tracing::warn!(%address, hint, "no listener uses the socket of the service manager");
    }
}

/// Opens the app. A signal is for when it is open; after a second one there is none, so that a disk
/// that hangs does not hold the process.
async fn open(settings: &Settings, signals: &mut SignalStreams) -> Result<Option<App>, StartError> {
    let mut opening = pin!(App::open(settings, AppParts::default()));
    tokio::select! {
        app = &mut opening => return app.map(Some),
        () = signals.stop() => signals.is_stop_due = true,
    }
    tokio::select! {
        app = opening => app.map(Some),
        () = signals.stop() => Ok(None),
    }
}

/// The files that are read again when they change.
#[derive(Default)]
struct WatchedFiles {
    certificates: certificates::CertificateWatch,
    users: users::UsersWatch,
    passwords: passwords::PasswordWatch,
}

/// The state that signals change.
struct RunningProcess {
    app: App,
    ports: ListenPorts,
    operators: OperatorPorts,
    /// The settings in force.
    settings: Settings,
    /// The settings of the start, which store and memory cache keep.
    opened: Settings,
    source: ConfigSource,
    manager: ServiceManager,
}

impl RunningProcess {
    async fn serve(mut self, signals: &mut SignalStreams) -> RunEnd {
        let mut files = WatchedFiles::default();
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    SignalRequest::Reload => self.reload().await,
                    SignalRequest::Stop => break,
                },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            files = self.look_at(files).await;
        }
        let grace_seconds = self.settings.shutdown_grace.as_secs_f64();
        tracing::info!(grace_seconds, "stopping");
        self.manager.stopping();
        tokio::select! {
            () = self.app.stop() => RunEnd::Stopped,
            () = signals.stop() => {
                tracing::warn!("a second signal: ending at once");
                RunEnd::Interrupted
            }
        }
    }

    /// Takes up what has changed in files that the configuration names.
    async fn look_at(&mut self, mut files: WatchedFiles) -> WatchedFiles {
        let served = self.ports.served();
        let of_page = self.operators.access();
        let mut registries = self.settings.registries.clone();
        let looked = spawn_blocking(move || {
            files.certificates.look(served.iter().map(|served| Arc::clone(&served.tls)));
            let accesses = served.iter().map(|served| Arc::clone(&served.access));
            files.users.look(accesses.chain([of_page]));
            let is_changed = files.passwords.look(&mut registries);
            (files, is_changed.then_some(registries))
        });
        let (files, changed) = looked.await.unwrap_or_default();
        if let Some(registries) = changed {
            self.settings.registries = registries;
            if let Err(error) = self.app.reload(&self.settings) {
                tracing::error!(%error, "the upstreams cannot be set up with another password");
            }
        }
        files
    }

    /// Lets the configuration as it is now hold, if it can.
    async fn reload(&mut self) {
        self.manager.reloading();
        let reloaded = self.try_reload().await;
        self.app.is_reload_successful.store(reloaded.is_ok(), Ordering::Relaxed);
        match reloaded {
            Ok(()) => tracing::info!("the configuration was read again"),
            Err(error) => {
                for problem in error.lines() {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration cannot be used, the old one stays in service");
            }
        }
        self.manager.ready();
    }

    async fn try_reload(&mut self) -> Result<(), ReloadError> {
        let source = self.source.clone();
        let loaded = spawn_blocking(move || source.load()).await;
        let settings = loaded.map_err(|_| StartError::Interrupted)??.settings;
        // All that can fail comes first, so that nothing is changed by half.
        let prepared = self.ports.prepare(&settings.listeners)?;
        let for_operators = self.operators.prepare(&settings)?;
        self.app.reload(&settings).map_err(StartError::from)?;
        self.ports.commit(prepared, &self.app).await;
        let page = self.operators.commit_admin(for_operators).await;
        self.operators.commit_page(page, &self.app).await;
        warn(&settings);
        warn_of_unused(&self.ports.inherited, &settings);
        for key in restart_keys(&self.opened, &settings) {
            tracing::warn!("`{key}` cannot change while Larder runs; it takes a restart");
        }
        self.settings = settings;
        Ok(())
    }
}

fn warn(settings: &Settings) {
    for warning in &settings.warnings {
        tracing::warn!("{}", warning.to_line());
    }
}

/// The keys that differ from those with which the store and the memory cache were opened.
fn restart_keys(opened: &Settings, new: &Settings) -> Vec<&'static str> {
    let key = |it: &Settings| it.push.session_key.as_ref().map(|key| key.expose_secret().to_vec());
    let keys = [
        ("log_level", opened.log.filter != new.log.filter),
        ("log_format", opened.log.format != new.log.format),
        ("access_log", opened.access_log != new.access_log),
        ("traces", opened.traces != new.traces),
        ("cache.dir", opened.store.dir != new.store.dir),
        ("cache.memory", opened.cache.memory != new.cache.memory),
        ("cache.fill_keep", opened.store.fill_keep != new.store.fill_keep),
        ("cache.session_key_file", key(opened) != key(new)),
        ("cache.stale_wait", opened.cache.stale_wait != new.cache.stale_wait),
        ("cache.scrub_every", opened.cache.scrub_every != new.cache.scrub_every),
        ("cache.verify_every", opened.store.verify_every != new.store.verify_every),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// Why a new configuration is not taken.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Problems(#[from] Diagnostics),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl ReloadError {
    /// One line for each thing that is wrong, with its place.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Problems(problems) => problems.iter().map(Diagnostic::to_line).collect(),
            Self::Start(error) => {
                let mut line = error.to_string();
                let mut cause = error.source();
                while let Some(error) = cause {
                    line.extend([": ", &error.to_string()]);
                    cause = error.source();
                }
                vec![line]
            }
        }
    }
}

/// The signals that mean something.
struct SignalStreams {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    /// Whether one came that asks for the end, and is not heard yet.
    is_stop_due: bool,
}

#[derive(Clone, Copy, Debug)]
enum SignalRequest {
    Reload,
    Stop,
}

impl SignalStreams {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            is_stop_due: false,
        })
    }

    async fn next(&mut self) -> SignalRequest {
        if std::mem::take(&mut self.is_stop_due) {
            return SignalRequest::Stop;
        }
        self.receive().await
    }

    async fn receive(&mut self) -> SignalRequest {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => SignalRequest::Stop,
            _ = self.interrupt.recv() => SignalRequest::Stop,
            _ = self.hangup.recv() => SignalRequest::Reload,
        }
    }

    /// The next one that asks for the end.
    async fn stop(&mut self) {
        while !matches!(self.receive().await, SignalRequest::Stop) {}
    }
}

/// Each client may need two descriptors; the soft limit is often 1,024. Larder takes all that the
/// hard limit allows. If that fails, it accepts connections more slowly when it runs out.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files (RLIMIT_NOFILE)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigArgs, LogFormat, load};

    /// An operator who reverts a key, or changes one that takes effect, needs no restart.
    #[test]
    fn exactly_the_keys_that_differ_from_the_start_need_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(dir.path().join("key"), "k".repeat(32)).unwrap();
        let settings = |keys: &str| {
            std::fs::write(&path, format!("[cache]\n{keys}")).unwrap();
            let arguments = ConfigArgs { config: Some(path.clone()), ..ConfigArgs::default() };
            load(&arguments, &[("HOME", "/h")].into_iter().collect()).unwrap().settings
        };
        let opened = settings("");
        for (keys, want) in [
            ("", &[][..]),
            ("min_free = '2GiB'\nmax_size = '1GiB'", &[]),
            ("session_key_file = 'key'", &["cache.session_key_file"]),
            ("dir = '/c'", &["cache.dir"]),
            ("memory = '1MiB'\nstale_wait = '1s'", &["cache.memory", "cache.stale_wait"]),
            ("fill_keep = '1h'\nverify_every = '1d'", &["cache.fill_keep", "cache.verify_every"]),
        ] {
            assert_eq!(restart_keys(&opened, &settings(keys)), want, "{keys}");
        }
        let mut logging = opened.clone();
        logging.log.format = LogFormat::Json;
        assert_eq!(restart_keys(&opened, &logging), ["log_format"]);
    }

    #[test]
    fn a_refused_reload_logs_place_key_and_hint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let arguments = ConfigArgs { config: Some(path.clone()), ..ConfigArgs::default() };
        for (toml, place, key) in [
            ("listn = 1", ":1:1", "listn"),
            ("[cache]\nmemory = '5'", ":2:10", "cache.memory"),
            ("[registry.docker.io]", ":1:", "registry.docker"),
        ] {
            std::fs::write(&path, toml).unwrap();
            let problems = load(&arguments, &[("HOME", "/h")].into_iter().collect()).unwrap_err();
            let lines = ReloadError::from(problems).lines();
            let [line] = &lines[..] else { panic!("{lines:?}") };
            for part in [place, &format!("; key: {key}; hint: ")] {
                assert!(line.contains(part), "{line}");
            }
        }
    }
}
