//! The destination, format and filter of log lines.

use std::io::IsTerminal;

use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{
    Diagnostic, Environment, LOG, LOG_HINT, LogFilter, LogFormat, LogOutput, LogSettings,
    SourcePlace,
};

/// The format of log lines, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FormatArgument {
    /// One JSON object per line, for machines
    Json,
    /// For people
    Text,
}

impl From<FormatArgument> for LogFormat {
    fn from(format: FormatArgument) -> Self {
        match format {
            FormatArgument::Json => Self::Json,
            FormatArgument::Text => Self::Text,
        }
    }
}

/// The filter of log lines: that of `LARDER_LOG`, else that of the configuration.
///
/// Gives a [`Diagnostic`] if `LARDER_LOG` cannot be understood.
pub(super) fn filter(
    settings: &LogSettings,
    environment: &Environment,
) -> Result<EnvFilter, Diagnostic> {
    let Some(text) = environment.value(LOG) else { return Ok(settings.filter.to_env_filter()) };
    let filter = text.to_str().and_then(LogFilter::parse);
    filter.map(|filter| filter.to_env_filter()).ok_or_else(|| Diagnostic {
        what: "this is not a log filter".to_owned(),
        place: SourcePlace::Variable(LOG.to_owned()),
        key: None,
        hint: Some(LOG_HINT.to_owned()),
    })
}

/// Starts logging to stderr. Does nothing if the process logs already. Gives the form of its
/// lines, for those of requests.
pub(super) fn install(
    filter: EnvFilter,
    format: LogFormat,
    environment: &Environment,
) -> LogOutput {
    // https://no-color.org
    let is_coloured = std::io::stderr().is_terminal() && environment.value("NO_COLOR").is_none();
    // A message about a stderr that cannot be written to would go to stderr, and panic there.
    let builder =
        fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let installed = match format {
        LogFormat::Json => builder.json().finish().try_init(),
        LogFormat::Text => builder.with_ansi(is_coloured).finish().try_init(),
    };
    drop(installed);
    LogOutput { format, is_coloured }
}
