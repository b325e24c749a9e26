//! `larder stats --watch`: again and again, on a terminal and elsewhere, until Ctrl-C.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::lab::{ALPINE, Lab};

const PATIENCE: Duration = Duration::from_secs(60);

struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let mut child = lab.larder.spawn_piped(&[], arguments);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("it prints again").unwrap().expect("it goes on")
    }

    async fn interrupted(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let code = ended.expect("Ctrl-C ends it").unwrap().code();
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
        (code, err)
    }
}

#[tokio::test]
async fn stats_are_watched_over_a_restart_of_the_server_until_an_interrupt() {
    let mut lab = Lab::start().await;
    let mut watching = Watching::start(&lab, &["stats", "--watch", "--json"]);
    let first: Value = serde_json::from_str(&watching.line().await).unwrap();
    lab.get(&format!("/v2/{ALPINE}/manifests/3.20")).await;
    let count = |stats: &Value| stats["server"]["all"]["requests"].as_u64();
    let mut stats: Value = first.clone();
    while count(&stats) == count(&first) {
        stats = serde_json::from_str(&watching.line().await).unwrap();
    }
    assert_eq!(count(&stats), count(&first).map(|requests| requests + 1));

    lab.kill();
    while !stats["server"].is_null() {
        stats = serde_json::from_str(&watching.line().await).unwrap();
    }
    assert_eq!(stats["dir"], first["dir"]);
    lab.larder.start_again().await;
    while stats["server"].is_null() {
        stats = serde_json::from_str(&watching.line().await).unwrap();
    }
    assert_eq!(watching.interrupted().await, (Some(0), String::new()));
}

#[tokio::test]
async fn elsewhere_than_on_a_terminal_a_report_is_a_plain_line() {
    let lab = Lab::start().await;
    let mut watching = Watching::start(&lab, &["stats", "--watch"]);
    for _ in 0..2 {
        let line = watching.line().await;
        let has_all = ["used ", " blobs, hits ", " requests, ", "saved ", "evicted 0 blobs"];
        assert!(has_all.iter().all(|part| line.contains(part)), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
    assert_eq!(watching.interrupted().await, (Some(0), String::new()));

    // As `head` does.
    let mut closed = lab.larder.spawn_piped(&[], &["stats", "--watch"]);
    drop(closed.stdout.take());
    let ended = tokio::time::timeout(PATIENCE, closed.wait()).await.expect("nobody reads it");
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test]
async fn on_a_terminal_a_report_takes_the_place_of_the_one_before_and_ctrl_c_ends_it() {
    let terminal = ["script", "-qefc"];
    let help = std::process::Command::new(terminal[0]).arg("-V").stdout(Stdio::null()).status();
    if help.is_err() {
        eprintln!("skipped: `script` is not installed");
        return;
    }
    let lab = Lab::start().await;
    lab.get(&format!("/v2/{ALPINE}/manifests/3.20")).await;
    let mut child = lab.larder.spawn_piped(&terminal, &["stats", "--watch"]);
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    let reading = async {
        while shown.matches("\x1b[H\x1b[2J").count() < 2 {
            let mut bytes = [0; 4096];
            let read = screen.read(&mut bytes).await.unwrap();
            assert!(read > 0, "{shown}");
            shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it prints again");
    for part in [
        "state            ready",
        "24 hours ",
        "pulls left       no registry says",
        "disk             ",
        "upstreams\r\n  docker.io: ready, ",
        &format!("GET docker.io/{ALPINE}:3.20: "),
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    keys.write_all(&[3]).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("Ctrl-C ends it");
    assert_eq!(ended.unwrap().code(), Some(0), "{shown}");
}
