//! What the end-to-end tests are made of: processes that end with their test, registries, clients.

pub(crate) mod certificates;
pub(crate) mod containerd;
pub(crate) mod curl;
pub(crate) mod dockerd;
pub(crate) mod hash;
pub(crate) mod image;
pub(crate) mod larder;
pub(crate) mod layer;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod skopeo;
pub(crate) mod token_server;
pub(crate) mod tools;
pub(crate) mod traffic;
pub(crate) mod wait;
pub(crate) mod work;
