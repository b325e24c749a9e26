//! One registry behind us: log in, ask, follow safely, try again, give up.

mod options;

pub use options::{Credential, Options};
