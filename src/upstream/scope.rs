//! What a token is asked for (distribution, "Token Scope Documentation").

use std::time::Duration;

use crate::oci::RepositoryName;

/// What a token is asked for, and how long it has to be good for.
pub(super) struct Scope {
    /// Each goes in an argument of its own, the one that matters most first: some servers read no
    /// other.
    pub(super) texts: Vec<String>,
    pub(super) rest_min: Duration,
}

impl Scope {
    /// To read in a repository.
    pub(super) fn pull(repository: &RepositoryName) -> Self {
        let texts = vec![format!("repository:{repository}:pull")];
        Self { texts, rest_min: Duration::ZERO }
    }

    /// To write in a repository, and to mount what another one has.
    pub(super) fn push(repository: &RepositoryName, source: Option<&RepositoryName>) -> Self {
        let mut texts = vec![format!("repository:{repository}:pull,push")];
        texts.extend(source.map(|source| format!("repository:{source}:pull")));
        Self { texts, rest_min: PUSH_REST_MIN }
    }

    /// To remove from a repository. Cancelling an upload takes this right, too.
    pub(super) fn delete(repository: &RepositoryName) -> Self {
        let texts = vec![format!("repository:{repository}:pull,push,delete")];
        Self { texts, rest_min: PUSH_REST_MIN }
    }
}

/// A body that is on its way cannot be sent again when the token ends before it.
const PUSH_REST_MIN: Duration = Duration::from_secs(60);
