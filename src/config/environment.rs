//! Environment variables: which of them mean something to Larder.
//!
//! The variables are handed in, so tests have their own. A variable that is set to the empty text
//! counts as not set: no key takes an empty value, and compose files pass unset ones on that way.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::diagnostics::{ValueFault, nearest, quoted};
use super::keys::single_keys;
use crate::credentials::CredentialEnvironment;

/// The environment variables of a process.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of `name`, if it is set and not empty.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// The value of `name` as a path.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    /// The value of `name` as a text.
    pub(super) fn text(&self, name: &str) -> Option<Result<&str, ValueFault>> {
        let text = self.value(name)?.to_str();
        Some(
            text.ok_or_else(|| {
                ValueFault::new(format!("the value of {} is not UTF-8", quoted(name)))
            }),
        )
    }

    /// The variables that sources of credentials look at.
    pub(super) fn of_credentials(&self) -> CredentialEnvironment {
        let texts = self.variables.iter().filter_map(|(name, value)| {
            Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
        });
        CredentialEnvironment::new(texts)
    }

    /// A warning for each variable that looks like ours and is not.
    pub(super) fn warnings(&self) -> Vec<String> {
        let keys: Vec<String> = single_keys().map(|(table, key)| variable(table, key)).collect();
        let mut known: Vec<&str> = keys.iter().map(String::as_str).collect();
        known.extend([CONFIG, LOG]);
        let names = self.variables.keys().map(|name| name.to_string_lossy());
        names
            .filter(|name| name.starts_with(PREFIX) && !is_of_kubernetes(name))
            .filter(|name| !known.contains(&name.as_ref()))
            .map(|name| {
                let hint = match nearest(&name, &known) {
                    Some(known) => format!(" (did you mean `{known}`?)"),
                    None => String::new(),
                };
                format!("the environment variable {} means nothing to Larder{hint}", quoted(&name))
            })
            .collect()
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect() }
    }
}

/// The variable that overrides `key` of `table`.
pub(super) fn variable(table: &str, key: &str) -> String {
    let gap = if table.is_empty() { "" } else { "_" };
    format!("{PREFIX}{table}{gap}{key}").to_uppercase()
}

/// Kubernetes sets these in every pod beside a Service that is called `larder`.
fn is_of_kubernetes(name: &str) -> bool {
    name == "LARDER_PORT" || name.starts_with("LARDER_PORT_") || name.starts_with("LARDER_SERVICE_")
}

/// The variable that names the configuration file.
pub(super) const CONFIG: &str = "LARDER_CONFIG";

/// The variable that says what is logged.
pub const LOG: &str = "LARDER_LOG";

const PREFIX: &str = "LARDER_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_after_their_keys() {
        let names: Vec<_> = single_keys().map(|(table, key)| variable(table, key)).collect();

        assert_eq!(
            names,
            [
                "LARDER_LISTEN",
                "LARDER_ADMIN_LISTEN",
                "LARDER_CLIENT_STALL",
                "LARDER_CONNECTIONS_PER_CLIENT",
                "LARDER_SHUTDOWN_GRACE",
                "LARDER_LOG_LEVEL",
                "LARDER_LOG_FORMAT",
                "LARDER_ACCESS_LOG_FILE",
                "LARDER_ACCESS_LOG_MAX_FILE_SIZE",
                "LARDER_ACCESS_LOG_KEEP_FILES",
                "LARDER_TLS_CERT",
                "LARDER_TLS_KEY",
                "LARDER_TLS_CLIENT_CA",
                "LARDER_TLS_CLIENT_AUTH",
                "LARDER_ACCESS_ANONYMOUS",
                "LARDER_ACCESS_CHALLENGE",
                "LARDER_ACCESS_HTPASSWD",
                "LARDER_ACCESS_INSECURE_BASIC",
                "LARDER_DASHBOARD_LISTEN",
                "LARDER_DASHBOARD_NAMES",
                "LARDER_DASHBOARD_HTPASSWD",
                "LARDER_DASHBOARD_INSECURE_BASIC",
                "LARDER_CACHE_DIR",
                "LARDER_CACHE_MEMORY",
                "LARDER_CACHE_MAX_SIZE",
                "LARDER_CACHE_MIN_FREE",
                "LARDER_CACHE_MAX_IDLE",
                "LARDER_CACHE_PROTECT_MAX",
                "LARDER_CACHE_PROTECT_FOR",
                "LARDER_CACHE_FILL_KEEP",
                "LARDER_CACHE_SESSION_KEY_FILE",
                "LARDER_CACHE_STALE_WAIT",
                "LARDER_CACHE_VERIFY_EVERY",
                "LARDER_CACHE_SCRUB_EVERY",
                "LARDER_IMPORT_KEYS",
                "LARDER_TRACES_ENDPOINT",
                "LARDER_TRACES_SAMPLE_RATIO",
                "LARDER_TRACES_SERVICE_NAME",
                "LARDER_TRACES_HEADERS",
                "LARDER_TRACES_HEADERS_FILE",
                "LARDER_TRACES_CA",
            ]
        );
    }

    /// A pod must not start with a page of warnings because its Service is called `larder`.
    #[test]
    fn only_variables_that_could_be_meant_for_us_are_warned_about() {
        let environment: Environment = [
            ("LARDER_CACHE_DIRR", "/x"),
            ("LARDER_XYZZY", "1"),
            ("LARDER_LOG", "debug"),
            ("LARDER_LOG_LEVEL", "debug"),
            ("LARDER_CONFIG", "/c"),
            ("LARDER_LISTEN", "127.0.0.1:1"),
            ("LARDER_PORT", "tcp://10.0.0.1:5000"),
            ("LARDER_PORT_5000_TCP_ADDR", "10.0.0.1"),
            ("LARDER_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ]
        .into_iter()
        .collect();

        assert_eq!(
            environment.warnings(),
            [
                "the environment variable `LARDER_CACHE_DIRR` means nothing to Larder \
                 (did you mean `LARDER_CACHE_DIR`?)",
                "the environment variable `LARDER_XYZZY` means nothing to Larder",
            ]
        );
    }
}
