//! One registry behind us: log in, ask, follow safely, try again, give up.

mod answer;
mod ask;
mod backoff;
mod body;
mod breaker;
mod challenge;
mod change;
mod error;
mod exchange;
mod group;
mod identity;
mod limit;
mod location;
mod login;
mod meter;
mod options;
mod outgoing;
mod question;
mod realm;
mod redirect;
mod request;
mod retry;
mod scope;
#[cfg(test)]
mod tests;
mod token;
mod transport;
mod trouble;

pub use ask::Upstream;
pub use body::Body;
pub use change::{Change, Payload, Said, Target};
pub use error::{Error, SetupError};
pub use group::{Place, Upstreams};
pub use identity::{Identity, InvalidUsername, Tag};
pub use limit::Allowance;
pub use location::Location;
pub use meter::Meter;
pub use options::{Credential, Options};
pub use outgoing::Streamed;
pub use question::{Answer, Method, Question};
pub use trouble::{Trouble, TroubleKind};
