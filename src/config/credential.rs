//! `auth`: with whose credential an upstream is asked, and where its password is.
//!
//! No message in this file may contain a password or what could be one.

use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};
use toml::Spanned;

use super::diagnostics::{ValueFault, nearest, quoted};
use super::resolver::Resolver;
use super::written::AuthTable;
use crate::upstream::ProxyCredential;

/// The credential that `auth` describes; anonymous where there is none.
pub(super) fn resolve(
    auth: Option<Spanned<AuthTable>>,
    resolver: &mut Resolver<'_>,
) -> ProxyCredential {
    let Some(auth) = auth else { return ProxyCredential::Anonymous };
    let span = auth.span();
    let auth = auth.into_inner();
    let Some(kind) = &auth.r#type else {
        let fault = ValueFault::new("`auth` has no `type`").hint(format!("one of `{ONE_OF}`"));
        resolver.report(span, fault);
        return ProxyCredential::Anonymous;
    };
    match kind.get_ref().as_str() {
        ANONYMOUS => {
            refuse_extras(&auth, resolver);
            ProxyCredential::Anonymous
        }
        BASIC => basic(&auth, span, resolver).unwrap_or(ProxyCredential::Anonymous),
        other => {
            let hint = match nearest(other, &[ANONYMOUS, BASIC]) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("one of `{ONE_OF}`"),
            };
            let fault = ValueFault::new(format!("unknown type of `auth`: {}", quoted(other)));
            resolver.report(kind.span(), fault.hint(hint));
            ProxyCredential::Anonymous
        }
    }
}

/// Keys that mean nothing to `anonymous` are most likely meant for `basic`.
fn refuse_extras(auth: &AuthTable, resolver: &mut Resolver<'_>) {
    let extras = [
        auth.username.as_ref().map(Spanned::span),
        auth.password.as_ref().map(Spanned::span),
        auth.password_file.as_ref().map(Spanned::span),
        auth.password_env.as_ref().map(Spanned::span),
    ];
    if let Some(span) = extras.into_iter().flatten().next() {
        let fault = ValueFault::new("this means nothing to `type = \"anonymous\"`");
        resolver.report(span, fault.hint("did you mean `type = \"basic\"`?"));
    }
}

fn basic(
    auth: &AuthTable,
    span: Range<usize>,
    resolver: &mut Resolver<'_>,
) -> Option<ProxyCredential> {
    let Some(username) = &auth.username else {
        resolver.report(span, ValueFault::new("`auth` has no `username`"));
        return None;
    };
    let username = resolver.given(Some(username), |text| {
        if text.is_empty() {
            return Err(ValueFault::new("the user name is empty"));
        }
        // RFC 7617, section 2: the first colon ends the user name.
        if text.contains(':') || text.contains(char::is_control) {
            return Err(ValueFault::new("a user name can hold no colon and no control character"));
        }
        Ok(text.to_owned())
    });
    let password = password(auth, span, resolver);
    Some(ProxyCredential::Basic { username: username?, password: password? })
}

fn password(
    auth: &AuthTable,
    span: Range<usize>,
    resolver: &mut Resolver<'_>,
) -> Option<SecretString> {
    let (span, password) = match (&auth.password, &auth.password_file, &auth.password_env) {
        (Some(password), None, None) => {
            resolver.holds_secret();
            (password.span(), password.get_ref().clone())
        }
        (None, Some(file), None) => {
            let bytes = resolver.file(file, PASSWORD_FILE_LEN_MAX, true)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| ValueFault::new("the password in this file is not UTF-8"));
            let text = resolver.accept(file.span(), text)?;
            // Most editors and `echo` end a file with a newline that is not meant.
            let trimmed = text.strip_suffix('\n').unwrap_or(&text);
            let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
            (file.span(), SecretString::from(trimmed))
        }
        (None, None, Some(name)) => {
            let value = from_environment(name.get_ref(), resolver);
            (name.span(), resolver.accept(name.span(), value)?)
        }
        (None, None, None) => {
            let fault = ValueFault::new("`auth` has no password")
                .hint("give `password_file`, `password_env` or `password`");
            resolver.report(span, fault);
            return None;
        }
        _ => {
            let fault = ValueFault::new("the password is given more than once")
                .hint("keep one of `password`, `password_file` and `password_env`");
            resolver.report(span, fault);
            return None;
        }
    };
    let checked = check(password);
    resolver.accept(span, checked)
}

fn from_environment(name: &str, resolver: &Resolver<'_>) -> Result<SecretString, ValueFault> {
    match resolver.environment().text(name) {
        Some(value) => value.map(SecretString::from),
        None => {
            Err(ValueFault::new(format!("the environment variable {} is not set", quoted(name))))
        }
    }
}

fn check(password: SecretString) -> Result<SecretString, ValueFault> {
    let text = password.expose_secret();
    if text.is_empty() {
        return Err(ValueFault::new("the password is empty"));
    }
    if text.contains(char::is_control) {
        return Err(ValueFault::new(
            "the password holds a line break or another control character",
        ));
    }
    Ok(password)
}

const ANONYMOUS: &str = "anonymous";
const BASIC: &str = "basic";
const ONE_OF: &str = "anonymous`, `basic";

/// Tokens of cloud registries have a few KiB; more is the wrong file.
const PASSWORD_FILE_LEN_MAX: u64 = 64 * 1024;
