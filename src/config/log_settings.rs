//! The keys about log lines: their filter and format. `cli` sends the lines on their way.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::diagnostics::{ValueFault, quoted};

/// The lines that the log has, and their format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The lines.
    pub filter: LogFilter,
    /// Their format.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: LogFilter("info".to_owned()), format: LogFormat::Text }
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// For people.
    Text,
}

/// The form of the lines on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOutput {
    /// Their format.
    pub format: LogFormat,
    /// Whether text is coloured, for a terminal.
    pub is_coloured: bool,
}

/// The filter of log lines: a level, or levels of modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter that a text means, unless the text names a level or a crate that does not exist:
    /// a filter that silently lets nothing through would be found out when the log is needed.
    pub fn parse(text: &str) -> Option<Self> {
        let is_known = !text.is_empty() && text.split(',').all(is_known);
        let is_filter = is_known && EnvFilter::builder().parse(text).is_ok();
        is_filter.then(|| Self(text.to_owned()))
    }

    /// The filter, for tracing.
    pub fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }

    pub(super) fn from_text(text: &str) -> Result<Self, ValueFault> {
        let fault = || ValueFault::new(format!("{} is not a log filter", quoted(text)));
        Self::parse(text).ok_or_else(|| fault().hint(HINT))
    }
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

/// For a text that is no filter.
pub const HINT: &str = "write a level, or `info,larder::upstream=debug`";

#[cfg(test)]
mod tests {
    use super::*;

    /// A misspelt level is a filter that lets nothing through, and so are misspelt modules.
    #[test]
    fn levels_and_crates_that_do_not_exist_are_refused() {
        for good in [
            "info",
            "DEBUG",
            "off",
            "3",
            "info,larder::upstream=debug",
            "larder=trace,hyper=debug",
            "info,larder::store[span]=debug",
        ] {
            assert!(LogFilter::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
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
            assert_eq!(LogFilter::parse(bad), None, "{bad}");
        }
    }
}
