//! Larder: a pull-through caching registry proxy and mirror.

pub mod access;
pub mod cache;
pub mod clock;
pub mod http;
pub mod oci;
pub mod registry;
pub mod routes;
pub mod store;
pub mod upstream;
