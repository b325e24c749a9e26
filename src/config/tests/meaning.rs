//! The meaning of configurations without faults.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;
use crate::upstream::{self, ProxyCredential};

#[test]
fn without_a_file_the_well_known_registries_exist() {
    let mut case = Case::of("");
    case.arguments.config = None;
    let loaded = case.load().unwrap();
    let settings = loaded.settings;
    let names: Vec<_> = settings.registries.iter().map(|r| r.name.as_str()).collect();

    assert_eq!(loaded.file, None);
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.listeners[0].address, "127.0.0.1:5000".parse::<SocketAddr>().unwrap());
    assert_eq!(settings.store.dir, Path::new("/home/test/.cache/larder"));
    assert_eq!(
        names,
        [
            "docker.io",
            "ghcr.io",
            "quay.io",
            "gcr.io",
            "registry.k8s.io",
            "mcr.microsoft.com",
            "public.ecr.aws"
        ]
    );
    let docker = &settings.registries[0];
    assert_eq!(docker.upstream.url.as_str(), "https://registry-1.docker.io/");
    assert_eq!(docker.prefix.as_deref(), Some("docker.io"));
    assert_eq!(docker.aliases.len(), 2);
    let defaults: Vec<_> = settings.registries.iter().map(|r| r.is_default).collect();
    assert_eq!(defaults, [true, false, false, false, false, false, false]);
    assert!(settings.warnings.is_empty());
}

#[test]
fn a_table_stands_alone_but_takes_what_is_known_of_its_name() {
    let settings = Case::of(
        "[registry.'harbor.corp:8443']\n[registry.'docker.io']\ntag_ttl = '5m'\n\
         [registry.localhost]\nupstream = 'http://localhost:1'\n[registry.'[::1]:2']",
    )
    .settings();
    let [harbor, docker, local, six] = &settings.registries[..] else { panic!("{settings:?}") };

    assert_eq!(harbor.upstream.url.as_str(), "https://harbor.corp:8443/");
    assert_eq!((harbor.prefix.as_deref(), harbor.is_default), (None, false));
    assert_eq!(docker.upstream.url.as_str(), "https://registry-1.docker.io/");
    assert_eq!((docker.aliases.len(), docker.is_default), (2, true));
    assert_eq!(docker.tags.ttl, Duration::from_secs(300));
    assert_eq!((local.prefix.as_deref(), six.prefix.as_deref()), (None, None));
}

#[test]
fn docker_hub_is_the_default_unless_it_declines_or_another_asks() {
    for (text, want) in [
        ("[registry.'a.b']\n[registry.'docker.io']", Some("docker.io")),
        ("[registry.'a.b']\ndefault = true\n[registry.'docker.io']", Some("a.b")),
        ("[registry.'docker.io']\ndefault = false", None),
        ("[registry.'a.b']", None),
    ] {
        let settings = Case::of(text).settings();
        let default = settings.registries.iter().find(|registry| registry.is_default);
        assert_eq!(default.map(|registry| registry.name.as_str()), want, "{text}");
    }
}

#[test]
fn an_upstream_is_written_short_or_long() {
    for text in [
        "[registry.'a.b']\nupstream = 'http://x.y:1/'\ntoken_hosts = ['t.u']",
        "[registry.'a.b']\nupstream = ['http://x.y:1']\ntoken_hosts = ['t.u']",
        "[registry.'a.b']\nupstream = { url = 'http://x.y:1', token_hosts = ['t.u'] }",
        "[[registry.'a.b'.upstream]]\nurl = 'http://x.y:1'\ntoken_hosts = ['t.u']",
    ] {
        let upstream = Case::of(text).settings().registries.remove(0).upstream;
        assert_eq!(upstream.url.as_str(), "http://x.y:1/", "{text}");
        assert_eq!(upstream.token_hosts, ["t.u".parse().unwrap()], "{text}");
    }
}

