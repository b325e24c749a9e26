//! The URL of an upstream: scheme, host, perhaps a port and a path, and nothing that only looks so.
//!
//! URL parsers repair what they are given: they drop tabs, turn backslashes round, and read
//! `https:2130706433` as 127.0.0.1. An operator should be told instead. No message quotes the URL,
//! since what is wrong with it may be that it holds a password.

use url::{Host, Url};

use super::diagnostics::{ValueFault, quoted};
use crate::upstream::RegistryBase;

/// Reads the URL of a registry: `http://host[:port][/path]` or the same with `https`.
pub(super) fn parse(text: &str) -> Result<Url, ValueFault> {
    let url = parse_http(text)?;
    if RegistryBase::new(&url).is_none() {
        return Err(ValueFault::new("what follows `/v2/` is no repository name")
            .hint("write `https://host/v2/project` for a project of a registry, in lower case"));
    }
    Ok(url)
}

/// Reads such a URL of any service.
pub(super) fn parse_http(text: &str) -> Result<Url, ValueFault> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| without_scheme(text))?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        let fault = ValueFault::new(format!("the scheme {} is not supported", quoted(scheme)));
        return Err(fault.hint("write `https://…`, or `http://…` for a registry without TLS"));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(ValueFault::new("the URL holds a space, a backslash or a control character"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') {
        return Err(ValueFault::new("the URL holds a user name or password")
            .hint("use `auth = { type = \"basic\", username = \"…\", password_file = \"…\" }`"));
    }
    check_tail(tail)?;
    if authority.is_empty() || authority.starts_with(':') {
        return Err(ValueFault::new("the URL has no host"));
    }
    let mut url = Url::parse(text)
        .map_err(|error| ValueFault::new(format!("the URL is invalid: {error}")))?;
    check_host(authority, &url)?;
    if url.port() == Some(0) {
        return Err(ValueFault::new("port 0 cannot be connected to"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn without_scheme(text: &str) -> ValueFault {
    let fault = ValueFault::new("the URL has no scheme");
    let is_plain_host = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'));
    fault.hint(if is_plain_host {
        format!("did you mean `https://{text}`?")
    } else {
        "write `https://host` or `https://host:port`".to_owned()
    })
}

fn check_tail(tail: &str) -> Result<(), ValueFault> {
    let (before, fragment) = tail.split_once('#').map_or((tail, None), |(b, f)| (b, Some(f)));
    let (path, query) = before.split_once('?').map_or((before, None), |(p, q)| (p, Some(q)));
    check_path(path)?;
    for (has_one, name, mark) in [(query, "query", '?'), (fragment, "fragment", '#')] {
        if has_one.is_some() {
            let fault = ValueFault::new(format!("the URL has a {name}"));
            return Err(fault.hint(format!("leave out the `{mark}` and what follows")));
        }
    }
    Ok(())
}

/// Refuses a path that a URL parser would change, and one that would have to be escaped.
fn check_path(path: &str) -> Result<(), ValueFault> {
    let components = path.strip_suffix('/').unwrap_or(path).split('/').skip(1);
    for component in components {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:+".contains(c);
        if matches!(component, "" | "." | "..") || !component.chars().all(is_plain) {
            let what = "the URL's path has an empty component, or a character that paths escape";
            return Err(ValueFault::new(what)
                .hint("write it as `https://host/path`; Larder adds `/v2/` and the repository"));
        }
    }
    Ok(())
}

/// Refuses hosts that were read as something else than what was written.
fn check_host(authority: &str, url: &Url) -> Result<(), ValueFault> {
    let parsed = url.host_str().unwrap_or_default();
    if !authority.is_ascii() {
        // Look-alike letters are how one registry poses as another, so the operator has to see
        // the name that is asked for.
        return Err(
            ValueFault::new("the host is not ASCII").hint(format!("write it as `{parsed}`"))
        );
    }
    let written = match url.host() {
        // There are many ways to write one IPv6 address, and all of them are unmistakable.
        Some(Host::Ipv6(_)) => return Ok(()),
        _ => authority.split(':').next().unwrap_or_default(),
    };
    if !written.eq_ignore_ascii_case(parsed) {
        return Err(ValueFault::new("the host is not written plainly")
            .hint(format!("it would be read as `{parsed}`")));
    }
    if parsed.parse::<crate::oci::RegistryName>().is_err() {
        return Err(ValueFault::new("the host has characters that no host name has"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_plain_paths_are_taken() {
        for (text, want) in [
            ("https://registry-1.docker.io", "https://registry-1.docker.io/"),
            ("https://registry.corp/", "https://registry.corp/"),
            ("HTTPS://Registry.Corp:5000", "https://registry.corp:5000/"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/"),
            ("http://[::1]:5000", "http://[::1]:5000/"),
            ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example/"),
            (
                "https://a.corp/artifactory/api/docker/hub",
                "https://a.corp/artifactory/api/docker/hub",
            ),
            ("https://n.corp/repository/docker-hub/", "https://n.corp/repository/docker-hub"),
            ("https://harbor.corp/v2/hub-proxy/", "https://harbor.corp/v2/hub-proxy"),
            ("https://registry.corp/v2/", "https://registry.corp/v2"),
            ("https://gitlab.com/v2/g/dependency_proxy/containers", {
                "https://gitlab.com/v2/g/dependency_proxy/containers"
            }),
            ("http://larder.corp:5000/ghcr.io", "http://larder.corp:5000/ghcr.io"),
            ("http://larder.corp:5000/r.corp:5001", "http://larder.corp:5000/r.corp:5001"),
            ("https://[::1]/A_b~c+d", "https://[::1]/A_b~c+d"),
        ] {
            assert_eq!(parse(text).expect(text).as_str(), want);
        }
    }

    #[test]
    fn each_way_to_be_no_origin_has_its_message_and_none_shows_the_secret() {
        for (text, want) in [
            ("", "has no scheme"),
            ("registry.corp:5000", "has no scheme"),
            ("https:registry.corp", "has no scheme"),
            ("file:///etc/passwd", "the scheme `file` is not supported"),
            ("ftp://registry.corp", "the scheme `ftp` is not supported"),
            ("https://user:hunter2@registry.corp", "user name or password"),
            ("https://hunter2@registry.corp", "user name or password"),
            ("https://@registry.corp", "user name or password"),
            ("https://registry.corp//", "empty component"),
            ("https://registry.corp/a//b", "empty component"),
            ("https://registry.corp/a/../b", "empty component"),
            ("https://registry.corp/./a", "empty component"),
            ("https://registry.corp/a%2fb", "that paths escape"),
            ("https://registry.corp/ä", "that paths escape"),
            ("https://registry.corp/a;hunter2", "that paths escape"),
            ("https://registry.corp/v2/Project", "no repository name"),
            ("https://registry.corp/v2/a/-", "no repository name"),
            ("https://registry.corp/v2/hub?token=hunter2", "has a query"),
            ("https://registry.corp/?token=hunter2", "has a query"),
            ("https://registry.corp?", "has a query"),
            ("https://registry.corp#hunter2", "has a fragment"),
            ("https://", "has no host"),
            ("https:///", "has no host"),
            ("https://:443", "has no host"),
            ("https://registry.corp:0", "port 0"),
            ("https://registry.corp:65536", "the URL is invalid"),
            ("https://registry.corp:x", "the URL is invalid"),
            ("https://[::1", "the URL is invalid"),
            ("https://regi\tstry.corp", "control character"),
            (" https://registry.corp", "the scheme ` https`"),
            ("https://registry.corp\\x", "backslash"),
            ("https://münchen.example", "not ASCII"),
            ("https://2130706433", "not written plainly"),
            ("https://0x7f.1", "not written plainly"),
            ("https://a%2eb", "not written plainly"),
            ("https://a_b.corp", "characters that no host name has"),
            ("https://*.corp", "characters that no host name has"),
        ] {
            let fault = parse(text).expect_err(text);
            assert!(fault.what.contains(want), "{text}: {}", fault.what);
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
    }
}
