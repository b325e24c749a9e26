//! The faults of an upstream, as an operator would be told.

/// Something that keeps an upstream from being of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTrouble {
    /// Its kind.
    pub kind: TroubleKind,
    /// The host that it is about.
    pub host: String,
    /// The last that was seen of it. Has no credential and no query of a URL in it.
    pub reason: String,
}

/// The kinds of trouble that an upstream can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// It did not answer several times, and has not since.
    Breaker,
    /// It refuses our credential everywhere.
    Credential,
    /// The credential at hand is about to end, and its source fails.
    Ending,
}

impl TroubleKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Breaker, Self::Credential, Self::Ending];

    /// Its name for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker-open",
            Self::Credential => "credential-refused",
            Self::Ending => "credential-ending",
        }
    }
}