/// A credential that reached a mirror it was not written for would be in the wrong hands.
#[test]
fn the_last_upstream_is_the_registry_and_what_is_written_for_that_is_its_alone() {
    let text = "[registry.'a.b']\n\
        upstream = ['http://m.one', { url = 'https://m.two', auth = { type = 'basic', \
        username = 'two', password = 'x' } }, 'https://real.one']\n\
        token_hosts = ['t.u']\nredirect_hosts = ['r.u']\nmax_connections = 7\n\
        auth = { type = 'basic', username = 'real', password = 'x' }\n";
    let settings = Case::of(text).settings();
    let registry = &settings.registries[0];

    let user = |options: &upstream::UpstreamOptions| match &options.credential {
        ProxyCredential::Basic { username, .. } => username.clone(),
        ProxyCredential::Anonymous | ProxyCredential::Issued(_) => String::new(),
    };
    let shown: Vec<_> = registry
        .mirrors
        .iter()
        .chain([&registry.upstream])
        .map(|options| {
            let hosts = (options.token_hosts.len(), options.redirect_hosts.len());
            (options.url.to_string(), user(options), hosts, options.max_connections)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("http://m.one/".to_owned(), String::new(), (0, 0), 7),
            ("https://m.two/".to_owned(), "two".to_owned(), (0, 0), 7),
            ("https://real.one/".to_owned(), "real".to_owned(), (1, 1), 7),
        ]
    );
}

/// Each of several logins is read like a single one.
#[test]
fn auth_may_be_a_list_of_logins_that_take_turns() {
    let text = "[registry.'a.b']\nauth = [\n\
        { type = 'basic', username = 'one', password_file = 'secret' },\n\
        { type = 'basic', username = 'two', password = 'x' },\n{ type = 'anonymous' }]\n";
    let settings = Case::of(text).file("secret", "hunter2\n").settings();
    let upstream = &settings.registries[0].upstream;
    let further = upstream.further_logins.iter().map(|it| (&it.credential, &it.password_file));
    let all = std::iter::once((&upstream.credential, &upstream.password_file)).chain(further);
    let shown: Vec<_> = all
        .map(|(credential, file)| match credential {
            ProxyCredential::Basic { username, password } => {
                format!("{username} {} {}", password.expose_secret(), file.is_some())
            }
            ProxyCredential::Anonymous | ProxyCredential::Issued(_) => "none".to_owned(),
        })
        .collect();
    assert_eq!(shown, ["one hunter2 true", "two x false", "none"]);
}

/// A registry gets what `docker login --password-stdin` would send of the same file.
#[test]
fn a_password_file_loses_one_last_newline_and_nothing_else() {
    for (file, want) in [
        ("hunter2", "hunter2"),
        ("hunter2\n", "hunter2"),
        ("hunter2\r\n", "hunter2"),
        ("hunter2\n\n", "hunter2\n"),
        ("hunter2\r\n\r\n", "hunter2\r\n"),
        ("hunter2\n\r", "hunter2\n"),
        (" hunter2 \n", " hunter2 "),
        ("\nhunter2", "\nhunter2"),
        ("{\n  \"type\": \"service_account\"\n}\n", "{\n  \"type\": \"service_account\"\n}"),
        ("{\r\n\t\"key\": \"a\\nb\"\r\n}\r\n", "{\r\n\t\"key\": \"a\\nb\"\r\n}"),
    ] {
        let text = "[registry.'a.b'.auth]\ntype = 'basic'\nusername = '_json_key'\n\
                    password_file = 'secret'\n";
        let settings = Case::of(text).file("secret", file).settings();
        let credential = &settings.registries[0].upstream.credential;
        let ProxyCredential::Basic { password, .. } = credential else { panic!("{file:?}") };
        assert_eq!(password.expose_secret(), want, "{file:?}");
    }
}

#[test]
fn passwords_come_from_three_places_and_show_up_in_none() {
    for (key, want_warning) in [
        ("password = 'hunter2'", "the configuration file holds a secret"),
        ("password_file = 'secret'", "secret holds a secret"),
        ("password_env = 'SECRET'", "without encryption"),
    ] {
        let text = format!("[registry.'a.b'.auth]\ntype = 'basic'\nusername = 'u'\n{key}\n");
        let case = Case::of(&text).file("secret", "hunter2\n").variable("SECRET", "hunter2");
        let settings = case.settings();
        let ProxyCredential::Basic { username, password } =
            &settings.registries[0].upstream.credential
        else {
            panic!("{key}")
        };
        assert_eq!((username.as_str(), password.expose_secret()), ("u", "hunter2"), "{key}");
        assert!(!format!("{settings:?}").contains("hunter2"), "{key}");
        assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);

        let plain = text.replace(
            "[registry.'a.b'.auth]",
            "[registry.'a.b']\nupstream = 'http://x.y'\n[registry.'a.b'.auth]",
        );
        let case = Case::of(plain).file("secret", "hunter2").variable("SECRET", "hunter2");
        set_mode(&case.dir.path().join("secret"), 0o644);
        set_mode(&case.dir.path().join("config.toml"), 0o644);
        let warnings = case.settings().warnings;
        assert!(
            warnings.iter().any(|warning| warning.to_line().contains(want_warning)),
            "{warnings:?}"
        );
    }
}

