//! The configuration: TOML as written, then resolved into every module's options.
//!
//! `load.rs` finds and reads it, `document.rs` keeps track of where each value stands,
//! `written.rs` lists the keys and `resolved.rs` gives them meaning. No other module reads a file
//! or the environment to learn what to do.

mod access;
mod claims;
mod credential;
mod defaults;
mod diagnostics;
mod document;
mod environment;
mod example;
mod file;
mod identity;
mod listeners;
mod load;
mod proxies;
mod quantity;
mod registries;
mod resolved;
mod resolver;
mod rules;
mod serde_errors;
mod upstream_url;
mod upstreams;
mod written;

#[cfg(test)]
mod tests;

pub use access::AccessSettings;
pub use defaults::ADMIN_LISTEN;
pub use diagnostics::{Diagnostic, Diagnostics, SourcePlace};
pub use environment::{Environment, LOG};
pub use example::EXAMPLE;
pub use listeners::{ClientLimits, ListenerSettings, TlsSettings};
pub use load::{ConfigArgs, ConfigSource, LoadedConfig, load};
pub use resolved::Settings;
