//! `identity = "client"`: what goes with it, and what does not.

use std::time::Duration;

use super::*;
use crate::registry::{AskedAs, GrantPolicy};

const BASIC: &str = "[access]\nchallenge = 'basic'\nanonymous = 'none'\n";

fn client(registry: &str) -> String {
    format!("{BASIC}[registry.'a.test']\nidentity = 'client'\n{registry}")
}

#[test]
fn clients_ask_with_their_own_credentials_where_that_is_said() {
    let settings = Case::of(client("grant_ttl = '1m'\n[registry.'b.test']\n")).settings();
    let (a, b) = (&settings.registries[0], &settings.registries[1]);
    let (ttl, grace) = (Duration::from_secs(60), Duration::from_secs(3600));
    assert_eq!(a.identity, AskedAs::Client(GrantPolicy { ttl, grace }));
    assert_eq!((b.identity, a.cache_status, b.cache_status), (AskedAs::Proxy, false, true));
    assert_eq!(settings.warnings, []);
    let settings = Case::of(client("cache_status = true\ngrant_grace = '0s'\n")).settings();
    let ttl = Duration::from_secs(300);
    let policy = GrantPolicy { ttl, grace: Duration::ZERO };
    assert_eq!(settings.registries[0].identity, AskedAs::Client(policy));
    assert!(settings.registries[0].cache_status);
}

/// Larder must not read for a client what the client could not read itself, nor show its credential
/// to two registries.
#[test]
fn what_does_not_go_with_it_is_refused() {
    let problem = |text: &str| Case::of(text).problems().remove(0).to_string();
    for (registry, want) in [
        (
            "auth = { type = 'basic', username = 'u', password = 'hunter2' }",
            "no credential of its own",
        ),
        ("offline = true", "has to be asked"),
        ("upstream = ['https://b.test', 'https://a.test']", "for one upstream"),
        ("[registry.'b.test']\nidentity = 'client'", "not for `a.test` and `b.test`"),
        (
            "[registry.'b.test']\nidentity = 'client'\nhosts = ['b.corp']\n[registry.'c.test']\n\
             identity = 'client'",
            "not for `a.test` and `c.test`",
        ),
        ("[registry.'b.test']\ngrant_ttl = '1m'", "means nothing where Larder itself"),
        ("[registry.'b.test']\nidentity = 'clients'", "did you mean `client`?"),
    ] {
        let problem = problem(&client(registry));
        assert!(problem.contains(want), "{registry}\n{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn with_hosts_of_their_own_there_may_be_several() {
    let other = "hosts = ['a.corp']\n[registry.'b.test']\nidentity = 'client'\n\
                 hosts = ['b.corp:5000']\n[registry.'c.test']\nidentity = 'client'\n";
    assert_eq!(Case::of(client(other)).settings().registries.len(), 3);
}

#[test]
fn what_is_of_no_use_or_in_the_clear_is_warned_of() {
    let warnings = |text: &str| lines(&Case::of(text).settings().warnings);
    let nobody = warnings("[registry.'a.test']\nidentity = 'client'");
    assert!(nobody[0].contains("but no listener takes any"), "{nobody:?}");
    let clear = warnings(&client("upstream = 'http://a.test'"));
    assert!(clear[0].contains("sent to a.test without encryption"), "{clear:?}");
}
