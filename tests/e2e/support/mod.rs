//! What the end-to-end tests are made of: processes that end with their test, registries, clients.

pub(crate) mod arrived;
pub(crate) mod built;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod containerd;
pub(crate) mod containers_storage;
pub(crate) mod curl;
pub(crate) mod dockerd;
pub(crate) mod hash;
pub(crate) mod hosts_toml;
pub(crate) mod image;
pub(crate) mod larder;
pub(crate) mod layer;
pub(crate) mod one_shot;
pub(crate) mod oras;
pub(crate) mod process;
pub(crate) mod publish;
pub(crate) mod registries_conf;
pub(crate) mod registry;
pub(crate) mod relay;
pub(crate) mod token_server;
pub(crate) mod tools;
pub(crate) mod traffic;
pub(crate) mod wait;
pub(crate) mod way;
pub(crate) mod work;
