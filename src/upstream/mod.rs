//! One registry behind us: log in, ask, follow safely, try again, give up.

mod error;
mod options;

pub use error::Error;
pub use options::{Credential, Options};
