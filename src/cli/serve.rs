//! `larder serve`: the proxy itself.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::exit::ExitStatus;
use super::logging;
use super::logging::FormatArgument;
use super::output::say;
use crate::app::{self, RunEnd};
use crate::config;
use crate::config::{ConfigArgs, ConfigSource, Environment, LoadedConfig, LogFormat, LogOutput};
use crate::registry::RegistryOptions;

/// Serves until told to stop.
pub(super) fn run(
    arguments: &ConfigArgs,
    environment: &Environment,
    log_format: Option<FormatArgument>,
    err: &mut dyn Write,
) -> ExitStatus {
    let loaded = match config::load(arguments, environment) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say(err, &format!("{problems}\n"));
            return ExitStatus::Misused;
        }
    };
    let log = &loaded.settings.log;
    let filter = match logging::filter(log, environment) {
        Ok(filter) => filter,
        Err(problem) => {
            say(err, &format!("{problem}\n"));
            return ExitStatus::Misused;
        }
    };
    let format = log_format.map_or(log.format, LogFormat::from);
    let log = logging::install(filter, format, environment);
    announce(&loaded);
    let source = ConfigSource { arguments: arguments.clone(), environment: environment.clone() };
    match serve(loaded, source, log) {
        Ok(RunEnd::Stopped) => ExitStatus::Done,
        Ok(RunEnd::Interrupted) => ExitStatus::Failed,
        Err(error) => {
            say(err, &format!("error: {error:#}\n"));
            ExitStatus::Failed
        }
    }
}

/// The first line of the log: the program, and where its configuration and its cache are.
fn announce(loaded: &LoadedConfig) {
    let registries = loaded.settings.registries.iter().map(RegistryOptions::key);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %loaded.file.as_deref().map_or("none".into(), Path::to_string_lossy),
        cache = %loaded.settings.store.dir.display(),
        registries = registries.collect::<Vec<_>>().join(","),
        "larder starts",
    );
}

/// On one core, too, a client is not to wait for whatever another one's worker is at.
const WORKERS_MIN: usize = 2;

/// After how many tasks a worker looks for those that the blocking pool has woken, such as readers
/// of a file that was just written to. A task of a fill takes up to 0.5 ms, to receive 256 KiB; the
/// default is 61 at first. Looking costs less than a microsecond.
const REMOTE_INTERVAL: u32 = 4;

/// After how many tasks a worker looks for sockets that have become ready.
const EVENT_INTERVAL: u32 = 16;

fn serve(loaded: LoadedConfig, source: ConfigSource, log: LogOutput) -> anyhow::Result<RunEnd> {
    // Fails if one is installed already, which then is this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(WORKERS_MIN))
        .global_queue_interval(REMOTE_INTERVAL)
        .event_interval(EVENT_INTERVAL)
        .enable_all()
        .build()
        .context("the threads cannot be started")?;
    let end = runtime.block_on(app::run(loaded.settings, source, log));
    // Without this, a thread that waits for the disk would be waited for.
    let wait = if let Ok(RunEnd::Interrupted) = end { Duration::ZERO } else { THREADS_WAIT };
    runtime.shutdown_timeout(wait);
    Ok(end?)
}

/// How long threads that still wait for the disk are waited for at the end, when all that is worth
/// waiting for has been.
const THREADS_WAIT: Duration = Duration::from_secs(2);
