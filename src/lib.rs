//! Larder: a pull-through caching registry proxy and mirror.
//!
//! It stands between container clients and the registries they pull from. Content that was pulled
//! before is served from disk. Other content is fetched once, checked against its digest on the way
//! in, and streamed to every client that asks for it meanwhile.
//!
//! The crate is the program `larder`, built as a library so that tests can join its parts over
//! networks and clocks of their own. Its interface to the world is HTTP, the configuration and the
//! command line; the Rust interface promises nothing.
//!
//! # Start reading here
//!
//! - `cache/facade.rs`: the life of a request, from what it asks to what it gets.
//! - `cache/fill/task.rs`: the life of the fetch behind it, which belongs to no client.
//! - [`app`]: how the parts are joined, started and stopped.
//!
//! `docs/architecture.md` tells both lives in prose and lists what must stay true; the reasons are
//! in `docs/decisions/`.
//!
//! # Modules
//!
//! From the bottom up. A module uses only such as stand above it here; `tests/tidy` checks it.
//!
//! - [`clock`]: the wall clock, injected
//! - [`telemetry`]: counters and histograms
//! - [`oci`]: the protocol's nouns as types that cannot hold nonsense
//! - [`http`]: the wire: accept, connect, bodies, ranges
//! - [`traces`]: spans of requests, and their way to a collector
//! - [`store`]: bytes by digest and the facts kept beside them, as files; the one seam
//! - [`credentials`]: Larder's own credentials, from what issues them
//! - [`upstream`]: one registry behind us: log in, ask, follow, try again; the other seam
//! - [`registry`]: the registries that clients may name, and which one a name means
//! - [`inventory`]: the images in a cache directory, for operators
//! - [`access`]: who a client is and what it may do; gives a grant, without which nothing is
//!   looked up
//! - [`cache`]: pull-through: hit, miss, stale, revalidate; one fetch per missing thing
//! - [`push`]: push-through: what a client pushes, sent on to the upstream and kept
//! - [`routes`]: from a request to one use of the cache, and back to an answer
//! - [`admin`]: the operator's side: health, readiness, metrics
//! - [`control`]: the operator's commands, over a unix socket
//! - [`dashboard`]: the page for operators
//! - [`setup`]: the configuration files of clients that pull through Larder
//! - [`workloads`]: the images that files of compose and Kubernetes name
//! - [`config`]: TOML as written, resolved into every module's options
//! - [`app`]: the parts, joined
//! - [`cli`]: one file for each subcommand

// Tests beside the code share files with the integration tests, which know the crate by its name.
#[cfg(test)]
extern crate self as larder;

pub mod amounts;
pub mod clock;
pub mod http;
pub mod oci;
pub mod telemetry;
pub mod traces;

pub mod credentials;
pub mod store;
pub mod upstream;

pub mod access;
pub mod admin;
pub mod bundle;
pub mod cache;
pub mod control;
pub mod dashboard;
pub mod inventory;
pub mod push;
pub mod registry;
pub mod routes;
pub mod setup;
pub mod workloads;

pub mod app;
pub mod cli;
pub mod config;

#[cfg(any(test, fuzzing))]
pub mod fuzz;
