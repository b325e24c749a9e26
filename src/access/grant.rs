//! The proof that a principal may do something in a repository.

use std::sync::Arc;

use super::{Action, Issuer, Principal};
use crate::http::Via;
use crate::oci::RepositoryName;
use crate::registry::Registry;

/// That this action may be done in this repository of this registry.
///
/// Made by [`Access::grant`] and nowhere else; whoever needs the right asks for the value.
#[derive(Clone, Debug)]
pub struct Grant {
    registry: Arc<Registry>,
    repository: RepositoryName,
    action: Action,
    via: Via,
}

impl Grant {
    /// The registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The repository, by its name at the registry.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Through which other instances of Larder the request came that it was given to. What is
    /// asked upstream because of it says so; who joins such a question adds nothing.
    pub fn via(&self) -> &Via {
        &self.via
    }

    /// What may be done.
    pub fn action(&self) -> Action {
        self.action
    }
}

/// The rules of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// What a client may do that presented nothing.
    anonymous: Action,
}

impl Access {
    /// Everybody may pull, nobody may change anything.
    pub fn open_for_pull() -> Self {
        Self { anonymous: Action::Pull }
    }

    /// Decides.
    pub fn grant(
        &self,
        principal: &Principal,
        registry: Arc<Registry>,
        repository: RepositoryName,
        action: Action,
    ) -> Result<Grant, Refused> {
        let Issuer::Nobody = principal.issuer;
        if !registry.serves(&repository) {
            return Err(Refused::Hidden);
        }
        if action == self.anonymous {
            Ok(Grant { registry, repository, action, via: principal.via.clone() })
        } else {
            Err(Refused::ReadOnly)
        }
    }
}

/// Why the principal may not do that here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The rules leave the repository out; to clients it does not exist.
    #[error("the registry's `allow` and `deny` leave this repository out")]
    Hidden,
    /// Nobody may change anything.
    #[error("this registry is read-only here")]
    ReadOnly,
}
