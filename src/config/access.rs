//! `access`: who is let in at a listener, and what users may do.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::diagnostics::{Diagnostic, SourcePlace, ValueFault, nearest, quoted};
use super::file::ConfigFile;
use super::listeners::{ListenerSettings, TlsSettings};
use super::resolver::Resolver;
use super::rules::pattern;
use super::written;
use super::written::Text;
use crate::access;
use crate::access::{
    AccessOptions, AccessPolicy, Action, AnonymousAccess, BadLine, CertificateUser,
    ChallengePolicy, HtpasswdUsers, UserTable,
};
use crate::registry;
use crate::registry::{AskedAs, RepositoryPattern};

/// Who is let in at a listener.
#[derive(Clone, Debug, Default)]
pub struct AccessSettings {
    /// All of it.
    pub options: AccessOptions,
    /// Where its users are from.
    pub htpasswd: Option<PathBuf>,
}

impl AccessSettings {
    /// Whether it is as if nothing were written.
    pub fn is_default(&self) -> bool {
        let AccessOptions { challenge, policy, htpasswd, certificates } = &self.options;
        *challenge == ChallengePolicy::Never
            && policy.anonymous == AnonymousAccess::Pull
            && policy.rules.is_empty()
            && htpasswd.is_none()
            && certificates.is_empty()
    }

    /// Reads the users again. They may be changing while they are read.
    pub fn read_users_again(&self) -> Result<Option<UserTable>, Vec<Diagnostic>> {
        let Some(path) = &self.htpasswd else { return Ok(None) };
        let read = ConfigFile::read_present(path, HTPASSWD_LEN_MAX);
        let input =
            read.map_err(|fault| vec![fault.at(SourcePlace::WholeFile(path.clone()), None)])?;
        let users = UserTable::parse(&input.bytes);
        users.map(Some).map_err(|bad| bad.iter().map(|line| problem(path, line)).collect())
    }
}

/// What is written of it. The listener is at these addresses, with this TLS.
pub(super) fn resolve(
    written: Option<Spanned<written::AccessTable>>,
    addresses: &[SocketAddr],
    tls: Option<&TlsSettings>,
    resolver: &mut Resolver<'_>,
) -> AccessSettings {
    let Some(written) = written else { return AccessSettings::default() };
    let span = written.span();
    let written = written.into_inner();
    let default = AccessOptions::default();
    let anonymous = resolver.given(written.anonymous.as_ref(), |text| one_of(text, ANONYMOUS));
    let challenge = resolver.given(written.challenge.as_ref(), |text| one_of(text, CHALLENGES));
    let policy = AccessPolicy {
        anonymous: anonymous.unwrap_or(default.policy.anonymous),
        rules: written.rule.iter().filter_map(|written| rule(written, resolver)).collect(),
    };
    let challenge = challenge.unwrap_or(default.challenge);
    let (htpasswd, users) = htpasswd(written.htpasswd.as_ref(), resolver).unzip();
    let certificates = certificates(&written.certificate, tls, resolver);
    let is_plain_allowed = flag(written.insecure_basic.as_ref(), resolver);
    match (challenge, &written.challenge, &written.htpasswd) {
        (ChallengePolicy::Never, _, Some(htpasswd)) => {
            let fault =
                ValueFault::new("`htpasswd` means nothing where nobody is asked for a password");
            resolver.report(htpasswd.span(), fault.hint("set `challenge = \"basic\"`"));
        }
        (ChallengePolicy::Basic, Some(written), _) if tls.is_none() && !is_plain_allowed => {
            refuse_plain(addresses, written.span(), resolver);
        }
        _ => {}
    }
    let has_users = htpasswd.is_some() || !certificates.is_empty();
    if !policy.rules.is_empty() && !has_users {
        let fault = ValueFault::new("there are rules for users, but nobody can be one");
        resolver.report(span, fault.hint("add `htpasswd` or `[[access.certificate]]`"));
    }
    let htpasswd_users = users.flatten().map(HtpasswdUsers::new);
    AccessSettings {
        options: AccessOptions { challenge, policy, htpasswd: htpasswd_users, certificates },
        htpasswd,
    }
}

