//! The rules of one listener: which user may do what in which repositories.
//!
//! A pure decision. It does not identify the client (`gate.rs`), and it does not apply to
//! registries that decide about their clients themselves (`rights.rs`).

use std::fmt;

use super::{Action, Issuer, Principal};
use crate::oci::{RegistryName, RepositoryName};
use crate::registry::RepositoryPattern;

/// The actions of anonymous clients. Deleting is never one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonymousAccess {
    /// Nothing.
    None,
    /// Pull.
    Pull,
    /// Pull and push.
    Push,
}

/// Actions of some users in some repositories.
#[derive(Clone, Debug)]
pub struct AccessRule {
    /// Patterns of user names.
    pub users: Vec<RepositoryPattern>,
    /// The registries, by name; every registry if the list is empty.
    pub registries: Vec<RegistryName>,
    /// Patterns of repositories, by their names at the registry.
    pub repositories: Vec<RepositoryPattern>,
    /// The allowed actions.
    pub actions: Vec<Action>,
}

/// The rules of a listener. They are additive; none denies anything.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// The actions of anonymous clients, and so of every client.
    pub anonymous: AnonymousAccess,
    /// The actions of users. Without rules, every user may pull and push in every repository.
    pub rules: Vec<AccessRule>,
}

impl AccessPolicy {
    /// Anonymous clients may pull.
    pub fn open_for_pull() -> Self {
        Self { anonymous: AnonymousAccess::Pull, rules: Vec::new() }
    }

    /// Anonymous clients may pull and push.
    pub fn open() -> Self {
        Self { anonymous: AnonymousAccess::Push, rules: Vec::new() }
    }

    /// Whether the client may do `action` in `repository`.
    pub fn allows(
        &self,
        principal: &Principal,
        registry: &RegistryName,
        repository: &RepositoryName,
        action: Action,
    ) -> bool {
        if self.anonymous.covers(action) {
            return true;
        }
        match principal.issuer {
            // Users of an upstream are not users of Larder, even if their names are equal.
            Issuer::Anonymous | Issuer::Upstream => false,
            // Deleting always needs a rule that says so.
            Issuer::Certificate | Issuer::Htpasswd if self.rules.is_empty() => {
                action != Action::Delete
            }
            Issuer::Certificate | Issuer::Htpasswd => self
                .rules
                .iter()
                .any(|rule| rule.allows(&principal.subject, registry, repository, action)),
        }
    }
}

impl AnonymousAccess {
    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }

    /// Whether anonymous clients may do `action`.
    pub fn covers(self, action: Action) -> bool {
        match action {
            Action::Pull => self != Self::None,
            Action::Push => self == Self::Push,
            Action::Delete => false,
        }
    }
}

/// One line for `larder check`: users, actions, repositories and registries.
impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
            items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
        }
        let actions = list(self.actions.iter().map(|action| action.as_str()));
        write!(f, "{} may {actions} {}", list(&self.users), list(&self.repositories))?;
        if self.registries.is_empty() {
            Ok(())
        } else {
            write!(f, " at {}", list(&self.registries))
        }
    }
}

impl AccessRule {
    fn allows(
        &self,
        user: &str,
        registry: &RegistryName,
        repository: &RepositoryName,
        action: Action,
    ) -> bool {
        self.actions.contains(&action)
            && (self.registries.is_empty() || self.registries.contains(registry))
            && self.users.iter().any(|pattern| pattern.matches(user))
            && self.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Via;

    fn rule(
        users: &str,
        registries: &[&str],
        repositories: &[&str],
        actions: &[Action],
    ) -> AccessRule {
        AccessRule {
            users: vec![users.parse().unwrap()],
            registries: registries.iter().map(|name| name.parse().unwrap()).collect(),
            repositories: repositories.iter().map(|text| text.parse().unwrap()).collect(),
            actions: actions.to_vec(),
        }
    }

    fn allowed(
        policy: &AccessPolicy,
        principal: &Principal,
        registry: &str,
        repository: &str,
    ) -> String {
        let (registry, repository) = (registry.parse().unwrap(), repository.parse().unwrap());
        let may = |action: &&Action| policy.allows(principal, &registry, &repository, **action);
        let actions: Vec<_> = Action::ALL.iter().filter(may).map(|it| it.as_str()).collect();
        actions.join(" ")
    }

    fn user(name: &str) -> Principal {
        Principal::named(Issuer::Htpasswd, name.to_owned(), Via::default())
    }

    /// Deleting needs a rule, whatever anonymous clients may do.
    #[test]
    fn without_rules_users_may_pull_and_push_and_never_delete() {
        let anonymous_client = Principal::anonymous(Via::default());
        for (anonymous, of_anonymous, of_user) in [
            (AnonymousAccess::None, "", "pull push"),
            (AnonymousAccess::Pull, "pull", "pull push"),
            (AnonymousAccess::Push, "pull push", "pull push"),
        ] {
            let policy = AccessPolicy { anonymous, rules: Vec::new() };
            assert_eq!(
                allowed(&policy, &anonymous_client, "a.test", "x"),
                of_anonymous,
                "{anonymous:?}"
            );
            assert_eq!(allowed(&policy, &user("u"), "a.test", "x"), of_user, "{anonymous:?}");
        }
    }

    /// Another rule can only grant more, and a rule for one user grants nothing to another.
    #[test]
    fn rules_are_additive_and_apply_only_to_the_users_and_repositories_they_name() {
        let rules = vec![
            rule("ci", &["a.test"], &["team/**"], &[Action::Pull, Action::Push]),
            rule("*", &[], &["library/*"], &[Action::Pull]),
            rule("root", &[], &["**"], &Action::ALL),
        ];
        let policy = AccessPolicy { anonymous: AnonymousAccess::None, rules };
        for (name, registry, repository, want) in [
            ("ci", "a.test", "team/x/y", "pull push"),
            ("ci", "b.test", "team/x/y", ""),
            ("ci", "a.test", "teams/x", ""),
            ("ci", "b.test", "library/alpine", "pull"),
            ("Ci", "a.test", "team/x", ""),
            ("ci2", "a.test", "team/x", ""),
            ("", "a.test", "team/x", ""),
            ("root", "b.test", "any/thing", "pull push delete"),
        ] {
            let got = allowed(&policy, &user(name), registry, repository);
            assert_eq!(got, want, "{name} {registry}/{repository}");
        }
        let mut upstreams_own = user("root");
        upstreams_own.issuer = Issuer::Upstream;
        assert_eq!(allowed(&policy, &upstreams_own, "a.test", "x"), "");
        let unnamed =
            Principal { subject: "root".to_owned(), ..Principal::anonymous(Via::default()) };
        assert_eq!(allowed(&policy, &unnamed, "a.test", "x"), "");
    }
}
