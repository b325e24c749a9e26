//! No secret is printed.

use super::sites::{Make, reply};
use super::*;

const CANARY: &str = "canary";

/// Faults in every place that has seen the password, the token or a signed URL.
#[tokio::test(start_paused = true)]
async fn no_secret_is_in_any_message() {
    let bearer = r#"Bearer realm="http://auth.example.com/t?k=canary",service="canary-svc""#;
    let to_storage = "http://cdn.test/x?sig=canary";
    let worlds: [(Option<&str>, Make); 8] = [
        (Some("Basic"), || reply(401, &[], "canary")),
        (Some("Basic"), || reply(500, &[("X", "canary")], "canary")),
        (Some(bearer), || reply(401, &[], "canary")),
        (Some(bearer), || reply(200, &[], r#"{"token":"canary\u0000"}"#)),
        (None, || reply(403, &[], "canary")),
        (None, || reply(302, &[("Location", "ftp://canary:canary@cdn.test/?canary")], "")),
        (None, || reply(302, &[("Location", "http://127.0.0.1/canary?canary")], "")),
        (None, || reply(302, &[("Location", "http://gone.test/canary?canary")], "")),
    ];
    for (asks, script) in worlds {
        let network = world();
        network.serve(UP, move |seen| match (asks, seen.header("authorization")) {
            (Some(text), None) => reply(401, &[("WWW-Authenticate", text)], ""),
            (Some(_), Some(_)) => script(),
            (None, _) => reply(307, &[("Location", to_storage)], ""),
        });
        network.serve(AUTH, move |_| script());
        network.serve(CDN, move |_| script());
        let options = with_password(CANARY);
        let upstream = upstream(&network, &options);

        let error = pull(&upstream).await.unwrap_err();

        let printed = format!("{error} {error:?} {upstream:?} {options:?}");
        assert!(!printed.contains(CANARY), "{printed}");
        assert!(!printed.contains("bWU6Y2FuYXJ5"), "{printed}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_printed() {
    let network = world();
    network.serve(UP, |_| reply(307, &[("Location", "http://cdn.test/x?sig=canary")], ""));
    network.serve(CDN, |_| reply(200, &[], "canary"));
    let answer = ask(&upstream(&network, &options()), &blob(ReadMethod::Get, 0)).await.unwrap();
    assert!(!format!("{answer:?}").contains(CANARY), "{answer:?}");
}

#[test]
fn a_credential_and_its_options_can_be_printed() {
    let printed = format!("{:?}", with_password(CANARY));
    assert!(!printed.contains(CANARY), "{printed}");
}