/// Sees to it that what is said of users and registries means somebody and something.
pub(super) fn check(
    listeners: &[ListenerSettings],
    registries: &[registry::RegistryOptions],
    resolver: &mut Resolver<'_>,
) {
    let is_pusher = |listener: &ListenerSettings| {
        let AccessOptions { policy, htpasswd, certificates, .. } = &listener.access.options;
        policy.anonymous == AnonymousAccess::Push || htpasswd.is_some() || !certificates.is_empty()
    };
    if !listeners.iter().any(is_pusher) {
        let names = registries.iter().filter(|it| it.rules.push).map(|it| &it.name);
        resolver.warnings.extend(names.map(|name| {
            format!(
                "`{name}` takes pushes, but nobody may push: set `anonymous = \"push\"` in \
                 `[access]`, or let users log in"
            )
        }));
    }
    let is_asking =
        |listener: &ListenerSettings| listener.access.options.challenge == ChallengePolicy::Basic;
    if !listeners.iter().any(is_asking) {
        let names = registries.iter().filter(|it| takes_logins(it)).map(|it| &it.name);
        resolver.warnings.extend(names.map(|name| {
            format!(
                "`{name}` is asked with the credentials of clients, but no listener takes any: set \
                 `challenge = \"basic\"` in `[access]`"
            )
        }));
    }
    for listener in listeners {
        let options = &listener.access.options;
        let has_logins = listener.access.htpasswd.is_some() || registries.iter().any(takes_logins);
        if options.challenge == ChallengePolicy::Basic && !has_logins {
            let fault = ValueFault::new(format!(
                "clients are asked for a password on `{}`, but nobody has one",
                listener.address
            ));
            let hint = "set `htpasswd`, or `identity = \"client\"` of a registry";
            resolver.report_missing(fault.hint(hint));
        }
        let named = options.policy.rules.iter().flat_map(|rule| &rule.registries);
        for name in named {
            if registries.iter().any(|registry| registry.name == *name) {
                continue;
            }
            let fault =
                ValueFault::new(format!("a rule is for `{name}`, which is no registry here"));
            let by_alias = registries.iter().find(|registry| registry.aliases.contains(name));
            resolver.report_missing(match by_alias {
                Some(registry) => fault.hint(format!("it is another name of `{}`", registry.name)),
                None => fault,
            });
        }
    }
}

fn takes_logins(registry: &registry::RegistryOptions) -> bool {
    matches!(registry.identity, AskedAs::Client(_))
}

/// A password that crosses a network in the clear belongs to everybody on it.
fn refuse_plain(addresses: &[SocketAddr], span: Range<usize>, resolver: &mut Resolver<'_>) {
    let beyond = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
    if let Some(address) = beyond {
        let fault =
            ValueFault::new(format!("passwords would come to `{address}` without encryption"));
        let hint = "give the listener TLS, or set `insecure_basic = true` if something in front of \
                    it has TLS";
        resolver.report(span, fault.hint(hint));
    }
}

fn htpasswd(
    written: Option<&Text>,
    resolver: &mut Resolver<'_>,
) -> Option<(PathBuf, Option<UserTable>)> {
    let written = written?;
    let path = resolver.path(written.get_ref()).ok();
    let bytes = resolver.file(written, HTPASSWD_LEN_MAX, true);
    let path = path?;
    // That it cannot be read is one problem, and that nobody has a password would be no other.
    let Some(bytes) = bytes else { return Some((path, None)) };
    let users = match UserTable::parse(&bytes) {
        Ok(users) => users,
        Err(bad) => {
            resolver.problems.extend(bad.iter().map(|line| problem(&path, line)));
            return Some((path, None));
        }
    };
    if let Some(cheap) = users.cheap() {
        resolver.warnings.push(format!(
            "{}:{}: {} with a bcrypt cost below 10, which {} quickly guessed once stolen; \
             `htpasswd -B -C 10` makes better ones",
            path.display(),
            cheap.line,
            if cheap.count == 1 { "a hash".to_owned() } else { format!("{} hashes", cheap.count) },
            if cheap.count == 1 { "is" } else { "are" },
        ));
    }
    Some((path, Some(users)))
}

fn problem(path: &Path, bad: &BadLine) -> Diagnostic {
    let fault = ValueFault::new(bad.fault.to_string());
    let fault = match bad.fault {
        access::LineFault::Plain | access::LineFault::Weak(_) | access::LineFault::Cost { .. } => {
            fault.hint("make the line with `htpasswd -nB -C 10 USER`")
        }
        _ => fault,
    };
    let place = SourcePlace::File { path: path.to_owned(), line: bad.line, column: 1 };
    fault.at(place, None)
}

