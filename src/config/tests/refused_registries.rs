//! Registries that contradict the protocol, each other or themselves.

use super::*;

/// Two registries at one host would make an answer depend on chance.
#[test]
fn a_host_means_one_registry() {
    refused(&[
        (
            "[registry.'a.b']\nhosts = ['hub.corp']\n[registry.'c.d']\nhosts = ['HUB.corp.']",
            4,
            "registry.\"c.d\".hosts",
            "the host `hub.corp` means both `a.b` and `c.d`",
        ),
        ("[registry.'a.b']\nhosts = ['http://x']", 2, "registry.\"a.b\".hosts", "is not a host"),
        ("[registry.'a.b']\nhosts = ['*.corp']", 2, "registry.\"a.b\".hosts", "is not a host"),
    ]);
    let text =
        "[registry.'a.b']\nhosts = ['a.b', 'A.B', 'c.d']\n[registry.'c.d']\nhosts = ['c.d:1']";
    let settings = Case::of(text).settings();
    assert_eq!(settings.registries[0].hosts, ["a.b".parse().unwrap(), "c.d".parse().unwrap()]);
}

#[test]
fn upstreams_are_checked() {
    const UPSTREAM: &str = "registry.\"a.b\".upstream";
    refused(&[
        ("[registry.'a.b']\nupstream = 'https://u:hunter2@a.b'", 2, UPSTREAM, "password"),
        ("[registry.'a.b']\nupstream = 'https://a.b//'", 2, UPSTREAM, "empty component"),
        ("[registry.'a.b']\nupstream = 'file:///etc'", 2, UPSTREAM, "scheme `file`"),
        ("[registry.'a.b']\nupstream = 'https://ä.b'", 2, UPSTREAM, "`xn--4ca.b`"),
        ("[registry.'a.b']\nupstream = 'a.b:5000'", 2, UPSTREAM, "`https://a.b:5000`?"),
        ("[registry.'a.b']\nauth = []", 2, "registry.\"a.b\".auth", "list of logins is empty"),
        ("[registry.'a.b']\nupstream = []", 2, UPSTREAM, "list of upstreams is empty"),
        (
            "[registry.'a.b']\nupstream = ['x://a','x://b','x://c','x://d','x://e','x://f','x://g','x://h','x://i']",
            2,
            UPSTREAM,
            "more than 8 upstreams",
        ),
        ("[registry.'a.b']\nupstream = ['https://a.b', 'ftp://c.d']", 2, UPSTREAM, "scheme `ftp`"),
        ("[registry.'a.b']\nupstream = {}", 2, UPSTREAM, "the upstream has no `url`"),
        (
            "[registry.'a.b']\nca = '/x'\nupstream = { url = 'https://a.b', ca = '/y' }",
            3,
            "registry.\"a.b\".upstream.ca",
            "given for the registry and for its upstream",
        ),
        ("[registry.'a.b']\nca = '/nowhere.pem'", 2, "registry.\"a.b\".ca", "no such file"),
        ("[registry.'a.b']\nca = 'config.toml'", 2, "registry.\"a.b\".ca", "no certificate in it"),
        (
            "[registry.'a.b']\nclient_cert = 'config.toml'",
            2,
            "registry.\"a.b\".client_cert",
            "has no `client_key`",
        ),
        (
            "[registry.'a.b']\nclient_key = 'config.toml'",
            2,
            "registry.\"a.b\".client_key",
            "has no `client_cert`",
        ),
        (
            "[registry.'a.b']\nclient_cert = 'config.toml'\nclient_key = 'config.toml'",
            2,
            "registry.\"a.b\".client_cert",
            "no certificate in it",
        ),
        (
            "[registry.'a.b']\ntoken_hosts = ['x', 'https://x']",
            2,
            "registry.\"a.b\".token_hosts",
            "`https://x` is not a host",
        ),
        (
            "[registry.'a.b']\nredirect_hosts = ['*.corp']",
            2,
            "registry.\"a.b\".redirect_hosts",
            "without patterns",
        ),
    ]);
}

