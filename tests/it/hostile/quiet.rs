//! The log of what strangers ask for: lines of information, and no warnings, or an operator would
//! not see those that matter.

use http::Method;
use larder::oci::{Algorithm, Digest};

use crate::support::registry::basic;
use crate::support::{Client, Fault, Image, Process, ScriptedRegistry, When};

const REPOSITORY: &str = "library/alpine";

/// Requests for what is not there, or not to be had, each with the statuses that answer it.
fn made_up(n: u64) -> [(Method, String, &'static [u16]); 10] {
    let digest = Digest::of(Algorithm::Sha256, &n.to_le_bytes());
    let get = |path: String, statuses: &'static [u16]| (Method::GET, path, statuses);
    [
        get(format!("/v2/{REPOSITORY}/manifests/none-{n}"), &[404]),
        get(format!("/v2/{REPOSITORY}/manifests/{digest}"), &[404]),
        get(format!("/v2/{REPOSITORY}/blobs/{digest}"), &[404]),
        get(format!("/v2/{REPOSITORY}/referrers/{digest}"), &[404]),
        get(format!("/v2/made/up-{n}/tags/list"), &[404]),
        get(format!("/v2/made/up-{n}/manifests/latest?ns=r{n}.test"), &[404]),
        get(format!("/v2/r{n}.test/made/up/manifests/latest"), &[404]),
        get(format!("/v2/Made-{n}/../manifests/latest"), &[400, 404]),
        get(format!("/page-{n}.php"), &[404]),
        (Method::POST, format!("/v2/made/up-{n}/blobs/uploads/"), &[405]),
    ]
}

async fn ask(client: &Client, numbers: std::ops::Range<u64>) {
    for n in numbers {
        for (method, path, statuses) in made_up(n) {
            let reply = client.call(method, &path, &[]).await;
            assert!(statuses.contains(&reply.status.as_u16()), "{path}: {}", reply.status);
        }
    }
}

fn warnings(larder: &Process) -> Vec<String> {
    let log = larder.log();
    let above = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    log.lines().filter(above).map(str::to_owned).collect()
}

#[tokio::test]
async fn what_strangers_ask_for_and_is_not_there_is_no_warning() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let larder = Process::before(hub.listen().await, "").await;
    let client = larder.client();

    ask(&client, 0..20).await;
    // Wrong passwords where no client needs one, and ranges that nothing has.
    for n in 0..20 {
        let header = basic(&format!("u{n}"), "wrong");
        let headers = [("authorization", &*header), ("range", "bytes=5-3")];
        client.get_with(&format!("/v2/{REPOSITORY}/manifests/x{n}"), &headers).await;
    }
    let refused = [("WWW-Authenticate", "Basic realm=\"x\"".to_owned())];
    hub.breaks(When::asked("/made/up"), Fault::Status(401, refused.into(), "{}"));
    for n in 20..40 {
        let reply = client.get(&format!("/v2/made/up-{n}/manifests/latest")).await;
        assert!([401, 404].contains(&reply.status.as_u16()), "{}", reply.status);
    }

    let latest = format!("/v2/{REPOSITORY}/manifests/latest");
    client.get(&latest).await.assert_is(&image.manifest.blob);
    // A registry that wants a login is named to the operator once.
    let told = warnings(&larder);
    assert!(told.len() <= 1 && told.iter().all(|it| it.contains("login")), "{told:#?}");
    let lines = larder.log().lines().filter(|line| line.contains("none-19")).count();
    assert!(lines > 0, "requests are logged");
}