fn certificates(
    written: &[Spanned<written::CertificateTable>],
    tls: Option<&TlsSettings>,
    resolver: &mut Resolver<'_>,
) -> Vec<CertificateUser> {
    let asks = tls.is_some_and(|tls| tls.clients.is_some());
    if let Some(first) = written.first().filter(|_| !asks) {
        let fault = ValueFault::new("no client is asked for a certificate here");
        resolver.report(first.span(), fault.hint("set `client_ca` in the listener's `tls`"));
    }
    let one = |written: &Spanned<written::CertificateTable>| {
        let written::CertificateTable { name, user } = written.get_ref();
        for (key, text) in [("name", name), ("user", user)] {
            require(text.is_some(), "certificate", key, written.span(), resolver);
        }
        let name = resolver.given(name.as_ref(), pattern);
        let user = resolver.given(user.as_ref(), |text| {
            let is_bad = text.is_empty() || text.contains([':', '\n', '\0']);
            if is_bad { Err(ValueFault::new("this is no user")) } else { Ok(text.to_owned()) }
        });
        Some(CertificateUser { name: name?, user: user? })
    };
    written.iter().filter_map(one).collect()
}

fn rule(
    written: &Spanned<written::RuleTable>,
    resolver: &mut Resolver<'_>,
) -> Option<access::AccessRule> {
    let span = written.span();
    let written::RuleTable { users, registries, repositories, actions } = written.get_ref();
    require(users.is_some(), "rule", "users", span.clone(), resolver);
    require(actions.is_some(), "rule", "actions", span, resolver);
    let users = list(users.as_ref(), resolver, pattern);
    let registries = list(registries.as_ref(), resolver, super::registries::registry_name);
    let repositories = list(repositories.as_ref(), resolver, pattern);
    let actions = list(actions.as_ref(), resolver, |text| one_of(text, ACTIONS));
    Some(access::AccessRule {
        users: users?,
        registries: registries.unwrap_or_default(),
        repositories: repositories.unwrap_or_else(|| vec![RepositoryPattern::any()]),
        actions: actions?,
    })
}

/// An empty list would mean all, or nothing, and nobody knows which.
fn list<T>(
    written: Option<&Spanned<Vec<Text>>>,
    resolver: &mut Resolver<'_>,
    meaning: impl Fn(&str) -> Result<T, ValueFault>,
) -> Option<Vec<T>> {
    let written = written?;
    if written.get_ref().is_empty() {
        resolver.report(written.span(), ValueFault::new("the list is empty"));
    }
    let items = written.get_ref().iter();
    Some(items.filter_map(|item| resolver.given(Some(item), &meaning)).collect())
}

fn require(is_there: bool, what: &str, key: &str, span: Range<usize>, resolver: &mut Resolver<'_>) {
    if !is_there {
        resolver.report(span, ValueFault::new(format!("the {what} has no `{key}`")));
    }
}

fn flag(written: Option<&Spanned<written::FlagValue>>, resolver: &mut Resolver<'_>) -> bool {
    let Some(written) = written else { return false };
    let fault = || ValueFault::new("it must be `true` or `false`");
    resolver.accept(written.span(), written.get_ref().0.ok_or_else(fault)).unwrap_or(false)
}

pub(super) fn one_of<T: Copy>(text: &str, known: &[(&'static str, T)]) -> Result<T, ValueFault> {
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let fault = ValueFault::new(format!("{} is none of `{}`", quoted(text), words.join("`, `")));
    Err(match nearest(text, &words) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault,
    })
}

const ANONYMOUS: &[(&str, AnonymousAccess)] = &[
    ("none", AnonymousAccess::None),
    ("pull", AnonymousAccess::Pull),
    ("push", AnonymousAccess::Push),
];

const CHALLENGES: &[(&str, ChallengePolicy)] =
    &[("never", ChallengePolicy::Never), ("basic", ChallengePolicy::Basic)];

const ACTIONS: &[(&str, Action)] =
    &[("pull", Action::Pull), ("push", Action::Push), ("delete", Action::Delete)];

/// A hundred thousand users.
const HTPASSWD_LEN_MAX: u64 = 8 << 20;
