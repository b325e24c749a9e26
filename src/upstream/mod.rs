//! One registry behind us: log in, ask, follow safely, try again, give up.

mod advice;
mod ask;
mod authorization;
mod authorizer;
mod backoff;
mod base;
mod body;
mod breaker;
mod budget;
mod call_log;
mod call_span;
mod challenge;
mod change;
mod client_shares;
mod coding;
mod error;
mod examination;
mod foreign;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod group;
mod guarded_call;
mod identity;
mod lateness;
mod limit;
mod location;
mod login;
mod meter;
mod options;
mod own_credential;
mod payload;
mod probe;
mod question;
mod realm;
mod redirect;
mod refusal;
mod reply;
mod request;
mod request_room;
mod retry;
mod rights;
mod scope;
mod shown;
mod status;
#[cfg(test)]
mod tests;
mod token;
mod token_fetcher;
mod token_server;
mod transport;
mod trouble;
mod turns;
mod walk;
mod written;

pub use ask::Upstream;
pub use base::RegistryBase;
pub use body::AnswerBody;
pub use change::{ChangeCall, ChangeTarget};
pub use client_shares::ClientShares;
pub use error::{SetupError, UpstreamError};
pub use examination::{LoginOutcome, UpstreamExamination};
pub use group::UpstreamGroup;
pub use identity::{ClientCredential, CredentialId, InvalidUsername};
pub use limit::RateAllowance;
pub use location::UploadLocation;
pub use meter::UpstreamMeter;
pub use options::{LoginOptions, ProxyCredential, UpstreamOptions};
pub use payload::{ChangePayload, UploadBody};
pub use question::{
    Answer, Question, ReadMethod, UpstreamIndex, is_of_manifest, stated_digest, stated_type,
};
pub use reply::UpstreamReply;
pub use rights::{PullRight, RightsExamination};
pub use trouble::{TroubleKind, UpstreamTrouble};
