//! `access`: the clients that are let in at a listener, and the rights of users.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostic, SourcePlace, ValueFault};
use super::file::ConfigFile;
use super::keys::{AccessTable, CertificateTable, RuleTable};
use super::reader::Located;
use super::resolver::Resolver;
use super::tls::TlsSettings;
use crate::access::{
    AccessOptions, AccessPolicy, AccessRule, AnonymousAccess, BadLine, CertificateUser,
    ChallengePolicy, HtpasswdUsers, LineFault, UserTable,
};
use crate::registry::RepositoryPattern;

/// The clients that are let in at a listener, and their rights.
#[derive(Clone, Debug, Default)]
pub struct AccessSettings {
    /// All of it.
    pub options: AccessOptions,
    /// The file of its users.
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

    /// Reads the users again. Their file may be changing while it is read.
    pub fn read_users_again(&self) -> Result<Option<UserTable>, Vec<Diagnostic>> {
        let Some(path) = &self.htpasswd else { return Ok(None) };
        let file = ConfigFile::read_present(path, HTPASSWD_LEN_MAX)
            .map_err(|fault| vec![fault.at(SourcePlace::WholeFile(path.clone()), None)])?;
        let users = UserTable::parse(&file.bytes);
        users.map(Some).map_err(|bad| bad.iter().map(|line| bad_line(path, line)).collect())
    }
}

/// The meaning of `written` for a listener at `addresses` with this TLS.
pub(super) fn resolve(
    written: Option<&Located<AccessTable>>,
    addresses: &[SocketAddr],
    tls: Option<&TlsSettings>,
    resolver: &mut Resolver<'_>,
) -> AccessSettings {
    let Some(Located { value: written, at }) = written else { return AccessSettings::default() };
    let policy = AccessPolicy {
        anonymous: written.anonymous,
        rules: written.rule.iter().map(rule).collect(),
    };
    let registries = written.rule.iter().filter_map(|rule| rule.registries.as_ref());
    resolver.rule_registries.extend(registries.flat_map(|list| list.0.clone()));
    let users = written.htpasswd.as_ref().and_then(|path| users(path, resolver));
    let certificates = certificates(&written.certificate, tls, resolver);
    check_challenge(written, addresses, tls.is_some(), resolver);
    let has_users = written.htpasswd.is_some() || !certificates.is_empty();
    if !policy.rules.is_empty() && !has_users {
        let fault = ValueFault::new("there are rules for users, but no client can be a user");
        resolver.report(at, fault.hint("add `htpasswd` or `[[access.certificate]]`"));
    }
    warn_of_strangers(&written.rule, users.as_ref(), &certificates, resolver);
    let htpasswd = written.htpasswd.as_ref().and_then(|path| resolver.path(&path.value).ok());
    let challenge = written.challenge.value;
    let users = users.map(HtpasswdUsers::new);
    let options = AccessOptions { challenge, policy, htpasswd: users, certificates };
    AccessSettings { options, htpasswd }
}

/// Warns of rules for names that no user has. A user may be added while Larder runs, so it is no
/// error, and a pattern may be for users to come.
fn warn_of_strangers(
    rules: &[RuleTable],
    users: Option<&UserTable>,
    certificates: &[CertificateUser],
    resolver: &mut Resolver<'_>,
) {
    for Located { value: pattern, at } in rules.iter().flat_map(|rule| &rule.users.0) {
        let name = pattern.to_string();
        let is_known = name.contains(['*', '?', '['])
            || users.is_some_and(|users| users.contains(&name))
            || certificates.iter().any(|known| known.user == name);
        if !is_known {
            let fault = ValueFault::new(format!("a rule is for `{name}`, which is no user"));
            resolver.warn(at, fault.hint("users are in `htpasswd` and `[[access.certificate]]`"));
        }
    }
}

/// Passwords are of no use where clients are not asked for them, and belong to everyone on a
/// network that they cross in the clear.
fn check_challenge(
    written: &AccessTable,
    addresses: &[SocketAddr],
    has_tls: bool,
    resolver: &mut Resolver<'_>,
) {
    let beyond = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
    match (written.challenge.value, &written.htpasswd, beyond) {
        (ChallengePolicy::Never, Some(htpasswd), _) => {
            let fault = ValueFault::new(
                "`htpasswd` means nothing where clients are not asked for a password",
            );
            resolver.report(&htpasswd.at, fault.hint("set `challenge = \"basic\"`"));
        }
        (ChallengePolicy::Basic, _, Some(address)) if !has_tls && !written.insecure_basic.0 => {
            let fault =
                ValueFault::new(format!("passwords would come to `{address}` without encryption"));
            let hint = "give the listener TLS, or set `insecure_basic = true` if something in \
                        front of it has TLS";
            resolver.report(&written.challenge.at, fault.hint(hint));
        }
        _ => {}
    }
}

/// The users in the file at `written`.
pub(super) fn users(written: &Located<String>, resolver: &mut Resolver<'_>) -> Option<UserTable> {
    let bytes = resolver.secret_file(written, HTPASSWD_LEN_MAX)?;
    let path = resolver.path(&written.value).ok()?;
    let users = UserTable::parse(&bytes)
        .map_err(|bad| bad.iter().for_each(|line| resolver.reader.push(bad_line(&path, line))))
        .ok()?;
    if let Some(cheap) = users.cheap() {
        resolver.warn_in_general(format!(
            "{}:{}: {} with a bcrypt cost below 10, which {} quickly guessed once stolen; \
             `htpasswd -B -C 10` makes better ones",
            path.display(),
            cheap.line,
            if cheap.count == 1 { "a hash".to_owned() } else { format!("{} hashes", cheap.count) },
            if cheap.count == 1 { "is" } else { "are" },
        ));
    }
    Some(users)
}

fn bad_line(path: &Path, bad: &BadLine) -> Diagnostic {
    let fault = ValueFault::new(bad.fault.to_string());
    let fault = match bad.fault {
        LineFault::Plain | LineFault::Weak(_) | LineFault::Cost { .. } => {
            fault.hint("make the line with `htpasswd -nB -C 10 USER`")
        }
        _ => fault,
    };
    let place = SourcePlace::File { path: path.to_owned(), line: bad.line, column: 1 };
    fault.at(place, None)
}

fn certificates(
    written: &[Located<CertificateTable>],
    tls: Option<&TlsSettings>,
    resolver: &mut Resolver<'_>,
) -> Vec<CertificateUser> {
    let is_asked = tls.is_some_and(|tls| tls.clients.is_some());
    if let Some(first) = written.first().filter(|_| !is_asked) {
        let fault = ValueFault::new("no client is asked for a certificate here");
        resolver.report(&first.at, fault.hint("set `client_ca` in the listener's `tls`"));
    }
    let user = |table: &CertificateTable| CertificateUser {
        name: table.name.clone(),
        user: table.user.0.clone(),
    };
    written.iter().map(|table| user(&table.value)).collect()
}

fn rule(written: &RuleTable) -> AccessRule {
    let RuleTable { users, registries, repositories, actions } = written;
    let everywhere = || vec![RepositoryPattern::any()];
    AccessRule {
        users: users.0.iter().map(|it| it.value.clone()).collect(),
        registries: registries
            .iter()
            .flat_map(|list| list.0.iter().map(|it| it.value.clone()))
            .collect(),
        repositories: repositories.as_ref().map_or_else(everywhere, |list| list.0.clone()),
        actions: actions.0.clone(),
    }
}

/// A hundred thousand users.
const HTPASSWD_LEN_MAX: u64 = 8 << 20;
