//! `[traces]` in a process: its keys, the variables of OpenTelemetry, and what is refused.

use std::process::Command;

use super::collector::Collector;
use crate::support::instance::{client_of, free_address};
use crate::support::{Image, Instance, ScriptedRegistry};

#[tokio::test]
async fn a_process_sends_its_traces_and_the_rest_of_them_at_its_end() {
    for is_of_file in [true, false] {
        let collector = Collector::default();
        let at = collector.listen().await;
        let hub = ScriptedRegistry::new();
        hub.put_image("library/app", "latest", &Image::random(1, &[50_000]));
        let address = free_address();
        let traces = if is_of_file {
            format!(
                "[traces]\nendpoint = 'http://{at}'\nservice_name = 'mirror'\nheaders_file = 'h'\n"
            )
        } else {
            String::new()
        };
        let config = format!(
            "listen = ['{address}']\nadmin_listen = ''\ndashboard.listen = ''\n\
             [registry.'docker.io']\nupstream = 'http://{}'\n{traces}",
            hub.listen().await
        );
        let endpoint = format!("http://{at}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=a%20b"),
            ("OTEL_SERVICE_NAME", "mirror"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other"),
        ];
        let variables = if is_of_file { &[][..] } else { &variables[..] };
        let larder = Instance::start_with(&[("h", "x-token: a b\n")], &config, variables).await;
        let client = client_of(address);
        client.get("/v2/library/app/manifests/latest").await.assert_status(200);
        larder.terminate();
        collector.until(1).await;

        let seen = collector.seen();
        let names: Vec<_> = seen.iter().map(|it| it.span.name.as_str()).collect();
        assert!(names.contains(&"GET /v2/{name}/manifests/{reference}"), "{names:?}");
        assert!(names.contains(&"HEAD manifest"), "{names:?}");
        let (path, headers) = &collector.heads()[0];
        assert_eq!((path.as_str(), headers["x-token"].as_bytes()), ("/v1/traces", &b"a b"[..]));
        let resource = collector.resource();
        assert_eq!(resource["service.name"], "mirror");
        assert_eq!(resource.contains_key("deployment.environment.name"), !is_of_file);
    }
}

fn check(toml: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, toml).unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(["check", "--config"])
        .arg(&path)
        .env_clear()
        .env("HOME", "/home/test")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    (checked.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn what_cannot_be_meant_is_refused_and_no_secret_is_shown() {
    let of_variables = "OTEL_EXPORTER_OTLP_ENDPOINT";
    for (keys, variables, want) in [
        ("endpoint = 'grpc://c:4317'", &[][..], "the scheme `grpc` is not supported"),
        ("endpoint = 'http://c'\nsample_ratio = 1.5", &[], "it must be from 0 to 1"),
        ("endpoint = 'http://c'\nheaders = 'canary'", &[], "this is not a header"),
        (
            "endpoint = 'http://c'\nheaders = 'a: canary'\nheaders_file = 'h'",
            &[],
            "the headers are given twice",
        ),
        ("", &[(of_variables, "collector")], "the URL has no scheme"),
        (
            "",
            &[(of_variables, "http://c"), ("OTEL_EXPORTER_OTLP_HEADERS", "canary")],
            "it is not a list of pairs",
        ),
        (
            "",
            &[
                (of_variables, "http://c"),
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "x"),
            ],
            "it must be from 0 to 1",
        ),
    ] {
        let (is_valid, said) = check(&format!("[traces]\n{keys}\n"), variables);
        assert!(!is_valid && said.contains(want), "{keys}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[test]
fn variables_that_larder_cannot_follow_are_warned_of() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
    let (is_valid, said) = check("", &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert!(
        is_valid && said.contains("there are no traces: Larder speaks OTLP over HTTP"),
        "{said}"
    );
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let (is_valid, said) = check("", &[endpoint, off]);
        assert!(is_valid && !said.contains("http://c:4317"), "{said}");
    }
}
