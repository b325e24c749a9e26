//! `auth`: the credential with which an upstream is asked, and where its password is.
//!
//! No message in this file may contain a password or what could be one.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::auth_keys::{AuthList, AuthTable, given_keys};
use super::diagnostics::{Diagnostic, SourcePlace, ValueFault, quoted};
use super::file::ConfigFile;
use super::issued_credential::issued;
use super::reader::{KeyLocation, Located};

use super::reader::FromText as _;
use super::resolver::Resolver;
use super::values::AuthKind;
use crate::upstream::{LoginOptions, ProxyCredential};

/// The logins that `auth` describes for the upstream at `url`; none where there is no `auth`.
pub(super) fn resolve(
    auth: Option<Located<AuthList>>,
    url: &Url,
    resolver: &mut Resolver<'_>,
) -> Vec<LoginOptions> {
    let tables = auth.map(|auth| auth.value.0).unwrap_or_default();
    let login = |auth: Located<AuthTable>| {
        let file = auth.value.password_file.as_ref();
        let password_file = file.and_then(|file| resolver.path(&file.value).ok());
        LoginOptions { credential: credential(auth, url, resolver), password_file }
    };
    tables.into_iter().map(login).collect()
}

fn credential(auth: Located<AuthTable>, url: &Url, resolver: &mut Resolver<'_>) -> ProxyCredential {
    let Located { value: auth, at } = auth;
    let kind = auth.r#type;
    refuse_extras(&auth, resolver);
    let credential = match kind {
        AuthKind::Anonymous => None,
        AuthKind::Basic => basic(auth, &at, resolver),
        _ => issued(auth, url, &at, resolver).map(ProxyCredential::Issued),
    };
    credential.unwrap_or(ProxyCredential::Anonymous)
}

/// The keys that mean something to a kind of credential.
fn keys_of(kind: AuthKind) -> &'static [&'static str] {
    match kind {
        AuthKind::Anonymous => &[],
        AuthKind::Acr => &[
            "tenant",
            "client_id",
            "client_secret_file",
            "client_certificate",
            "authority",
            "audience",
        ],
        AuthKind::Basic => &["username", "password", "password_file", "password_env"],
        AuthKind::DockerConfig | AuthKind::Google => &["file"],
        AuthKind::Ecr => &["region", "profile", "role_arn", "endpoint", "sts_endpoint"],
        AuthKind::Helper => &["helper", "lifetime"],
        AuthKind::Kubelet => &["command"],
    }
}

