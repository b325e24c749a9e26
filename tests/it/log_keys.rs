//! What the log looks like, by the configuration and by what wins over it.

use crate::support::Instance;
use crate::support::instance::{client_of, free_address};

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
