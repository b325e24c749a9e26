//! `larder healthcheck`, which container engines run beside the server.

use std::fs;

use tokio::process::Command;

use crate::support::{Image, Process, ScriptedRegistry};

#[tokio::test]
async fn a_server_that_serves_is_healthy_also_without_its_upstream_and_a_dead_one_is_not() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image("library/alpine", "latest", &image);
    let mut larder = Process::before(hub.listen().await, "").await;
    until_ready(&larder).await;
    let run = larder.command(&["healthcheck"]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(0), "{\"status\":\"ready\",\"reasons\":[]}\n"));

    larder.kill();
    let run = larder.command(&["healthcheck"]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert!(run.err.starts_with("error: no answer from the admin port at 127."), "{run:?}");
}

#[tokio::test]
async fn a_server_without_an_admin_port_is_asked_at_its_control_socket() {
    let hub = ScriptedRegistry::new();
    let mut larder = Process::before(hub.listen().await, "").await;
    until_ready(&larder).await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let cache = larder.cache_dir().display().to_string();
    fs::write(
        &config,
        format!("admin_listen = ''\ndashboard.listen = ''\n[cache]\ndir = '{cache}'\n"),
    )
    .unwrap();
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command.arg("healthcheck").arg("--config").arg(&config).env_clear().output()
    };
    let run = check().await.unwrap();
    assert_eq!((run.status.code(), run.stdout.as_slice()), (Some(0), &b"ready\n"[..]), "{run:?}");

    larder.kill();
    let run = check().await.unwrap();
    assert_eq!((run.status.code(), run.stdout.as_slice()), (Some(1), &b""[..]), "{run:?}");
    assert!(run.stderr.starts_with(b"error: cannot talk to the server at "), "{run:?}");
}

async fn until_ready(larder: &Process) {
    while larder.admin().get("/readyz").await.status != 200 {
        tokio::task::yield_now().await;
    }
    let socket = larder.cache_dir().join("control.sock");
    larder.until(|_| socket.exists(), "there is a control socket").await;
}
