//! What is wrong with an upstream, as an operator would be told.

/// Something that keeps an upstream from being of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTrouble {
    /// What it is.
    pub kind: TroubleKind,
    /// The host that it is about.
    pub host: String,
    /// What was seen of it last. Has no credential and no query of a URL in it.
    pub reason: String,
}

/// What can be wrong with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// It did not answer several times, and has not since.
    Breaker,
    /// It refuses our credential everywhere.
    Credential,
}

impl TroubleKind {
    /// What operators read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker-open",
            Self::Credential => "credential-refused",
        }
    }
}
