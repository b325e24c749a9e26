//! `auth`: with whose credential an upstream is asked, and where its password is.
//!
//! No message in this file may contain a password or what could be one.

use std::ops::Range;

use secrecy::{ExposeSecret, SecretString};
use toml::Spanned;

use super::problem::{Fault, nearest, quoted};
use super::resolver::Resolver;
use super::written::Auth;
use crate::upstream::Credential;

/// The credential that `auth` describes; anonymous where there is none.
pub(super) fn resolve(auth: Option<Spanned<Auth>>, resolver: &mut Resolver<'_>) -> Credential {
    let Some(auth) = auth else { return Credential::Anonymous };
    let span = auth.span();
    let auth = auth.into_inner();
    let Some(kind) = &auth.r#type else {
        let fault = Fault::new("`auth` has no `type`").hint(format!("one of `{ONE_OF}`"));
        resolver.complain(span, fault);
        return Credential::Anonymous;
    };
    match kind.get_ref().as_str() {
        ANONYMOUS => {
            refuse_extras(&auth, resolver);
            Credential::Anonymous
        }
        BASIC => basic(&auth, span, resolver).unwrap_or(Credential::Anonymous),
        other => {
            let hint = match nearest(other, &[ANONYMOUS, BASIC]) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("one of `{ONE_OF}`"),
            };
            let fault = Fault::new(format!("unknown type of `auth`: {}", quoted(other)));
            resolver.complain(kind.span(), fault.hint(hint));
            Credential::Anonymous
        }
    }
}

/// Keys that mean nothing to `anonymous` are most likely meant for `basic`.
fn refuse_extras(auth: &Auth, resolver: &mut Resolver<'_>) {
    let extras = [
        auth.username.as_ref().map(Spanned::span),
        auth.password.as_ref().map(Spanned::span),
        auth.password_file.as_ref().map(Spanned::span),
        auth.password_env.as_ref().map(Spanned::span),
    ];
    if let Some(span) = extras.into_iter().flatten().next() {
        let fault = Fault::new("this means nothing to `type = \"anonymous\"`");
        resolver.complain(span, fault.hint("did you mean `type = \"basic\"`?"));
    }
}

fn basic(auth: &Auth, span: Range<usize>, resolver: &mut Resolver<'_>) -> Option<Credential> {
    let Some(username) = &auth.username else {
        resolver.complain(span, Fault::new("`auth` has no `username`"));
        return None;
    };
    let username = resolver.given(Some(username), |text| {
        if text.is_empty() {
            return Err(Fault::new("the user name is empty"));
        }
        // RFC 7617, section 2: the first colon ends the user name.
        if text.contains(':') || text.contains(char::is_control) {
            return Err(Fault::new("a user name can hold no colon and no control character"));
        }
        Ok(text.to_owned())
    });
    let password = password(auth, span, resolver);
    Some(Credential::Basic { username: username?, password: password? })
}

fn password(auth: &Auth, span: Range<usize>, resolver: &mut Resolver<'_>) -> Option<SecretString> {
    let (span, password) = match (&auth.password, &auth.password_file, &auth.password_env) {
        (Some(password), None, None) => {
            resolver.holds_secret();
            (password.span(), password.get_ref().clone())
        }
        (None, Some(file), None) => {
            let bytes = resolver.file(file, PASSWORD_FILE_LEN_MAX, true)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Fault::new("the password in this file is not UTF-8"));
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
            let fault = Fault::new("`auth` has no password")
                .hint("give `password_file`, `password_env` or `password`");
            resolver.complain(span, fault);
            return None;
        }
        _ => {
            let fault = Fault::new("the password is given more than once")
                .hint("keep one of `password`, `password_file` and `password_env`");
            resolver.complain(span, fault);
            return None;
        }
    };
    let checked = check(password);
    resolver.accept(span, checked)
}

fn from_environment(name: &str, resolver: &Resolver<'_>) -> Result<SecretString, Fault> {
    match resolver.environment().text(name) {
        Some(value) => value.map(SecretString::from),
        None => Err(Fault::new(format!("the environment variable {} is not set", quoted(name)))),
    }
}

fn check(password: SecretString) -> Result<SecretString, Fault> {
    let text = password.expose_secret();
    if text.is_empty() {
        return Err(Fault::new("the password is empty"));
    }
    if text.contains(char::is_control) {
        return Err(Fault::new("the password holds a line break or another control character"));
    }
    Ok(password)
}

const ANONYMOUS: &str = "anonymous";
const BASIC: &str = "basic";
const ONE_OF: &str = "anonymous`, `basic";

/// Tokens of cloud registries have a few KiB; more is the wrong file.
const PASSWORD_FILE_LEN_MAX: u64 = 64 * 1024;
