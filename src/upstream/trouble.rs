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

    /// Whether nothing can be fetched meanwhile. A credential that is about to end still works.
    pub(super) fn ends_fetches(self) -> bool {
        match self {
            Self::Breaker | Self::Credential => true,
            Self::Ending => false,
        }
    }

    /// Its name for operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker-open",
            Self::Credential => "credential-refused",
            Self::Ending => "credential-ending",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or the content of a registry that works would be evicted after that of all others.
    #[test]
    fn only_what_ends_fetches_makes_a_registry_unavailable() {
        let ends_fetches = TroubleKind::ALL.map(|kind| (kind.as_str(), kind.ends_fetches()));
        let want =
            [("breaker-open", true), ("credential-refused", true), ("credential-ending", false)];
        assert_eq!(ends_fetches, want);
    }
}
