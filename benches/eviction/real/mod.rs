//! `cargo bench --bench eviction -- --real`: a trace through the program itself, and through nginx.
//!
//! The trace is that of the simulator, 20,000 pulls of it, with layers of a 256th of their bytes;
//! the cache is a tenth of them. Each pull asks for its layers over three connections, as clients
//! do. `du` looks at the directory every 100 ms. Prints the table of
//! `docs/decisions/0016-eviction.md`.

mod peer;
mod upstream;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use self::peer::{Connection, du};
pub(crate) use self::peer::{Peer, RunningPeer};
use self::upstream::{Layers, Upstream};
use crate::trace::{Trace, TraceOptions};
use crate::{Outcome, next_uses, policies, run};

/// Plays the trace to both, and prints how they did.
pub(crate) fn compare(days: u32, pulls: u32) -> Result<()> {
    let options = TraceOptions { zipf: 1.0, has_scan: false, seed: 1, days };
    let mut trace = Trace::new(options);
    let last = trace.requests.partition_point(|request| request.pull <= pulls);
    trace.requests.truncate(last);
    keep_asked(&mut trace);
    let cap = trace.bytes() / 10;
    println!(
        "{pulls} pulls, {} requests for {} layers of {} MB, a cache of {} MB\n",
        trace.requests.len(),
        trace.sizes.len(),
        trace.bytes() / 1_000_000,
        cap / 1_000_000
    );
    println!("| | hits | bytes | most that `du` saw | failed | accounting | seconds |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let next = next_uses(&trace);
    for (name, policy) in policies::all() {
        if ["LRU", "Larder"].contains(&name) {
            let [hits, bytes, ..] = run(&trace, &next, policy, cap).percent();
            println!("| {name}, simulated | {hits:.1} | {bytes:.1} | | | | |");
        }
    }
    let layers = Arc::new(Layers::new(trace.sizes.clone()));
    for peer in [Peer::Larder, Peer::Nginx] {
        let dir = tempfile::tempdir()?;
        let upstream = Upstream::start(&layers)?;
        let running = peer.start(dir.path(), upstream.address, cap)?;
        let played = watched(&running.cache, || play(&trace, &layers, &upstream, running.address));
        let (played, most) = (played.0?, played.1);
        let accounting = accounting(peer, running, dir.path(), upstream.address, cap)?;
        let [hits, bytes, ..] = played.outcome.percent();
        println!(
            "| {} | {hits:.1} | {bytes:.1} | {:.1} % of the cap | {} | {accounting} | {} |",
            peer.name(),
            100.0 * most as f64 / cap as f64,
            played.failed,
            played.took.as_secs()
        );
    }
    Ok(())
}

/// Leaves the layers that are asked for, numbered anew, with a part of their bytes.
fn keep_asked(trace: &mut Trace) {
    let mut numbers = vec![None; trace.sizes.len()];
    let mut sizes = Vec::new();
    for request in &mut trace.requests {
        let number = numbers[request.layer as usize].get_or_insert_with(|| {
            sizes.push((trace.sizes[request.layer as usize] / SHRINK).max(LAYER_MIN));
            sizes.len() as u32 - 1
        });
        request.layer = *number;
    }
    trace.sizes = sizes;
}

/// How a cache did.
struct Played {
    outcome: Outcome,
    failed: u64,
    took: Duration,
}

/// Asks for every layer of the trace. As in the simulator, the first third is not counted.
fn play(
    trace: &Trace,
    layers: &Layers,
    upstream: &Upstream,
    address: std::net::SocketAddr,
) -> Result<Played> {
    let began = Instant::now();
    let mut connections = (0..3).map(|_| Connection::open(address)).collect::<Result<Vec<_>>>()?;
    let first_counted = trace.requests.len() / 3;
    let (mut fetched, mut asked, mut failed) = ([0; 2], [0; 2], 0);
    let mut number = 0;
    for pull in trace.requests.chunk_by(|one, next| one.pull == next.pull) {
        if number >= first_counted && asked[0] == 0 {
            fetched = upstream.fetched();
        }
        for some in pull.chunks(connections.len()) {
            for (connection, request) in connections.iter_mut().zip(some) {
                connection.ask(&layers.path(request.layer as usize))?;
            }
            for (connection, request) in connections.iter_mut().zip(some) {
                let right = layers.content(request.layer as usize);
                match connection.answer() {
                    Ok(body) if body == right => {}
                    _ => {
                        failed += 1;
                        *connection = Connection::open(address)?;
                    }
                }
                if number >= first_counted {
                    asked = [asked[0] + 1, asked[1] + right.len() as u64];
                }
            }
        }
        number += pull.len();
    }
    let took = began.elapsed();
    let now = upstream.fetched();
    let part = |at: usize| {
        let missed = now[at] - fetched[at];
        [asked[at].saturating_sub(missed) as f64, asked[at] as f64]
    };
    let outcome = Outcome { hits: part(0), bytes: part(1), ..Outcome::default() };
    Ok(Played { outcome, failed, took })
}

/// Does something, and returns the most bytes that a directory took meanwhile.
fn watched<T>(dir: &Path, job: impl FnOnce() -> T) -> (T, u64) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = du(dir).max(most);
                thread::sleep(Duration::from_millis(100));
            }
            most
        });
        let done = job();
        is_over.store(true, Ordering::Relaxed);
        (done, watching.join().unwrap_or(u64::MAX))
    })
}

/// How far Larder's count is from that of `du`, once the last request is done, and again after a
/// stop and a start.
fn accounting(
    peer: Peer,
    running: RunningPeer,
    dir: &Path,
    upstream: std::net::SocketAddr,
    cap: u64,
) -> Result<String> {
    if matches!(peer, Peer::Nginx) {
        return Ok(String::new());
    }
    let difference = |running: &RunningPeer| -> Result<i64> {
        // Evictions ahead of need come to rest, and the index is written.
        thread::sleep(Duration::from_secs(5));
        let (counted, taken) = (running.counted()?, du(&running.cache));
        ensure!(counted > 0, "Larder says what it takes");
        Ok(counted.cast_signed() - taken.cast_signed())
    };
    let before = difference(&running)?;
    drop(running);
    let after = difference(&peer.start(dir, upstream, cap)?)?;
    Ok(format!("{before:+} bytes, {after:+} after a restart"))
}

/// Layers have this part of their bytes.
const SHRINK: u64 = 256;
const LAYER_MIN: u64 = 32;