/// A request to it would come back for ever.
#[test]
fn an_upstream_that_is_larder_itself_is_refused_where_it_stands() {
    const UPSTREAM: &str = "registry.\"a.b\".upstream";
    refused(&[
        (
            "[registry.'a.b']\nupstream = ['http://127.0.0.1:5000', 'https://a.b']",
            2,
            UPSTREAM,
            "hint: write the URL of the registry",
        ),
        (
            "[registry.'a.b']\nupstream = { url = 'http://localhost:5000' }",
            2,
            "registry.\"a.b\".upstream.url",
            "is Larder itself, which listens on `127.0.0.1:5000`",
        ),
        (
            "[[listener]]\naddress = '0.0.0.0:80'\nnames = ['m.corp']\n[registry.'a.b']\n\
             upstream = 'http://m.corp'",
            5,
            UPSTREAM,
            "is Larder itself, which listens on `0.0.0.0:80`",
        ),
        ("[registry.'a.b']\nupstream = 'http://127.0.0.1:5000'", 2, UPSTREAM, "is Larder itself"),
        (
            "listen = '127.0.0.1:80'\n[registry.'127.0.0.1:80']\nupstream = 'http://[::1]'\n\
             [registry.'a.b']\nupstream = 'http://127.0.0.1'",
            5,
            UPSTREAM,
            "is Larder itself",
        ),
    ]);
}

#[test]
fn credentials_are_checked() {
    const AUTH: &str = "registry.\"a.b\".auth";
    refused(&[
        ("[registry.'a.b']\nauth = {}", 2, AUTH, "`auth` has no `type`"),
        (
            "[registry.'a.b']\nauth.type = 'iam'",
            2,
            auth("type"),
            "`iam` is none of `anonymous`, `basic`",
        ),
        ("[registry.'a.b']\nauth.type = 'Basic'", 2, auth("type"), "did you mean `basic`?"),
        ("[registry.'a.b']\nauth = { type = 'basic' }", 2, AUTH, "has no `username`"),
        ("[registry.'a.b']\nauth = { type = 'basic', username = 'u' }", 2, AUTH, "no password"),
        (
            "[registry.'a.b']\nauth = { type = 'basic', username = 'u:v', password = 'hunter2' }",
            2,
            auth("username"),
            "no colon",
        ),
        (
            "[registry.'a.b']\n[registry.'a.b'.auth]\ntype = 'basic'\nusername = 'u'\n\
             password = 'hunter2'\npassword_env = 'X'",
            2,
            AUTH,
            "given more than once",
        ),
        (
            "[registry.'a.b'.auth]\ntype = 'basic'\nusername = 'u'\npassword = \"hunter2\\n\"",
            4,
            auth("password"),
            "line break",
        ),
        (
            "[registry.'a.b'.auth]\ntype = 'basic'\nusername = 'u'\npassword = \"a\\u0007b\"",
            4,
            auth("password"),
            "control character",
        ),
        (
            "[registry.'a.b'.auth]\ntype = 'basic'\nusername = 'u'\npassword = ''",
            4,
            auth("password"),
            "the password is empty",
        ),
        (
            "[registry.'a.b'.auth]\ntype = 'basic'\nusername = 'u'\npassword_file = 'none'",
            4,
            auth("password_file"),
            "there is no such file",
        ),
        (
            "[registry.'a.b'.auth]\ntype = 'basic'\nusername = 'u'\npassword_file = '/dev/null'",
            4,
            auth("password_file"),
            "it is a device",
        ),
        (
            "[registry.'a.b'.auth]\ntype = 'basic'\nusername = 'u'\npassword_env = 'NONE'",
            4,
            auth("password_env"),
            "the environment variable `NONE` is not set",
        ),
        (
            "[registry.'a.b']\nauth = { type = 'anonymous', password = 'hunter2' }",
            2,
            auth("password"),
            "did you mean `type = \"basic\"`?",
        ),
    ]);
}