#[test]
fn certificates_are_read() {
    let key = rcgen::generate_simple_self_signed(["a.b".to_owned()]).unwrap();
    let pem = key.cert.pem();
    let case = Case::of("[registry.'a.b']\nca = 'ca.pem'").file("ca.pem", &pem);
    assert_eq!(case.settings().registries[0].upstream.ca_pem.as_deref(), Some(pem.as_bytes()));

    let cut = Case::of("[registry.'a.b']\nca = 'ca.pem'").file("ca.pem", &pem[..pem.len() / 2]);
    assert_eq!(cut.problems()[0].key.as_deref(), Some("registry.\"a.b\".ca"));
}

#[test]
fn rules_are_read() {
    let settings = Case::of(
        "[registry.'a.b']\noffline = true\nfill_on_range = false\nallow = ['team/**']\ndeny = ['**/x']\n\
         tag_rules = [{ match = 'v*', ttl = '1d' }, { match = '*', ttl = '0s' }]\n[registry.'c.d']",
    )
    .settings();
    let [first, plain] = &settings.registries[..] else { panic!("{settings:?}") };

    let rules = &first.rules;
    assert!(rules.offline && rules.allow[0].matches("team/a") && rules.deny[0].matches("team/x"));
    let ttls: Vec<_> = rules.tags.iter().map(|rule| (rule.pattern.to_string(), rule.ttl)).collect();
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(ttls, [("v*".to_owned(), day), ("*".to_owned(), Duration::ZERO)]);
    assert!(!rules.fill_on_range && plain.rules.fill_on_range);
    assert!(
        !plain.rules.offline && plain.rules.allow[0].matches("a/b") && plain.rules.deny.is_empty()
    );
}

#[test]
fn the_absence_of_a_tag_is_cached_for_five_seconds_and_not_where_clients_push() {
    for (keys, want) in [
        ("", 5),
        ("push = true", 0),
        ("push = true\nnegative_tag_ttl = '10s'", 10),
        ("negative_tag_ttl = '1m'", 60),
        ("negative_tag_ttl = '0s'", 0),
    ] {
        let settings = Case::of(format!("[registry.'a.b']\n{keys}")).settings();
        let ttl = settings.registries[0].rules.negative_tag_ttl;
        assert_eq!(ttl, Duration::from_secs(want), "{keys}");
    }
}

/// Every other program on the machine reads the same variables.
#[test]
fn proxies_are_taken_from_the_environment() {
    let case = Case::of("")
        .variable("ALL_PROXY", "all.corp:1")
        .variable("https_proxy", "http://lower.corp:2")
        .variable("HTTPS_PROXY", "http://me:hunter2@upper.corp:3/")
        .variable("HTTP_PROXY", "")
        .variable("no_proxy", "corp,10.0.0.0/8");

    let proxies = case.settings().proxies;

    assert_eq!(proxies.http.unwrap().to_string(), "http://all.corp:1");
    assert_eq!(proxies.https.unwrap().to_string(), "http://upper.corp:3");
    assert_eq!(proxies.direct, "corp,10.0.0.0/8");
    let none = Case::of("").settings().proxies;
    assert!(none.http.is_none() && none.https.is_none());
}

/// Silently going without would reach for what a firewall stops, or past what it should not.
#[test]
fn a_proxy_that_cannot_be_is_refused() {
    for (value, want) in [
        ("http://me:hunter2@p.corp:port", "this is not the URL of a proxy"),
        ("socks5://me:hunter2@p.corp:1080", "proxies of the kind `socks5` are not supported"),
        ("http://me:hunter2@p.corp/path", "a proxy is a host and a port"),
    ] {
        let problems = Case::of("").variable("ALL_PROXY", value).problems();
        let shown = problems[0].to_string();
        assert_eq!(problems.len(), 1, "one fault is told once");
        assert_eq!(problems[0].place, SourcePlace::Variable("ALL_PROXY".to_owned()));
        assert!(shown.contains(want) && shown.contains("http://"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    // `ALL_PROXY` is not read if each has a variable of its own.
    Case::of("")
        .variable("ALL_PROXY", "socks5://p.corp")
        .variable("HTTP_PROXY", "p.corp:1")
        .variable("HTTPS_PROXY", "p.corp:1")
        .settings();
}
