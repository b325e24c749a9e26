//! One registry behind us: log in, ask, follow safely, try again, give up.

mod answer;
mod ask;
mod backoff;
mod body;
mod breaker;
mod challenge;
mod error;
mod exchange;
mod group;
mod identity;
mod limit;
mod login;
mod options;
mod question;
mod realm;
mod redirect;
mod request;
mod retry;
#[cfg(test)]
mod tests;
mod token;
mod transport;

pub use ask::Upstream;
pub use body::Body;
pub use error::{Error, SetupError};
pub use group::{Place, Upstreams};
pub use identity::{Identity, InvalidUsername, Tag};
pub use options::{Credential, Options};
pub use question::{Answer, Method, Question};
