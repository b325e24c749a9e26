//! `larder serve`: the proxy itself.

use std::io::Write;

use anyhow::Context;

use super::arguments::say;
use super::exit::Exit;
use super::logging;
use super::logging::LogFormat;
use crate::app;
use crate::config;
use crate::config::{Arguments, Environment, Loaded};

/// Serves until told to stop.
pub(super) fn run(
    arguments: &Arguments,
    environment: &Environment,
    log_format: LogFormat,
    err: &mut dyn Write,
) -> Exit {
    let loaded = match config::load(arguments, environment) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say(err, &format!("{problems}\n"));
            return Exit::Misused;
        }
    };
    let filter = match logging::filter(environment) {
        Ok(filter) => filter,
        Err(problem) => {
            say(err, &format!("{problem}\n"));
            return Exit::Misused;
        }
    };
    logging::install(filter, log_format, environment);
    match serve(loaded) {
        Ok(()) => Exit::Done,
        Err(error) => {
            say(err, &format!("error: {error:#}\n"));
            Exit::Failed
        }
    }
}

fn serve(loaded: Loaded) -> anyhow::Result<()> {
    for warning in &loaded.settings.warnings {
        tracing::warn!("{warning}");
    }
    // Fails if one is installed already, which then is this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the threads cannot be started")?;
    runtime.block_on(app::run(loaded.settings))?;
    Ok(())
}
