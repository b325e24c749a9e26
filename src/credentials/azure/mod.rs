//! Credentials of Azure's registries, from an identity of Entra.

mod acr;
mod entra;
mod managed;

pub use acr::AcrOptions;
pub(super) use acr::AcrSource;
pub use entra::EntraIdentity;
