//! `[access]`: who is let in, good and bad.

use super::*;
use crate::access::{Action, AnonymousAccess, ChallengePolicy};

/// For `hunter2`.
const BCRYPT: &str = "$2y$10$wcRF40MjxTFqAi6MjcfzNuHcm1.PXHp4UF2fSXXE8wEelYhx0i2LO";

fn with_users(access: &str) -> Case {
    Case::of(access).file("users", &format!("ann:{BCRYPT}\n"))
}

#[test]
fn what_is_written_holds_for_every_address() {
    let case = with_users(
        "listen = ['127.0.0.1:1', '[::1]:2']\n[access]\nanonymous = 'none'\nchallenge = 'basic'\n\
         htpasswd = 'users'\n[[access.rule]]\nusers = ['a*']\nregistries = ['ghcr.io']\n\
         repositories = ['x/**']\nactions = ['pull', 'delete']\n[[access.rule]]\nusers = ['**']\n\
         actions = ['push']\n",
    );
    let settings = case.settings();
    assert_eq!(settings.warnings, []);
    assert_eq!(settings.listeners.len(), 2);
    for listener in settings.listeners {
        let access = &listener.access;
        assert_eq!(access.htpasswd, Some(case.dir.path().join("users")));
        assert!(access.options.htpasswd.as_ref().unwrap().contains("ann"));
        let (options, policy) = (&access.options, &access.options.policy);
        assert_eq!(
            (options.challenge, policy.anonymous),
            (ChallengePolicy::Basic, AnonymousAccess::None)
        );
        let rules: Vec<_> = policy.rules.iter().map(ToString::to_string).collect();
        assert_eq!(rules, ["a* may pull, delete x/** at ghcr.io", "** may push **"]);
        assert_eq!(policy.rules[0].actions, [Action::Pull, Action::Delete]);
    }
}

#[test]
fn listeners_differ() {
    let settings = with_users(
        "[[listener]]\naddress = '127.0.0.1:1'\n[[listener]]\naddress = '127.0.0.1:2'\n\
         access = { challenge = 'basic', htpasswd = 'users', rule = [{ users = ['ann'], \
         actions = ['pull'] }] }\n[[listener]]\naddress = '127.0.0.1:3'\n\
         [listener.access]\nanonymous = 'push'\n",
    )
    .settings();
    let shown = settings.listeners.iter().map(|it| {
        let options = &it.access.options;
        (options.challenge, options.policy.anonymous, options.policy.rules.len())
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [
            (ChallengePolicy::Never, AnonymousAccess::Pull, 0),
            (ChallengePolicy::Basic, AnonymousAccess::Pull, 1),
            (ChallengePolicy::Never, AnonymousAccess::Push, 0)
        ]
    );
    assert!(settings.listeners[0].access.is_default());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    refused(&[
        ("[access]\nanonymous = 'all'", 2, "access.anonymous", "none of `none`, `pull`, `push`"),
        ("[access]\nchallenge = 'basi'", 2, "access.challenge", "did you mean `basic`?"),
        ("[access]\nchallenge = 'basic'", 0, "", "no client has one"),
        ("[access]\nhtpasswd = 'none'", 2, "access.htpasswd", "there is no such file"),
        ("[access]\nhtpasswd = '.'", 2, "access.htpasswd", "it is a directory"),
        ("[access]\nhtpaswd = 'x'", 2, "access.htpaswd", "did you mean `htpasswd`?"),
        ("[access]\ninsecure_basic = 'yes'", 2, "access.insecure_basic", "must be `true`"),
        ("[access]\nrule = [{ users = ['a'] }]", 2, "access.rule", "has no `actions`"),
        ("[access]\nrule = [{ actions = ['pull'] }]", 2, "access.rule", "has no `users`"),
        (
            "[access]\nrule = [{ users = [], actions = ['pull'] }]",
            2,
            "access.rule[0].users",
            "the list is empty",
        ),
        (
            "[access]\nrule = [{ users = ['['], actions = ['pull'] }]",
            2,
            "access.rule[0].users",
            "is not a pattern",
        ),
        (
            "[access]\nrule = [{ users = ['a'], actions = ['pul'] }]",
            2,
            "access.rule[0].actions",
            "did you mean `pull`?",
        ),
        (
            "[access]\nrule = [{ users = ['a'], actions = ['pull'] }]",
            1,
            "access",
            "no client can be a user",
        ),
        (
            "[access]\ncertificate = [{ name = 'a', user = 'b' }]",
            2,
            "access.certificate",
            "no client is asked for a certificate",
        ),
        (
            "[access]\nanonymous = 'none'\n[[listener]]\naddress = '127.0.0.1:1'",
            1,
            "access",
            "`[access]` and `[[listener]]` are both given",
        ),
    ]);
    let with = |text: &str| with_users(text).problems().remove(0).to_string();
    let never = with("[access]\nhtpasswd = 'users'");
    assert!(never.contains("clients are not asked for a password"), "{never}");
    let rule = |registry: &str| {
        with(&format!(
            "[access]\nhtpasswd = 'users'\nchallenge = 'basic'\n[[access.rule]]\nusers = ['a']\n\
             actions = ['pull']\nregistries = ['{registry}']\n"
        ))
    };
    assert!(rule("x.test").contains("`x.test`, which is no registry here"));
    assert!(rule("index.docker.io").contains("another name of `docker.io`"));
}

/// A password that crosses a network in the clear is everybody's.
#[test]
fn passwords_do_not_come_in_the_clear_from_beyond_this_machine() {
    let access = |listen: &str, more: &str| {
        with_users(&format!(
            "listen = '{listen}'\n[access]\nhtpasswd = 'users'\nchallenge = 'basic'\n{more}"
        ))
    };
    for listen in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "127.0.0.1:1, 192.168.0.1:1"] {
        let problem = access(listen, "").problems().remove(0).to_string();
        assert!(problem.contains("without encryption"), "{listen} {problem}");
        access(listen, "insecure_basic = true").settings();
    }
    for listen in ["127.0.0.1:1", "[::1]:1", "127.3.2.1:1", "[::ffff:127.0.0.1]:1"] {
        access(listen, "").settings();
    }
    access("0.0.0.0:1", "").variable("LARDER_ACCESS_INSECURE_BASIC", "true").settings();
    let pair = rcgen::generate_simple_self_signed(["larder.test".to_owned()]).unwrap();
    access("0.0.0.0:1", "[tls]\ncert = 'crt'\nkey = 'key'\n")
        .file("crt", &pair.cert.pem())
        .file("key", &pair.signing_key.serialize_pem())
        .settings();
}

