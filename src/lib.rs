//! Larder: a pull-through caching registry proxy and mirror.

pub mod access;
pub mod app;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod oci;
pub mod registry;
pub mod routes;
pub mod store;
pub mod upstream;
