//! Who may do what: the rules of one listener, as values.

use std::fmt;

use super::{Action, Issuer, Principal};
use crate::oci::{RegistryName, RepositoryName};
use crate::registry::RepositoryPattern;

/// What a client may do that presented nothing. Never delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonymousAccess {
    /// Nothing.
    None,
    /// Pull.
    Pull,
    /// Pull and push.
    Push,
}

/// What some users may do somewhere.
#[derive(Clone, Debug)]
pub struct AccessRule {
    /// The users.
    pub users: Vec<RepositoryPattern>,
    /// The registries, by name; all of them if there are none.
    pub registries: Vec<RegistryName>,
    /// The repositories, by their names at the registry.
    pub repositories: Vec<RepositoryPattern>,
    /// What may be done there.
    pub actions: Vec<Action>,
}

/// Everything that decides it. Rules add up; none takes anything away.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// What everybody may do.
    pub anonymous: AnonymousAccess,
    /// What users may do. Without any rule, all users may pull and push everywhere.
    pub rules: Vec<AccessRule>,
}

impl AccessPolicy {
    /// Everybody may pull, nobody may do more.
    pub fn open_for_pull() -> Self {
        Self { anonymous: AnonymousAccess::Pull, rules: Vec::new() }
    }

    /// Everybody may pull and push, nobody may do more.
    pub fn open() -> Self {
        Self { anonymous: AnonymousAccess::Push, rules: Vec::new() }
    }

    /// Whether the principal may do that there.
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
            // The upstream decides for those whom it vouches for; its users are not ours, whatever
            // their names.
            Issuer::Nobody | Issuer::Upstream => false,
            // Who has made no rules has not thought of deleting.
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
    /// What the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }

    /// Whether this may be done without a name.
    pub fn covers(self, action: Action) -> bool {
        match action {
            Action::Pull => self != Self::None,
            Action::Push => self == Self::Push,
            Action::Delete => false,
        }
    }
}

/// For people.
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
            && self.users.iter().any(|pattern| pattern.takes(user))
            && self.repositories.iter().any(|pattern| pattern.takes(repository.as_str()))
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

    /// Nobody may ever delete without having been named for it.
    #[test]
    fn what_is_allowed_without_rules() {
        let nobody = Principal::anonymous(Via::default());
        for (anonymous, of_nobody, of_user) in [
            (AnonymousAccess::None, "", "pull push"),
            (AnonymousAccess::Pull, "pull", "pull push"),
            (AnonymousAccess::Push, "pull push", "pull push"),
        ] {
            let policy = AccessPolicy { anonymous, rules: Vec::new() };
            assert_eq!(allowed(&policy, &nobody, "a.test", "x"), of_nobody, "{anonymous:?}");
            assert_eq!(allowed(&policy, &user("u"), "a.test", "x"), of_user, "{anonymous:?}");
        }
    }

    /// One rule more can only give more; a rule for one gives nothing to another.
    #[test]
    fn rules_add_up_and_are_for_whom_and_what_they_name() {
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
        let nobody =
            Principal { subject: "root".to_owned(), ..Principal::anonymous(Via::default()) };
        assert_eq!(allowed(&policy, &nobody, "a.test", "x"), "");
    }
}
