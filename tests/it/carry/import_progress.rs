//! The progress that `larder import` shows.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::two_sides::{TwoSides, pull};

const PATIENCE: Duration = Duration::from_secs(60);

/// An archive on a slow medium takes hours.
#[tokio::test]
async fn a_terminal_shows_how_far_an_import_is_and_then_what_it_brought() {
    let terminal = ["script", "-qefc"];
    if Command::new(terminal[0]).arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: `script` is not installed");
        return;
    }
    let sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    let bundle = fs::read(sides.export("bundle.tar", &["team/app:v1"]).await).unwrap();
    let pipe = sides.file("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = sides.far.spawn_piped(&terminal, &["import", pipe.to_str().unwrap()]);
    let (go_on, may_go_on) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        let mut pipe = OpenOptions::new().write(true).open(pipe).unwrap();
        let (first, rest) = bundle.split_at(bundle.len() / 2);
        pipe.write_all(first).unwrap();
        may_go_on.recv().unwrap();
        pipe.write_all(rest).unwrap();
    });
    let (mut screen, mut shown, mut bytes) =
        (child.stdout.take().unwrap(), String::new(), [0; 4096]);
    let halfway = async {
        while !shown.contains(" KiB, ") {
            let read = screen.read(&mut bytes).await.unwrap();
            assert!(read > 0, "{shown}");
            shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    timeout(PATIENCE, halfway).await.expect("it shows the first half");
    assert!(!shown.contains("imported"), "{shown}");
    go_on.send(()).unwrap();
    let rest = async {
        while let Ok(read @ 1..) = screen.read(&mut bytes).await {
            shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    timeout(PATIENCE, rest).await.expect("it ends");

    assert_eq!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().code(), Some(0), "{shown}");
    writer.join().unwrap();
    let last = shown.rsplit("\x1b[J").next().unwrap();
    assert!(last.starts_with("imported docker.io/team/app:v1"), "{shown:?}");
    pull(&sides.far, "v1", &sides.app).await;
}
