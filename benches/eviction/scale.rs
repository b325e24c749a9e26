//! A million blobs: the order alone, and the program on a store of that size.
//!
//! The store is laid out by hand (`../compare/store.rs`): 1,000 repositories of 100 tags, and
//! 800,000 blobs beside their manifests and layers. Files are sparse, so that it fits on any disk.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use larder::store::{EvictionOrder, OrderBound};
use tokio::time::Instant;

use crate::real::{Peer, RunningPeer};
use crate::store::{LAYER_BYTES, Size, lay_out};

/// The cost of a use and of an eviction with so many blobs, in a cache that is full all the time.
/// This is the order alone.
pub(crate) fn order() -> Result<()> {
    println!("| blobs | ns, use | ns, next and out and in | MiB |\n| --- | --- | --- | --- |");
    for blobs in [10_000_u64, 100_000, 1_000_000] {
        let mut random = fastrand::Rng::with_seed(1);
        let key = |number: u64| [number; 5];
        let empty = resident("self")?;
        let mut order = EvictionOrder::default();
        for number in 0..blobs {
            order.insert(key(number), random.u64(4096..50 << 20), 0);
        }
        let mib = resident("self")? - empty;
        let began = Instant::now();
        for at in 0..STEPS {
            order.touch(&key(random.u64(..blobs)), at);
        }
        let used = began.elapsed() / STEPS;
        let began = Instant::now();
        for at in 0..STEPS {
            let next = *order.first().expect("it is full");
            order.evict(&next, OrderBound::Whole);
            order.insert(key(blobs + u64::from(at)), random.u64(4096..50 << 20), at);
        }
        let evicted = began.elapsed() / STEPS;
        println!("| {blobs} | {} | {} | {mib:.1} |", used.as_nanos(), evicted.as_nanos());
    }
    Ok(())
}

/// The program, with little and with a million blobs.
pub(crate) fn program() -> Result<()> {
    println!("\n| | 1,200 blobs | 1,000,000 blobs |\n| --- | --- | --- |");
    let sizes = [(10, 0), (1000, 800_000)];
    let [few, many] = sizes.map(|(repositories, blobs)| measured(Size { repositories, blobs }));
    for ((name, few), (_, many)) in few?.into_iter().zip(many?) {
        println!("| {name} | {few:.2} | {many:.2} |");
    }
    Ok(())
}

type Figures = Vec<(&'static str, f64)>;

fn measured(size: Size) -> Result<Figures> {
    let lab = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    lay_out(&lab.path().join("cache"), size)?;
    let mut figures = Vec::new();
    for index in ["without an index", "with its index"] {
        let (began, running) = (Instant::now(), start(lab.path(), NO_CAP)?);
        let is_first = index == "without an index";
        let start_ms = if is_first { "ms to start, no index" } else { "ms to start, index closed" };
        figures.push((start_ms, millis(began.elapsed())));
        let ls_ms = if is_first { "ms to the first row of `ls`, at once" } else { LS_LATER };
        if !is_first {
            until_ready(&running)?;
            figures.push(("MiB resident", resident(&running.id().to_string())?));
        }
        figures.push((ls_ms, first_row(lab.path())?));
        until_ready(&running)?;
    }
    evictions(lab.path(), size, &mut figures)?;
    Ok(figures)
}

/// Milliseconds between two looks at the count of evictions.
const LOOK_MS: f64 = 20.0;

const LS_LATER: &str = "ms to the first row of `ls`";

fn start(dir: &Path, cap: u64) -> Result<RunningPeer> {
    // No upstream is asked for anything.
    Peer::Larder.start(dir, ([127, 0, 0, 1], 9).into(), cap)
}

/// Lowers the bound by half of the layers, and watches them go.
fn evictions(dir: &Path, size: Size, figures: &mut Figures) -> Result<()> {
    let running = start(dir, NO_CAP)?;
    until_ready(&running)?;
    let (layers, counted) = (size.repositories * 100, running.counted()?);
    drop(running);
    let running = start(dir, counted - layers / 2 * LAYER_BYTES)?;
    let (mut seen, mut first, mut last) = (0.0, None, Instant::now());
    while last.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(LOOK_MS as u64));
        // At first it serves nothing.
        let evicted = running.sum("larder_evicted_total{").unwrap_or_default();
        if evicted > seen {
            (seen, last) = (evicted, Instant::now());
            first = first.or(Some((evicted, last)));
        }
    }
    let (before, began) = first.context("blobs are evicted")?;
    let took = last.duration_since(began);
    figures.push(("blobs evicted", seen));
    // All of a few are gone between two looks.
    let each = if seen > before { millis(took) / (seen - before) } else { LOOK_MS / seen };
    figures.push(("ms for each", each));
    Ok(())
}

/// The time from the start of the command on.
fn first_row(dir: &Path) -> Result<f64> {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["ls", "--json", "--config"]).arg(dir.join("config"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut row = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut row)?;
    let took = millis(began.elapsed());
    child.kill()?;
    child.wait()?;
    ensure!(row.contains("bench/app-"), "a row: {row}");
    Ok(took)
}

fn until_ready(running: &RunningPeer) -> Result<()> {
    let began = Instant::now();
    while running.sum("larder_index_state{state=\"ready\"}").unwrap_or_default() < 1.0 {
        ensure!(began.elapsed() < Duration::from_secs(900), "the index is not made");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// MiB of a process.
fn resident(process: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kib.context("its memory")? / 1024.0)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// 1 PiB, of sparse files.
const NO_CAP: u64 = 1 << 50;

const STEPS: u32 = 300_000;
