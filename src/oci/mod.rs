//! The protocol's nouns, as types that cannot hold nonsense.
//!
//! Everything here takes text and gives a value or a reason. Nothing awaits, opens or asks.

mod code;
mod digest;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod json;
mod manifest;
mod media_type;
mod name;
mod page;
mod path;
mod reference;

pub use code::ErrorCode;
pub use digest::{Algorithm, Digest, DigestHasher, InvalidDigest};
pub use json::members;
pub use manifest::{Descriptor, InvalidManifest, MANIFEST_BYTES_MAX, ManifestFacts, is_error};
pub use media_type::{AcceptSet, MANIFEST_ACCEPT, MediaType};
pub use name::{InvalidName, RegistryName, RepositoryName};
pub use page::{InvalidPage, PageQuery};
pub use path::{ApiCall, NotACall, Resource, split_registry};
pub use reference::{InvalidReference, Reference, Tag};
