//! The configuration: TOML as written, then resolved into every module's options.
//!
//! `keys.rs` and `registry_keys.rs` declare the keys, with types, defaults and documentation.
//! `load.rs` finds the file and has it read; `settings.rs` gives the keys their meaning. No other
//! module reads a file or the environment to learn what to do.

mod access;
mod access_log;
mod auth_keys;
mod changed_key;
mod checks;
mod claims;
mod credential;
mod dashboard;
mod defaults;
mod diagnostics;
mod document;
mod environment;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod identity;
mod import_keys;
mod issued_credential;
mod keys;
mod listeners;
mod load;
mod log_settings;
mod manual;
mod name_patterns;
mod proxies;
mod quantity;
mod reader;
mod registries;
mod registry_keys;
mod resolver;
mod settings;
mod table;
mod tls;
mod traces;
mod upstream_url;
mod upstreams;
mod values;
mod warm_keys;

#[cfg(test)]
mod tests;

pub use access::AccessSettings;
pub use access_log::AccessLogSettings;
pub use changed_key::ChangedKey;
pub use credential::read_password_again;
pub use dashboard::DashboardSettings;
pub use defaults::{ADMIN_LISTEN, DASHBOARD_LISTEN};
pub use diagnostics::{Diagnostic, Diagnostics, SourcePlace};
pub use environment::{Environment, LOG};
pub use keys::schema;
pub use listeners::{ClientLimits, ListenerSettings};
pub use load::{ConfigArgs, ConfigSource, LoadedConfig, load};
pub use log_settings::{HINT as LOG_HINT, LogFilter, LogFormat, LogOutput, LogSettings};
pub use manual::manual;
pub use settings::Settings;
pub use tls::TlsSettings;