#[test]
fn sources_of_credentials_are_checked() {
    refused(&[
        (
            "[registry.'a.b']\nauth = { type = 'basic', helper = 'x' }",
            2,
            "registry.\"a.b\".auth.helper",
            "did you mean `type = \"helper\"`?",
        ),
        (
            "[registry.'a.b']\nauth = { type = 'helper' }",
            2,
            "registry.\"a.b\".auth",
            "`auth` has no `helper`",
        ),
        (
            "[registry.'a.b']\nauth = { type = 'helper', helper = '../../bin/sh' }",
            2,
            "registry.\"a.b\".auth.helper",
            "a helper is named by letters",
        ),
        (
            "[registry.'a.b']\nauth = { type = 'kubelet' }",
            2,
            "registry.\"a.b\".auth",
            "`auth` has no `command`",
        ),
        (
            "[registry.'a.b']\nauth = { type = 'kubelet', command = ['ecr-provider', '-x'] }",
            2,
            "registry.\"a.b\".auth.command",
            "the program is not an absolute path",
        ),
        (
            "[registry.'a.b']\nauth = { type = 'ecr' }",
            2,
            "registry.\"a.b\".auth",
            "does not name a region of AWS",
        ),
        (
            "[registry.'a.b']\nauth = { type = 'ecr', region = 'eu-west-1.evil.test/' }",
            2,
            "registry.\"a.b\".auth.region",
            "a region has lower-case letters",
        ),
        (
            "[registry.'a.b']\nauth = { type = 'ecr', region = 'eu-west-1', role_arn = 'admin' }",
            2,
            "registry.\"a.b\".auth.role_arn",
            "not the ARN of a role",
        ),
    ]);
}