/// A key that means nothing to a kind of credential is most likely meant for another one.
fn refuse_extras(auth: &AuthTable, resolver: &mut Resolver<'_>) {
    let known = keys_of(auth.r#type);
    let Some((key, at)) = given_keys(auth).into_iter().find(|(key, _)| !known.contains(key)) else {
        return;
    };
    let kinds = AuthKind::WORDS.iter().filter_map(|word| {
        let kind = AuthKind::from_text(word).ok()?;
        Some((format!("`type = \"{word}\"`"), kind))
    });
    let (own, others): (Vec<_>, Vec<_>) = kinds.partition(|(_, kind)| *kind == auth.r#type);
    let own: String = own.into_iter().map(|(text, _)| text).collect();
    let others = others.into_iter().filter(|(_, kind)| keys_of(*kind).contains(&key));
    let others: Vec<_> = others.map(|(text, _)| text).collect();
    let fault = format!("this means nothing to {own}");
    let hint = format!("did you mean {}?", others.join(" or "));
    resolver.report(at, ValueFault::new(fault).hint(hint));
}

fn basic(
    auth: AuthTable,
    at: &KeyLocation,
    resolver: &mut Resolver<'_>,
) -> Option<ProxyCredential> {
    let Some(username) = &auth.username else {
        resolver.report(at, ValueFault::new("`auth` has no `username`"));
        return None;
    };
    let username = resolver.accept(&username.at, check_username(&username.value));
    let password = password(auth, at, resolver);
    Some(ProxyCredential::Basic { username: username?, password: password? })
}

fn check_username(text: &str) -> Result<String, ValueFault> {
    if text.is_empty() {
        return Err(ValueFault::new("the user name is empty"));
    }
    // RFC 7617, section 2: the first colon ends the user name.
    if text.contains(':') || text.contains(char::is_control) {
        return Err(ValueFault::new("a user name can hold no colon and no control character"));
    }
    Ok(text.to_owned())
}

fn password(
    auth: AuthTable,
    at: &KeyLocation,
    resolver: &mut Resolver<'_>,
) -> Option<SecretString> {
    let (at, password) = match (auth.password, auth.password_file, auth.password_env) {
        (Some(password), None, None) => {
            resolver.note_secret();
            let value = resolver.accept(&password.at, check_end(password.value))?;
            (password.at, value)
        }
        (None, Some(file), None) => {
            let password = from_file(&file, resolver)?;
            (file.at, password)
        }
        (None, None, Some(name)) => {
            let value = from_environment(&name.value, resolver);
            let password = resolver.accept(&name.at, value)?;
            (name.at, password)
        }
        (None, None, None) => {
            let fault = ValueFault::new("`auth` has no password");
            let hint = "give `password_file`, `password_env` or `password`";
            return resolver.accept(at, Err(fault.hint(hint)));
        }
        _ => {
            let fault = ValueFault::new("the password is given more than once");
            let hint = "keep one of `password`, `password_file` and `password_env`";
            return resolver.accept(at, Err(fault.hint(hint)));
        }
    };
    resolver.accept(&at, check_password(password))
}

fn from_file(file: &Located<String>, resolver: &mut Resolver<'_>) -> Option<SecretString> {
    let bytes = resolver.secret_file(file, PASSWORD_FILE_LEN_MAX)?;
    resolver.accept(&file.at, of_file(bytes))
}

/// Reads the password in a file again, which may be changing while it is read.
pub fn read_password_again(path: &Path) -> Result<SecretString, Diagnostic> {
    let read = ConfigFile::read_present(path, PASSWORD_FILE_LEN_MAX);
    let password = read.and_then(|file| check_password(of_file(file.bytes)?));
    password.map_err(|fault| fault.at(SourcePlace::WholeFile(path.to_owned()), None))
}

fn of_file(bytes: Vec<u8>) -> Result<SecretString, ValueFault> {
    let text = String::from_utf8(bytes)
        .map_err(|_| ValueFault::new("the password in this file is not UTF-8"))?;
    // Most editors and `echo` end a file with a newline that is not meant. `docker login
    // --password-stdin` removes as much, so that each client sends the same.
    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
    Ok(SecretString::from(trimmed.strip_suffix('\r').unwrap_or(trimmed)))
}

fn from_environment(name: &str, resolver: &Resolver<'_>) -> Result<SecretString, ValueFault> {
    let value = resolver.environment.text(name);
    let unset =
        || Err(ValueFault::new(format!("the environment variable {} is not set", quoted(name))));
    check_end(value.map_or_else(unset, |value| value.map(SecretString::from))?)
}

/// Refuses a password whose last newline was written where none is removed.
fn check_end(password: SecretString) -> Result<SecretString, ValueFault> {
    if password.expose_secret().ends_with(['\n', '\r']) {
        let fault = ValueFault::new("the password ends in a line break");
        return Err(fault.hint("`password_file` leaves out the last one of a file"));
    }
    Ok(password)
}

/// Line breaks within are kept: Google's keys for `_json_key` are files of several lines.
fn check_password(password: SecretString) -> Result<SecretString, ValueFault> {
    let text = password.expose_secret();
    if text.is_empty() {
        return Err(ValueFault::new("the password is empty"));
    }
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(ValueFault::new("the password holds a control character"));
    }
    Ok(password)
}

/// Tokens of cloud registries have a few KiB; more is the wrong file.
const PASSWORD_FILE_LEN_MAX: u64 = 64 * 1024;
