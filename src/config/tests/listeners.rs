//! `listen`, `[tls]` and `[[listener]]`.

use super::*;
use crate::registry::{Door, OpenDoors};

fn with_tls(text: &str) -> Case {
    let pair = || {
        let issued = rcgen::generate_simple_self_signed(["larder.test".to_owned()]).unwrap();
        (issued.cert.pem(), issued.signing_key.serialize_pem())
    };
    let ((cert, key), (_, other_key)) = (pair(), pair());
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    Case::of(text)
        .file("cert", &cert)
        .file("key", &key)
        .file("other", &other_key)
        .file("locked", &locked)
        .file("empty", "")
}

#[test]
fn listen_and_tls_are_short_for_listeners() {
    let short = with_tls("listen = ['[::1]:1', '[::1]:2']\n[tls]\ncert = 'cert'\nkey = 'key'");
    let settings = short.settings();
    assert_eq!(settings.listeners.len(), 2);
    for listener in &settings.listeners {
        let tls = listener.tls.as_ref().unwrap();
        assert_eq!(tls.cert, short.dir.path().join("cert"));
        assert!(tls.clients.is_none() && listener.names.is_empty());
        assert_eq!(listener.doors, OpenDoors::all());
    }
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);

    let case = with_tls("").variable("LARDER_TLS_CERT", "cert").variable("LARDER_TLS_KEY", "key");
    assert!(case.settings().listeners[0].tls.is_some());
}

#[test]
fn listeners_have_names_doors_and_tls_of_their_own() {
    let settings = with_tls(
        "[[listener]]\naddress = '127.0.0.1:1'\ndoors = ['mirror', 'ns']\n[[listener]]\n\
         address = '127.0.0.1:2'\nnames = ['Mirror.corp', 'b.corp:5000']\n\
         tls = { cert = 'cert', key = 'key', client_ca = 'cert', client_auth = 'required' }",
    )
    .settings();
    let [one, two] = &settings.listeners[..] else { panic!("{settings:?}") };

    assert_eq!(one.doors, [Door::Namespace, Door::Mirror].into_iter().collect());
    assert!(one.tls.is_none());
    assert_eq!(format!("{:?}", two.names), "[mirror.corp, b.corp:5000]");
    let clients = two.tls.as_ref().and_then(|tls| tls.clients.as_ref());
    assert!(clients.is_some_and(|clients| clients.is_required));
}

#[test]
fn tls_is_checked() {
    refused_with_tls(&[
        ("[tls]\ncert = 'cert'", 1, "tls", "TLS needs a `key`"),
        ("[tls]\ncert = 'none'\nkey = 'key'", 2, "tls.cert", "there is no such file"),
        ("[tls]\ncert = 'cert'\nkey = 'other'", 3, "tls.key", "does not belong to the certificate"),
        ("[tls]\ncert = 'cert'\nkey = 'locked'", 3, "tls.key", "the key is encrypted"),
        ("[tls]\ncert = 'cert'\nkey = 'empty'", 3, "tls.key", "there is no private key in it"),
        ("[tls]\ncert = 'empty'\nkey = 'key'", 2, "tls.cert", "there is no certificate in it"),
        (
            "[tls]\ncert = 'cert'\nkey = 'key'\nclient_auth = 'required'",
            4,
            "tls.client_auth",
            "without `client_ca`",
        ),
        (
            "[tls]\ncert = 'cert'\nkey = 'key'\nclient_ca = 'cert'\nclient_auth = 'yes'",
            5,
            "tls.client_auth",
            "none of `optional`, `required`",
        ),
        (
            "[tls]\ncert = 'cert'\nkey = 'key'\nclient_ca = 'empty'",
            4,
            "tls.client_ca",
            "cannot be trusted",
        ),
    ]);
}

#[test]
fn listeners_are_checked() {
    refused_with_tls(&[
        ("[[listener]]\nnames = ['a']", 1, "listener", "has no `address`"),
        ("[[listener]]\naddress = 'a:1'", 2, "listener[0].address", "not an IP address"),
        (
            "listen = '127.0.0.1:1'\n[[listener]]\naddress = '127.0.0.1:2'",
            1,
            "listen",
            "`listen` and `[[listener]]` are both given",
        ),
        (
            "[[listener]]\naddress = '127.0.0.1:2'\n[tls]\ncert = 'cert'\nkey = 'key'",
            3,
            "tls",
            "`[tls]` and `[[listener]]` are both given",
        ),
        (
            "[[listener]]\naddress = '[::]:2'\n[[listener]]\naddress = '[::]:2'",
            4,
            "listener[1].address",
            "listed twice",
        ),
        (
            "[[listener]]\naddress = '[::]:2'\ndoors = ['path']",
            3,
            "listener[0].doors",
            "none of `registry`, `ns`, `host`, `prefix`, `mirror`",
        ),
        (
            "[[listener]]\naddress = '[::]:2'\ndoors = []",
            3,
            "listener[0].doors",
            "no request gets in",
        ),
        (
            "[[listener]]\naddress = '[::]:2'\nnames = ['http://a']",
            3,
            "listener[0].names",
            "is not a host",
        ),
        ("[[listener]]\naddres = '[::]:2'", 2, "listener[0].addres", "did you mean `address`?"),
    ]);
    let mut case = Case::of("[[listener]]\naddress = '[::]:2'");
    case.arguments.listen = vec!["127.0.0.1:1".to_owned()];
    assert_eq!(case.problems()[0].place, SourcePlace::Argument("--listen"));
}

#[test]
fn a_client_may_hold_a_number_of_connections() {
    let text = "connections_per_client = ";
    for (value, want) in [("0", None), ("1", Some(1)), ("'7'", Some(7))] {
        let settings = Case::of(format!("{text}{value}")).settings();
        let connections = settings.clients.connections.map(std::num::NonZeroUsize::get);
        assert_eq!(connections, want, "{value}");
    }
    for bad in ["-1", "'many'", "1.5"] {
        let problem = Case::of(format!("{text}{bad}")).problems().remove(0);
        assert_eq!(problem.key.as_deref(), Some("connections_per_client"), "{problem}");
    }
    let by_variable = Case::of("").variable("LARDER_CONNECTIONS_PER_CLIENT", "x").problems();
    assert!(by_variable[0].what.contains("it must be a number"), "{}", by_variable[0]);
}

#[test]
fn the_admin_side_has_one_address_or_none() {
    let admin = |text: &str| Case::of(text).settings().admin;
    let given = |address: &str| Some(address.parse().unwrap());
    assert_eq!(admin(""), given("127.0.0.1:5001"));
    assert_eq!(admin("admin_listen = '[::]:9'"), given("[::]:9"));
    assert_eq!(admin("admin_listen = ''"), None);
    let by_variable = Case::of("").variable("LARDER_ADMIN_LISTEN", "10.0.0.1:1").settings().admin;
    assert_eq!(by_variable, given("10.0.0.1:1"));
    refused(&[
        ("admin_listen = '5001'", 1, "admin_listen", "is not an IP address with a port"),
        ("admin_listen = '127.0.0.1:5000'", 1, "admin_listen", "clients are served on"),
    ]);
}

#[track_caller]
fn refused_with_tls(rows: &[Row]) {
    for (text, want_line, want_key, want) in rows {
        let problem = with_tls(text).problems().remove(0);
        let shown = problem.to_string();
        assert_eq!(line(&problem), *want_line, "{text}\n{shown}");
        assert!(shown.contains(want), "{text}\n{shown}");
        assert_eq!(problem.key.as_deref().unwrap_or_default(), *want_key, "{text}\n{shown}");
    }
}