const fn auth(key: &'static str) -> &'static str {
    match key.as_bytes() {
        b"type" => "registry.\"a.b\".auth.type",
        b"username" => "registry.\"a.b\".auth.username",
        b"password" => "registry.\"a.b\".auth.password",
        b"password_file" => "registry.\"a.b\".auth.password_file",
        _ => "registry.\"a.b\".auth.password_env",
    }
}

#[test]
fn one_name_means_one_registry() {
    refused(&[
        ("[registry.'a.b']\n[registry.'a.b']", 2, "", "duplicate key `'a.b'`\n"),
        ("[registry.'a.b']\n[registry.'a.b']", 2, "", "hint: it stands in this file already"),
        ("[registry.docker.io]", 1, "registry.docker", "quotes: `[registry.\"docker.io\"]`"),
        (
            "[registry.k8s.gcr.io]\nupstream = 'https://k8s.gcr.io'",
            1,
            "registry.k8s",
            "the dots of `k8s.gcr.io` divide tables",
        ),
        (
            "registry.quay.io.upstream = { url = 'https://quay.io' }",
            1,
            "registry.quay",
            "`[registry.\"quay.io\"]`",
        ),
        ("[registry.a.corp:5000]", 1, "", "quotes, as in `[registry.\"a.corp:5000\"]`"),
        ("[registry.'a.b']\n[registry.'A.B:443']", 2, "registry.\"A.B:443\"", "two tables"),
        ("[registry.'*.b']", 1, "registry.\"*.b\"", "at least two last labels"),
        ("[registry.'https://a.b']", 1, "registry.\"https://a.b\"", "is not the name"),
        (
            "[registry.'a.b']\n[registry.'c.d']\naliases = ['A.B']",
            3,
            "registry.\"c.d\".aliases",
            "both `a.b` and `c.d` are called `a.b`",
        ),
        (
            "[registry.'a.b:1']\nprefix = 'x.y'\n[registry.'c.d']\nprefix = 'x.y'",
            4,
            "registry.\"c.d\".prefix",
            "both `a.b:1` and `c.d` are called `x.y`",
        ),
        (
            "[registry.'c.d']\nprefix = 'a.b'\n[registry.'a.b']",
            3,
            "registry.\"a.b\"",
            "both `c.d` and `a.b` are called `a.b`",
        ),
        (
            "[registry.'docker.io']\n[registry.'index.docker.io']",
            2,
            "registry.\"index.docker.io\"",
            "unless that sets `aliases`",
        ),
        ("[registry.'a.b']\nprefix = 'ab'", 2, "registry.\"a.b\".prefix", "needs a dot"),
        ("[registry.'a.b']\nprefix = 'a.b:1'", 2, "registry.\"a.b\".prefix", "no colon"),
        ("[registry.'a.b']\nprefix = 'a.b/c'", 2, "registry.\"a.b\".prefix", "one path component"),
        ("[registry.'a.b']\nprefix = 'A.b'", 2, "registry.\"a.b\".prefix", "lower case"),
        (
            "[registry.'a.b']\ndefault = true\n[registry.'docker.io']\ndefault = true",
            4,
            "registry.\"docker.io\".default",
            "both `a.b` and `docker.io` are the default",
        ),
    ]);
}

#[test]
fn rules_are_checked() {
    const RULE: &str = "registry.\"a.b\".tag_rules";
    refused(&[
        ("[registry.'a.b']\nallow = ['a', '[']", 2, "registry.\"a.b\".allow", "not a pattern"),
        ("[registry.'a.b']\ndeny = ['']", 2, "registry.\"a.b\".deny", "not a pattern"),
        ("[registry.'a.b']\ntag_rules = [{ match = 'v*' }]", 2, RULE, "has no `ttl`"),
        ("[registry.'a.b']\ntag_rules = [{ ttl = '1d' }]", 2, RULE, "has no `match`"),
        (
            "[registry.'a.b']\ntag_rules = [{ match = 'v*', ttl = '1' }]",
            2,
            "registry.\"a.b\".tag_rules[0].ttl",
            "is not a duration",
        ),
        (
            "[registry.'a.b']\ntag_rules = [{ mach = 'v*', ttl = '1d' }]",
            2,
            "registry.\"a.b\".tag_rules[0].mach",
            "did you mean `match`?",
        ),
        ("[registry.'a.b']\noffline = 'yes'", 2, "registry.\"a.b\".offline", "expected"),
    ]);
}

/// A pattern that is too open, or an entry that is about one registry and for many.
#[test]
fn patterns_of_names_are_checked() {
    let named = |key: &str| format!("`{key}` is for one registry, and this is a pattern");
    for (keys, key) in [
        ("upstream = 'https://a.b'", "upstream"),
        ("default = true", "default"),
        ("aliases = ['a.b']", "aliases"),
        ("prefix = 'a.b'", "prefix"),
        ("hosts = ['a.b']", "hosts"),
        ("max_size = '1GiB'", "max_size"),
        ("max_idle = '1d'", "max_idle"),
    ] {
        let text = format!("[registry.'*.azurecr.io']\n{keys}");
        let problems = Case::of(text).problems();
        assert_eq!((line(&problems[0]), &problems[0].what), (1, &named(key)), "{problems:?}");
    }
    let client = "[access]\nchallenge = 'basic'\ninsecure_basic = true\n\
                  [registry.'*.azurecr.io']\nidentity = 'client'";
    let problems = Case::of(client).problems();
    assert!(problems.iter().any(|it| it.what == named("identity")), "{problems:?}");
    refused(&[
        ("[registry.'*']", 1, "registry.\"*\"", "at least two last labels"),
        ("[registry.'*.io']", 1, "registry.\"*.io\"", "at least two last labels"),
        (
            "[registry.'a.b']\nprivate_hosts = true",
            2,
            "registry.\"a.b\".private_hosts",
            "for an entry whose name is a pattern",
        ),
    ]);
    let rule = "[access]\nhtpasswd = 'users'\nchallenge = 'basic'\n[[access.rule]]\n\
                registries = ['1.dkr.ecr.eu-west-1.amazonaws.com']\nactions = ['pull']\n\
                [registry.'*.dkr.ecr.*.amazonaws.com']\nauth = { type = 'ecr' }";
    let problems = Case::of(rule).load().err();
    let is_unknown = |it: &Diagnostic| it.what.contains("which is no registry here");
    assert!(!problems.is_some_and(|all| all.iter().any(is_unknown)), "a pattern matches it");
    let settings = Case::of("[registry.'*-Docker.pkg.dev']\nprivate_hosts = true").settings();
    assert_eq!(settings.registries[0].key(), "*-docker.pkg.dev");
    assert!(!settings.registries[0].upstream.must_be_public);
}
