//! What the log looks like, by the configuration and by what wins over it.

use crate::support::instance::{client_of, free_address};
use crate::support::{Fault, Image, Instance, ScriptedRegistry, When};

/// The lines of a start and one request, with these keys and variables.
async fn lines(keys: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let address = free_address();
    let config = format!(
        "listen = ['{address}']\nadmin_listen = ''\ndashboard.listen = ''\n{keys}\n\
         [registry.'docker.io']\nupstream = 'http://127.0.0.1:1'\noffline = true\ndefault = true\n"
    );
    let mut larder = Instance::start_with(&[], &config, variables).await;
    client_of(address).get("/v2/library/alpine/manifests/1").await.assert_status(404);
    let is_silent = keys.contains("request=off") || variables.contains(&("LARDER_LOG", "warn"));
    if !is_silent {
        larder.until_logged("/v2/library/alpine/manifests/1", 1).await;
    }
    larder.log().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_first_line_tells_version_file_cache_and_registries_in_the_format_of_the_file() {
    let text = lines("", &[]).await;
    let version = format!("larder starts version=\"{}\" config=/", env!("CARGO_PKG_VERSION"));
    assert!(text[0].contains(&version), "{}", text[0]);
    assert!(text[0].ends_with("registries=\"docker.io\""), "{}", text[0]);

    let json = lines("log_format = 'json'", &[]).await;
    for line in &json {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("{line}"));
    }
    let first: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!(first["fields"]["message"], "larder starts");
    assert_eq!(first["fields"]["registries"], "docker.io");
}

/// Without a URL: its query can be a key.
#[tokio::test]
async fn each_request_to_an_upstream_is_a_line_at_the_level_of_its_module() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image("library/app", "latest", &image);
    hub.breaks(When::asked("/manifests/").first(1), Fault::status(503));
    let (address, upstream) = (free_address(), hub.listen().await);
    let config = format!(
        "listen = ['{address}']\nadmin_listen = ''\ndashboard.listen = ''\n\
         log_level = 'info,larder::upstream=debug'\n\
         [registry.'docker.io']\nupstream = 'http://{upstream}'\ndefault = true\n"
    );
    let mut larder = Instance::start(&[], &config).await;
    let client = client_of(address);
    client.get("/v2/library/app/manifests/latest").await.assert_is(&image.manifest.blob);

    larder.until_logged("upstream request", 2).await;
    let log = larder.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(": upstream request ")).collect();
    let host = format!("host=\"{upstream}\" purpose=\"registry\" object=\"manifest\"");
    assert_eq!(lines.len(), hub.asked().len(), "{log}");
    assert!(lines.iter().all(|line| line.contains(&host)), "{lines:?}");
    assert!(lines[0].contains("repository=\"library/app\" status=503 head_ms="), "{lines:?}");
    assert!(lines[1].contains(" status=200 ") && !lines[1].contains("error"), "{lines:?}");
    assert!(log.contains("retrying an upstream request"), "{log}");
}

#[tokio::test]
async fn the_level_of_the_file_holds_unless_a_variable_says_another() {
    let without_requests = lines("log_level = 'info,larder::request=off'", &[]).await;
    assert!(without_requests[0].contains("larder starts"));
    assert!(!without_requests.iter().any(|line| line.contains("larder::request")));

    let debug = lines("log_level = 'debug'", &[]).await;
    assert!(debug.iter().any(|line| line.contains("DEBUG larder")), "{debug:#?}");

    let by_variable = lines("log_level = 'warn'", &[("LARDER_LOG", "info")]).await;
    assert!(by_variable[0].contains("larder starts"));
    let by_key = lines("log_level = 'warn'", &[("LARDER_LOG_LEVEL", "info")]).await;
    assert!(by_key[0].contains("larder starts"));
}
