//! Credentials of Amazon's registries, from a credential of AWS.

mod chain;
mod context;
mod ecr;
mod ecr_host;

pub use chain::AwsIdentity;
pub use ecr::EcrOptions;
pub(super) use ecr::EcrSource;
