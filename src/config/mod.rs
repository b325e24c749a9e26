//! The configuration: TOML as written, then resolved into every module's options.
//!
//! `load.rs` finds and reads it, `document.rs` keeps track of where each value stands,
//! `written.rs` lists the keys and `resolved.rs` gives them meaning. No other module reads a file
//! or the environment to learn what to do.

mod access;
mod claims;
mod credential;
mod defaults;
mod document;
mod environment;
mod example;
mod identity;
mod input;
mod listeners;
mod load;
mod origin;
mod problem;
mod proxies;
mod quantity;
mod registries;
mod resolved;
mod resolver;
mod rules;
mod upstreams;
mod wording;
mod written;

#[cfg(test)]
mod tests;

pub use access::Access;
pub use defaults::ADMIN_LISTEN;
pub use environment::{Environment, LOG};
pub use example::EXAMPLE;
pub use listeners::{ClientLimits, Listener, Tls};
pub use load::{Arguments, Loaded, Source, load};
pub use problem::{Place, Problem, Problems};
pub use resolved::Settings;
