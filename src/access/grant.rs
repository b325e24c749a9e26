//! The proof that a principal may do something in a repository.

use std::sync::Arc;

use super::{Access, Action, Issuer, Principal};
use crate::http::Via;
use crate::oci::{RegistryName, RepositoryName, Resource};
use crate::registry::Registry;
use crate::upstream::Identity;

/// That this action may be done in this repository of this registry.
///
/// Made by [`Access::grant`] and nowhere else; whoever needs the right asks for the value.
#[derive(Clone, Debug)]
pub struct Grant {
    registry: Arc<Registry>,
    repository: RepositoryName,
    action: Action,
    client: Option<Identity>,
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

    /// The client's own credential, with which the upstream is to be asked. `None`: with Larder's.
    pub fn client(&self) -> Option<&Identity> {
        self.client.as_ref()
    }
}

impl Access {
    /// Decides. `resource` is what the action is to be done to.
    #[allow(clippy::unused_async, reason = "an upstream that vouches for clients has to be asked")]
    pub async fn grant(
        &self,
        principal: &Principal,
        registry: Arc<Registry>,
        repository: RepositoryName,
        action: Action,
        _resource: &Resource,
    ) -> Result<Grant, Refused> {
        if !registry.serves(&repository) {
            return Err(Refused::Hidden);
        }
        if action != Action::Pull && !registry.takes_pushes() {
            return Err(Refused::ReadOnly { registry: registry.name().clone() });
        }
        let may =
            |action| self.options.policy.allows(principal, registry.name(), &repository, action);
        if may(action) {
            let via = principal.via.clone();
            return Ok(Grant { registry, repository, action, client: None, via });
        }
        Err(match principal.issuer {
            Issuer::Nobody => Refused::Nameless,
            _ if may(Action::Pull) => Refused::NotThat,
            _ => Refused::NotHere,
        })
    }
}

/// Why the principal may not do that here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The rules leave the repository out; to clients it does not exist.
    #[error("the registry's `allow` and `deny` leave this repository out")]
    Hidden,
    /// Whoever it is might, but nobody knows who it is.
    #[error("this takes a login")]
    Nameless,
    /// No rule lets this user see the repository; to this user it does not exist.
    #[error("no rule lets this user do anything in this repository")]
    NotHere,
    /// The user may read, but not this.
    #[error("no rule lets this user do that in this repository")]
    NotThat,
    /// Nobody may change anything.
    #[error("`{registry}` takes no pushes here: `push = true` in its table would pass them on")]
    ReadOnly {
        /// The registry.
        registry: RegistryName,
    },
}
