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
mod lateness;
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
pub use body::AnswerBody;
pub use change::{ChangeCall, ChangePayload, ChangeResponse, ChangeTarget};
pub use error::{SetupError, UpstreamError};
pub use group::{UpstreamGroup, UpstreamIndex};
pub use identity::{ClientCredential, CredentialId, InvalidUsername};
pub use limit::RateAllowance;
pub use location::UploadLocation;
pub use meter::UpstreamMeter;
pub use options::{ProxyCredential, UpstreamOptions};
pub use outgoing::UploadBody;
pub use question::{Answer, Question, ReadMethod};
pub use trouble::{TroubleKind, UpstreamTrouble};