/// A bad line is found by its place, and is not shown: it may be a password.
#[test]
fn a_bad_file_of_users_is_refused_with_its_line() {
    let access = "[access]\nchallenge = 'basic'\nhtpasswd = 'users'\n";
    for (content, line, want) in [
        ("", 1, "there is no user"),
        (&*format!("ann:{BCRYPT}\nhunter2\n"), 2, "there is no `:`"),
        ("# x\n\nann:hunter2", 3, "a plain password"),
        ("ann:$apr1$hunter2$x", 1, "MD5 is too weak"),
        (&*format!("ann:{BCRYPT}\nann:{BCRYPT}"), 2, "on line 1"),
    ] {
        let case = Case::of(access).file("users", content);
        let problem = case.problems().remove(0);
        assert!(problem.what.contains(want), "{content:?} {problem}");
        let place = SourcePlace::File { path: case.dir.path().join("users"), line, column: 1 };
        assert_eq!(problem.place, place, "{content:?}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn users_for_all_to_read_and_cheap_hashes_are_warned_of() {
    let access = "[access]\nchallenge = 'basic'\nhtpasswd = 'users'\n";
    let cheap = "$2y$04$LrWkUKWMewIRIcqaqj6.auhkwWKAnaqM7VfbVpHBYOFz1xfSVQf7a";
    let case = Case::of(access).file("users", &format!("ann:{BCRYPT}\nben:{cheap}\n"));
    set_mode(&case.dir.path().join("users"), 0o644);
    let warnings = lines(&case.settings().warnings);
    assert!(warnings.iter().any(|it| it.contains("users holds a secret and every user")));
    assert!(warnings.iter().any(|it| it.contains("users:2: a hash with a bcrypt cost below 10")));
}

/// A rule for a misspelt user gives rights to no user, and the operator would find out from that
/// user.
#[test]
fn rules_that_fit_no_user_are_warned_of_with_their_place() {
    let warnings = |users: &str| {
        let text = format!(
            "[access]\nchallenge = 'basic'\nhtpasswd = 'users'\n[[access.rule]]\n\
             users = {users}\nactions = ['pull']\n"
        );
        lines(&with_users(&text).settings().warnings)
    };
    for known in ["['ann']", "['a*']", "['**']", "['x-*']"] {
        assert_eq!(warnings(known), [""; 0], "{known}");
    }
    for (unknown, shown) in [("['ben']", "ben"), ("['ann', 'anne']", "anne")] {
        let [warning] = &warnings(unknown)[..] else { panic!("{unknown}") };
        assert!(warning.contains("config.toml:5:"), "{warning}");
        assert!(warning.contains(&format!("a rule is for `{shown}`, which is no user")));
        assert!(warning.contains("; key: access.rule[0].users; hint: users are in"));
    }
}

/// An operator who opens a registry for pushes most likely means to push.
#[test]
fn a_registry_that_nobody_may_push_to_is_warned_of() {
    let warnings = |text: &str| lines(&with_users(text).settings().warnings);
    let registry = "[registry.'a.test']\npush = true\n";
    let nobody = warnings(registry);
    assert!(nobody.iter().any(|it| it.contains("no client may push")), "{nobody:?}");
    for access in ["anonymous = 'push'", "challenge = 'basic'\nhtpasswd = 'users'"] {
        assert_eq!(warnings(&format!("[access]\n{access}\n{registry}")), [""; 0], "{access}");
    }
}

#[test]
fn nothing_written_is_what_was_before() {
    let settings = Case::of("").settings();
    assert_eq!(settings.listeners[0].address, "127.0.0.1:5000".parse().unwrap());
    assert!(settings.listeners[0].access.is_default());
}
