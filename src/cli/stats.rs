//! `larder stats`: the figures of the cache, and of its server since its start.
//!
//! With `--watch` they are printed again and again: on a terminal over those before, elsewhere as a
//! line each. How the command waits in between, and ends, is decided in `watch.rs`.

use std::fmt;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::command_cache::{CommandCache, CommandError};
use super::output::{json, labelled, say};
use super::watch::WatchPause;
use super::watch_screen::WatchScreen;
use crate::amounts::bytes;
use crate::control::{CacheStats, ControlRequest, RegistryTraffic, ServerStats, WarmTableStats};

#[derive(Args, Debug)]
pub(super) struct StatsArguments {
    /// Print one JSON object; with `--watch` one on each line
    #[arg(long)]
    json: bool,
    /// Print the figures every two seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

/// Prints the figures.
pub(super) fn run(
    cache: &CommandCache,
    arguments: &StatsArguments,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let of_files = |view: &_| Ok(CacheStats::of_files(cache.dir(), view)?);
    let stats = cache.read(&ControlRequest::Stats, of_files)?;
    if arguments.watch {
        return watch(cache, arguments.json, stats, out);
    }
    say(out, &if arguments.json { json(&stats) } else { StatsReport(&stats).to_string() });
    Ok(())
}

/// Prints the figures until Ctrl-C, or until the reader closes the pipe. Without a server, those of
/// the files stay as they were counted first.
fn watch(
    cache: &CommandCache,
    is_json: bool,
    mut stats: CacheStats,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let mut pause = WatchPause::begin(cache)?;
    let is_live = std::io::stdout().is_terminal() && !is_json;
    loop {
        let text = match (is_json, is_live) {
            (true, _) => json(&stats),
            (false, true) => format!("{CLEAR}{}", screen(cache, &stats)),
            (false, false) => format!("{}\n", StatsLine(&stats)),
        };
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if written.is_err() || !pause.wait(cache) {
            return Ok(());
        }
        let before = CacheStats { server: None, ..stats };
        stats = cache.read(&ControlRequest::Stats, |_| Ok(before))?;
    }
}

/// The figures of the page for operators, or those of the cache if no server knows the page.
fn screen(cache: &CommandCache, stats: &CacheStats) -> String {
    let page = cache.read(&ControlRequest::Page, |_| Ok(Value::Null));
    match page {
        Ok(page) if page.is_object() => WatchScreen(&page).to_string(),
        _ => StatsReport(stats).to_string(),
    }
}

/// Home, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// The figures that change, on one line.
struct StatsLine<'s>(&'s CacheStats);

impl fmt::Display for StatsLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CacheStats { used, blobs, server, .. } = self.0;
        write!(f, "used {} in {blobs} blobs", bytes(*used))?;
        let Some(server) = server else { return f.write_str(", no server runs") };
        write!(f, ", hits {}, saved {}", hits(&server.all), bytes(server.all.hit_bytes))?;
        write!(f, ", evicted {} blobs", server.evicted.values().map(|it| it.blobs).sum::<u64>())
    }
}

struct StatsReport<'s>(&'s CacheStats);

impl fmt::Display for StatsReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.0;
        let server = stats.server.as_ref();
        let version = server.map(|server| format!("larder {}", server.version));
        line(f, "cache", &stats.dir)?;
        line(f, "server", &version.unwrap_or_else(|| "none runs".to_owned()))?;
        let share = stats.max_size.map(|max| {
            let percent = u128::from(stats.used) * 100 / u128::from(max.max(1));
            format!(", {percent} % of {}", bytes(max))
        });
        line(f, "used", &format!("{}{}", bytes(stats.used), share.unwrap_or_default()))?;
        let blobs = format!("{}, {}", stats.blobs, bytes(stats.blob_bytes));
        let is_counting = if stats.is_counted { "" } else { " so far; the index is being built" };
        line(f, "blobs", &format!("{blobs}{is_counting}"))?;
        line(f, "manifests", &stats.manifests.to_string())?;
        line(f, "tags", &stats.tags.to_string())?;
        server.map_or(Ok(()), |server| server_lines(f, server))
    }
}

fn server_lines(f: &mut fmt::Formatter<'_>, server: &ServerStats) -> fmt::Result {
    for (reason, evicted) in &server.evicted {
        let evicted = format!("{} blobs, {}, for {reason}", evicted.blobs, bytes(evicted.bytes));
        line(f, "evicted", &evicted)?;
    }
    line(f, "pinned", &bytes(server.pinned_bytes))?;
    line(f, "protected", &bytes(server.protected_bytes))?;
    if let Some(seconds) = server.last_evicted_unused_seconds {
        let unused = humantime::format_duration(Duration::from_secs(seconds));
        line(f, "last evicted", &format!("{unused} after its last use"))?;
    }
    server.warm.iter().try_for_each(|table| line(f, "warm", &warm(table)))?;
    line(f, "saved", &format!("{} were not fetched again", bytes(server.all.hit_bytes)))?;
    line(f, "hits", &hits(&server.all))?;
    server.registries.iter().try_for_each(|(name, traffic)| line(f, name, &hits(traffic)))
}

fn warm(table: &WarmTableStats) -> String {
    let images = match table.images.as_slice() {
        [] => "all tags".to_owned(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
    };
    let pulled = table.pulled.zip(table.within_seconds).map(|(pulls, seconds)| {
        let within = humantime::format_duration(Duration::from_secs(seconds));
        format!(", pulled {pulls} times within {within}")
    });
    let pulled = pulled.unwrap_or_default();
    let last = match (table.complete, table.failed) {
        (Some(complete), Some(failed)) => format!("{complete} complete, {failed} failed"),
        _ => "no run has ended".to_owned(),
    };
    let next = match table.next_at {
        Some(at) => format!("next run at {at}"),
        None => "a run goes on".to_owned(),
    };
    format!("{images}{pulled}: {last}, {next}")
}

fn hits(traffic: &RegistryTraffic) -> String {
    let percent = |ratio: Option<f64>| ratio.map_or(0.0, |ratio| 100.0 * ratio);
    let (requests, bytes_sent) = (traffic.requests, bytes(traffic.bytes));
    let of_requests = format!("{:.1} % of {requests} requests", percent(traffic.hit_ratio));
    format!("{of_requests}, {:.1} % of {bytes_sent}", percent(traffic.byte_hit_ratio))
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    f.write_str(&labelled(name, value))
}
