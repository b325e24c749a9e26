//! Which token servers are called.

use super::login::{challenge, token};
use super::sites::reply;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_token_server_is_never_asked_where_the_upstream_must_not_send_us() {
    for (realm, key) in [
        ("http://cdn.test/token", "`token_hosts`"),
        ("http://169.254.169.254/token", "`token_hosts`"),
        ("http://inner.example.com/token", "`token_hosts`"),
        ("http://u@auth.example.com/token", "user"),
        ("file:///token", "http"),
    ] {
        let network = world();
        network.name("inner.example.com", &["127.0.0.1"]);
        for tripwire in [CDN, "127.0.0.1:80", "169.254.169.254:80", AUTH] {
            network.serve(tripwire, |_| token("t"));
        }
        network.serve(UP, move |_| challenge(&format!("Bearer realm=\"{realm}\"")));

        let error = pull(&upstream(&network, &with_password("pw"))).await.unwrap_err();

        let UpstreamError::Forbidden { reason, .. } = &error else { panic!("{realm}: {error:?}") };
        assert!(reason.contains(key), "{realm}: {reason}");
        assert_eq!(network.dialled(), [UP], "{realm}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listed_token_server_may_be_private_and_elsewhere() {
    let network = world();
    network.name("sso.test", &["10.0.0.8"]);
    network.serve("10.0.0.8:80", |_| token("t"));
    network.serve(UP, |seen| match seen.header("authorization") {
        Some("Bearer t") => reply(200, &[], "layer"),
        _ => challenge("Bearer realm=\"http://sso.test/token\""),
    });
    let options = UpstreamOptions { token_hosts: vec!["sso.test".parse().unwrap()], ..options() };
    assert_eq!(pull(&upstream(&network, &options)).await.unwrap(), "layer");
}
