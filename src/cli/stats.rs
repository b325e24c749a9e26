//! `larder stats`: the figures of the cache, and of its server since its start.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use super::command_cache::{CommandCache, CommandError};
use super::output::{bytes, json, labelled, say};
use crate::control::{CacheStats, ControlRequest, RegistryTraffic, ServerStats};

/// Prints the figures.
pub(super) fn run(
    cache: &CommandCache,
    is_json: bool,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let of_files = |view: &_| Ok(CacheStats::of_files(cache.dir(), view)?);
    let stats = cache.read(&ControlRequest::Stats, of_files)?;
    say(out, &if is_json { json(&stats) } else { StatsReport(&stats).to_string() });
    Ok(())
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
    if let Some(seconds) = server.last_evicted_unused_seconds {
        let unused = humantime::format_duration(Duration::from_secs(seconds));
        line(f, "last evicted", &format!("{unused} after its last use"))?;
    }
    line(f, "hits", &hits(&server.all))?;
    server.registries.iter().try_for_each(|(name, traffic)| line(f, name, &hits(traffic)))
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
