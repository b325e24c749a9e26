//! Registries that answer 404 to what an anonymous client may not see. A 404 is obeyed, and ends
//! what the cache holds; so it is not believed before the credential was shown.

use super::login::{challenge, token};
use super::sites::{Script, Seen, reply};
use super::*;
use crate::upstream::{ClientCredential, CredentialId};

const BEARER: &str = r#"Bearer realm="http://auth.example.com/token",service="up""#;
const BASIC: &str = r#"Basic realm="up""#;
const PASSWORD: &str = "Basic bWU6cHc=";

/// The registry's answer to an anonymous client at `/v2/`.
#[derive(Clone, Copy)]
enum Ping {
    Basic,
    Bearer,
    Broken,
    Open,
}

/// A registry with a layer for `me` alone, and 404 for everyone else.
fn hide(network: &ScriptedSites, ping: Ping) {
    network.serve(UP, move |seen| {
        let is_me = matches!(seen.header("authorization"), Some(PASSWORD | "Bearer mine"));
        match &*seen.target {
            "/v2/" if is_me => reply(200, &[], ""),
            "/v2/" => refuse(ping),
            _ if is_me && seen.method == "POST" => reply(202, &[("Location", "/u")], ""),
            _ if is_me && seen.target.contains("/a/b/") => reply(200, &[], "layer"),
            _ if seen.header("authorization").is_some() && !is_me => refuse(ping),
            _ => reply(404, &[], ""),
        }
    });
    network.serve(AUTH, |seen| match seen.header("authorization") {
        Some(PASSWORD) => token("mine"),
        _ => token("anonymous"),
    });
}

fn refuse(ping: Ping) -> Script {
    match ping {
        Ping::Basic => challenge(BASIC),
        Ping::Bearer => challenge(BEARER),
        Ping::Broken => reply(500, &[], ""),
        Ping::Open => reply(200, &[], ""),
    }
}

fn targets(network: &ScriptedSites) -> Vec<String> {
    let at_upstream = |seen: &Seen| seen.host == "up.example.com";
    let seen = network.seen().into_iter().filter(at_upstream);
    let shown = |seen: &Seen| if seen.header("authorization").is_some() { "+" } else { "" };
    seen.map(|seen| {
        let last = seen.target.rsplit('/').nth(1).unwrap_or_default().to_owned();
        format!("{last}{}", shown(&seen))
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn a_404_to_an_anonymous_request_is_asked_about_with_the_credential() {
    for (name, ping, options, want, asked) in [
        ("tokens", Ping::Bearer, with_password("pw"), "layer", &["blobs", "v2", "blobs+"][..]),
        ("basic", Ping::Basic, with_password("pw"), "layer", &["blobs", "v2", "blobs+"]),
        ("no credential", Ping::Bearer, options(), "absent", &["blobs"]),
        ("no login there", Ping::Open, with_password("pw"), "absent", &["blobs", "v2"]),
    ] {
        let network = world();
        hide(&network, ping);
        let upstream = upstream(&network, &options);

        let pulled = pull(&upstream).await;

        let got = match &pulled {
            Ok(text) => text.as_str(),
            Err(UpstreamError::NotFound { .. }) => "absent",
            Err(error) => panic!("{name}: {error}"),
        };
        assert_eq!((got, targets(&network)), (want, asked.iter().map(|it| (*it).into()).collect()));

        let before = targets(&network).len();
        drop(pull(&upstream).await);
        assert_eq!(targets(&network).len(), before + 1, "{name}: what was learned is kept");
    }
}

/// A 404 that no credential explains is an answer. The credential is shown for each kind of
/// request, and a wrong one or an outage is no absence.
#[tokio::test(start_paused = true)]
async fn what_the_credential_does_not_find_either_does_not_exist() {
    let resource = |text: &str| match text {
        "tags" => Resource::Tags,
        "referrers" => Resource::Referrers(format!("sha256:{HEX}").parse().unwrap()),
        "tag" => Resource::Manifest("latest".parse().unwrap()),
        _ => Resource::Blob(format!("sha256:{HEX}").parse().unwrap()),
    };
    for kind in ["blob", "tag", "tags", "referrers"] {
        for method in [ReadMethod::Get, ReadMethod::Head] {
            for (repository, is_there) in [("a/b", true), ("c/d", false)] {
                let network = world();
                hide(&network, Ping::Bearer);
                let question = Question::new(method, repository.parse().unwrap(), resource(kind));
                let answer = ask(&upstream(&network, &with_password("pw")), &question).await;
                match answer {
                    Ok(_) => assert!(is_there, "{kind}"),
                    Err(UpstreamError::NotFound { .. }) => assert!(!is_there, "{kind}"),
                    Err(error) => panic!("{kind}: {error}"),
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_cannot_be_tried_is_no_absence() {
    for (ping, password) in [(Ping::Broken, "pw"), (Ping::Basic, "wrong")] {
        let network = world();
        hide(&network, ping);
        network.serve(AUTH, |_| reply(401, &[], ""));

        let error = pull(&upstream(&network, &with_password(password))).await.unwrap_err();

        assert!(!error.is_an_answer(), "{error:?}");
    }
}

/// A client's own credential is as good as Larder's.
#[tokio::test(start_paused = true)]
async fn a_clients_credential_is_shown_before_a_404_is_believed() {
    let network = world();
    hide(&network, Ping::Bearer);
    let client =
        ClientCredential::of_client("me", &"pw".to_owned().into(), CredentialId::new([1; 32]));
    let question = Question { client: client.ok(), ..blob(ReadMethod::Get, 0) };

    let upstream = upstream(&network, &options());
    assert!(ask(&upstream, &question).await.is_ok());
    assert!(pull(&upstream).await.is_err(), "an anonymous request gets no one's right");
}

/// Storage that has lost a blob is no registry that hides it.
#[tokio::test(start_paused = true)]
async fn a_404_of_storage_is_not_asked_about() {
    let network = world();
    network.serve(UP, |_| reply(307, &[("Location", "http://cdn.test/x")], ""));
    network.serve(CDN, |_| reply(404, &[], ""));

    assert!(pull(&upstream(&network, &with_password("pw"))).await.is_err());

    assert!(network.seen().iter().all(|seen| seen.target != "/v2/"));
}

#[tokio::test(start_paused = true)]
async fn an_upload_to_a_hidden_repository_begins_with_the_credential() {
    let network = world();
    hide(&network, Ping::Bearer);
    let reply = upstream(&network, &with_password("pw")).change(begin_upload()).await.unwrap();

    assert_eq!(reply.status, StatusCode::ACCEPTED);
}
