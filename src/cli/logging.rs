//! The destination, format and filter of log lines.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Diagnostic, Environment, LOG, SourcePlace};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// One JSON object per line, for machines
    Json,
    /// For people
    #[default]
    Text,
}

/// The filter of log lines.
///
/// Gives a [`Diagnostic`] if `LARDER_LOG` cannot be understood: a filter that silently lets nothing
/// through would be found out when the log is needed.
pub(super) fn filter(environment: &Environment) -> Result<EnvFilter, Diagnostic> {
    let Some(text) = environment.value(LOG) else { return Ok(EnvFilter::new(LEVEL)) };
    let known = text.to_str().filter(|text| text.split(',').all(is_known));
    let parsed = known.and_then(|text| EnvFilter::builder().parse(text).ok());
    parsed.ok_or_else(|| Diagnostic {
        what: "this is not a log filter".to_owned(),
        place: SourcePlace::Variable(LOG.to_owned()),
        key: None,
        hint: Some("write a level, or `info,larder::upstream=debug`".to_owned()),
    })
}

/// Whether a directive is a level, or for a module of a crate that logs. Any other word silences
/// the log: it is a module that never says anything.
fn is_known(directive: &str) -> bool {
    let target = directive.split(['=', '[']).next().unwrap_or_default();
    let root = target.split("::").next().unwrap_or_default();
    target.parse::<LevelFilter>().is_ok() || LOGGING_CRATES.contains(&root)
}

const LOGGING_CRATES: [&str; 7] =
    ["larder", "h2", "hyper", "hyper_util", "rustls", "sled", "tokio"];

/// Starts logging to stderr. Does nothing if the process logs already.
pub(super) fn install(filter: EnvFilter, format: LogFormat, environment: &Environment) {
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
}

/// One line per request, and what an operator should know.
const LEVEL: &str = "info";

#[cfg(test)]
mod tests {
    use super::*;

    /// A misspelt level is a filter that lets nothing through, and so are misspelt modules.
    #[test]
    fn levels_and_crates_that_do_not_exist_are_refused() {
        let refused = |text: &str| filter(&[(LOG, text)].into_iter().collect()).err();
        for good in [
            "info",
            "DEBUG",
            "off",
            "3",
            "info,larder::upstream=debug",
            "larder=trace,hyper=debug",
            "info,larder::store[span]=debug",
        ] {
            assert_eq!(refused(good), None, "{good}");
        }
        for bad in [
            "inf",
            "verbose",
            "true",
            "9",
            "info debug",
            "info;larder=debug",
            "ladrer=debug",
            "info,upstream=debug",
            "larder.upstream=debug",
            "larder=loud",
        ] {
            let message = refused(bad).expect(bad).to_string();
            assert!(message.contains("LARDER_LOG\nhint: write a level"), "{message}");
        }
    }
}
