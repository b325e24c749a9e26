//! The progress that `larder warm` shows.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::support::{Fault, Gate, Image, Process, ScriptedRegistry, When};

const PATIENCE: Duration = Duration::from_secs(60);

/// The end of the characters that take the lines of a state away, before those of the next.
const CLEAR: &str = "\x1b[J";

/// An image of many layers, of which two stop halfway until the gate opens.
async fn stopped() -> (Process, Image, Gate) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(7, &[200_000; 24]);
    hub.put_image("team/app", "many", &image);
    let gate = Gate::new();
    for layer in &image.layers[..2] {
        hub.breaks(When::asked(&layer.digest), Fault::HoldAt(100_000, gate.clone()));
    }
    let larder = Process::before(hub.listen().await, "").await;
    larder.client().get("/v2/").await.assert_status(200);
    (larder, image, gate)
}

#[tokio::test]
async fn a_terminal_has_a_bar_for_the_image_and_few_for_its_many_layers() {
    let terminal = ["script", "-qefc"];
    let help = std::process::Command::new(terminal[0]).arg("-V").stdout(Stdio::null()).status();
    if help.is_err() {
        eprintln!("skipped: `script` is not installed");
        return;
    }
    let (larder, image, gate) = stopped().await;
    let mut child = larder.spawn_piped(&terminal, &["warm", "team/app:many"]);
    let mut screen = child.stdout.take().unwrap();
    let mut shown = String::new();
    let halves: Vec<_> = image.layers[..2]
        .iter()
        .map(|layer| format!(" 50 %  97.7 KiB of 195.3 KiB  {}", &layer.digest.hex()[..12]))
        .collect();
    let mut bytes = [0; 4096];
    let halfway = async {
        while !halves.iter().all(|half| shown.contains(half)) {
            let read = screen.read(&mut bytes).await.unwrap();
            assert!(read > 0, "{shown}");
            shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    timeout(PATIENCE, halfway).await.unwrap_or_else(|_| panic!("{shown:?} lacks {halves:?}"));
    gate.open();
    let rest = async {
        while let Ok(read @ 1..) = screen.read(&mut bytes).await {
            shown.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    timeout(PATIENCE, rest).await.expect("it ends");
    let ended = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();

    assert_eq!(ended.code(), Some(0), "{shown}");
    let states: Vec<&str> = shown.split(CLEAR).collect();
    let (last, bars) = states.split_last().unwrap();
    assert!(!bars.is_empty(), "{shown}");
    let most = bars.iter().map(|state| state.lines().count()).max().unwrap();
    assert!((3..=4).contains(&most), "{most} lines\n{shown}");
    assert!(last.starts_with("warm docker.io/team/app:many: 4.6 MiB in 26 contents"), "{last:?}");
    assert_eq!(last.trim_end().lines().count(), 1, "a bar is left\n{last:?}");
}

#[tokio::test]
async fn elsewhere_there_are_plain_lines() {
    let (larder, _, gate) = stopped().await;
    gate.open();

    let run = larder.command(&["warm", "team/app:many"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.out, "warm docker.io/team/app:many: 4.6 MiB in 26 contents\n");
    assert!(!run.err.contains('\x1b'), "{run:?}");
}
