//! Credentials of Google's registries: access tokens of an identity of Google Cloud.

mod external;
mod key_file;
mod metadata;
mod source;
mod token;

pub use source::GoogleOptions;
pub(super) use source::GoogleSource;
