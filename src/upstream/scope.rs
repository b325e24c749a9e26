//! The scope of a token (distribution, "Token Scope Documentation"), and its client.
//!
//! Repositories are named as the upstream names them.

use std::net::IpAddr;
use std::time::Duration;

use super::identity::{ClientCredential, CredentialId};
use crate::credentials::FetchNeed;

/// The scope that a token is asked for, for which client, and which tokens will do.
#[derive(Clone)]
pub(super) struct TokenScope {
    /// Whose credential is used; `None` for Larder's own.
    pub(super) client: Option<ClientCredential>,
    /// The client whose share of the upstream and its token servers is taken; `None` for Larder.
    pub(super) asker: Option<IpAddr>,
    /// Each goes in an argument of its own, the one that matters most first: some servers read no
    /// other.
    pub(super) texts: Vec<String>,
    pub(super) need: FetchNeed,
}

impl TokenScope {
    /// To read in a repository.
    pub(super) fn pull(repository: &str) -> Self {
        let texts = vec![format!("repository:{repository}:pull")];
        Self { client: None, asker: None, texts, need: FetchNeed::default() }
    }

    /// Nothing: to be known is enough.
    pub(super) fn entry() -> Self {
        Self { client: None, asker: None, texts: Vec::new(), need: FetchNeed::default() }
    }

    /// The scope for this client.
    pub(super) fn of(self, client: Option<ClientCredential>) -> Self {
        Self { client, ..self }
    }

    /// The scope, for a request of the client at this address.
    pub(super) fn asked_by(self, asker: Option<IpAddr>) -> Self {
        Self { asker, ..self }
    }

    /// The identity that keeps the client apart from others.
    pub(super) fn client_id(&self) -> Option<CredentialId> {
        self.client.as_ref().and_then(ClientCredential::tag)
    }

    /// The repository that matters most; `None` where nothing is asked for.
    pub(super) fn repository(&self) -> Option<&str> {
        let (name, _) = self.texts.first()?.strip_prefix("repository:")?.rsplit_once(':')?;
        Some(name)
    }

    /// To write in a repository, and to mount what another one has.
    pub(super) fn push(repository: &str, source: Option<&str>) -> Self {
        let mut texts = vec![format!("repository:{repository}:pull,push")];
        texts.extend(source.map(|source| format!("repository:{source}:pull")));
        Self { client: None, asker: None, texts, need: FOR_A_CHANGE }
    }

    /// To remove from a repository. Cancelling an upload takes this right, too.
    pub(super) fn delete(repository: &str) -> Self {
        let texts = vec![format!("repository:{repository}:pull,push,delete")];
        Self { client: None, asker: None, texts, need: FOR_A_CHANGE }
    }
}

/// A body that is on its way cannot be sent again when the token ends before it.
const FOR_A_CHANGE: FetchNeed = FetchNeed { rest_min: Duration::from_secs(60), since: None };
