//! One registry behind us: log in, ask, follow safely, try again, give up.

mod ask;
mod backoff;
mod body;
mod breaker;
mod challenge;
mod change;
mod error;
mod group;
mod identity;
mod lateness;
mod limit;
mod location;
mod login;
mod meter;
mod options;
mod payload;
mod question;
mod realm;
mod redirect;
mod reply;
mod request;
mod retry;
mod scope;
mod shown;
#[cfg(test)]
mod tests;
mod token;
mod token_server;
mod transport;
mod trouble;
mod walk;

pub use ask::Upstream;
pub use body::AnswerBody;
pub use change::{ChangeCall, ChangeTarget};
pub use error::{SetupError, UpstreamError};
pub use group::UpstreamGroup;
pub use identity::{ClientCredential, CredentialId, InvalidUsername};
pub use limit::RateAllowance;
pub use location::UploadLocation;
pub use meter::UpstreamMeter;
pub use options::{ProxyCredential, UpstreamOptions};
pub use payload::{ChangePayload, UploadBody};
pub use question::{Answer, Question, ReadMethod, UpstreamIndex};
pub use reply::UpstreamReply;
pub use trouble::{TroubleKind, UpstreamTrouble};
