//! Collects the samples of every metric from the parts that count them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::catalogue as metrics;
use super::exposition::{MetricFamily, SampleValue, family, single};
use super::health::{HealthReport, HealthState};
use super::process;
use super::sources::ReportSources;
use crate::cache::{Decision, ScrubReport};
use crate::clock::unix_seconds;
use crate::registry::{Registry, RegistrySet};
use crate::routes::{AnswerEnd, RequestLog, TrafficCounters};
use crate::store::{EvictedBlobs, EvictionReason, IndexState, SpacePart, SpaceReport, StoreReport};
use crate::upstream::{RateAllowance, TroubleKind};

/// Every metric in the catalogue, with what is known of it now.
pub(super) async fn collect(sources: &ReportSources) -> Vec<MetricFamily> {
    let routes = (sources.routes)();
    let mut families = requests(&sources.traffic);
    families.extend(upstreams(routes.registries()));
    families.extend(fills(sources));
    families.push(single(metrics::MOUNTED, sources.push.mount_count().blobs()));
    families.push(single(metrics::MOUNTED_BYTES, sources.push.mount_count().bytes()));
    families.extend(disk(sources).await);
    let report = sources.cache.store_report();
    families.extend(store(&report));
    families.extend(space(&report.space));
    families.extend(scrub(sources.cache.scrub_report()));
    families.extend(memory(sources));
    families.push(single(metrics::CONNECTIONS, sources.connections.len() as u64));
    let lost = sources.traffic.events().lost() + sources.traffic.logs().lost(RequestLog::Stderr);
    families.push(single(metrics::EVENTS_LOST, lost));
    families.push(access_log(&sources.traffic));
    families.push(trace_spans(&sources.traffic));
    families.extend(process_state(sources));
    families.push(ready(&HealthReport::of(sources).await));
    families.push(family(metrics::BUILD, [([env!("CARGO_PKG_VERSION")], SampleValue::Whole(1))]));
    families.extend(process::families().await);
    families
}

fn requests(traffic: &TrafficCounters) -> Vec<MetricFamily> {
    let counts = traffic.counts();
    let mut answered = Vec::new();
    let mut sent = Vec::new();
    let mut unfinished = Vec::new();
    for (registry, counts) in &counts {
        let registry = registry.as_str();
        answered.extend(counts.answered().map(|it| {
            let (word, detail) = names(it.decision);
            ([registry, it.route.as_str(), word, detail, it.status], SampleValue::Whole(it.count))
        }));
        sent.extend(counts.sent().map(|(route, decision, bytes)| {
            ([registry, route.as_str(), names(decision).0], SampleValue::Whole(bytes))
        }));
        let ends = counts.ends().filter(|(end, _)| *end != AnswerEnd::Whole);
        unfinished
            .extend(ends.map(|(end, count)| ([registry, end.as_str()], SampleValue::Whole(count))));
    }
    let timings = || traffic.timings().map(|(route, timing)| ([route.as_str()], timing));
    let took = timings().map(|(route, timing)| (route, timing.took.read()));
    let first_byte = timings().map(|(route, timing)| (route, timing.first_byte.read()));
    vec![
        family(metrics::REQUESTS, answered),
        family(metrics::SENT_BYTES, merged(sent)),
        family(metrics::UNFINISHED, unfinished),
        family(metrics::DURATION, took.map(|(route, seen)| (route, SampleValue::Histogram(seen)))),
        family(
            metrics::FIRST_BYTE,
            first_byte.map(|(route, seen)| (route, SampleValue::Histogram(seen))),
        ),
    ]
}

fn process_state(sources: &ReportSources) -> [MetricFamily; 2] {
    let is_reloaded = sources.is_reload_successful.load(Ordering::Relaxed);
    let ends = (sources.certificates)().into_iter();
    let ends: Vec<_> = ends.map(|(address, end)| (address.to_string(), end)).collect();
    let ends = ends
        .iter()
        .map(|(address, end)| ([address.as_str()], SampleValue::Whole(unix_seconds(*end))));
    [single(metrics::RELOAD, u64::from(is_reloaded)), family(metrics::CERTIFICATE_END, ends)]
}

fn access_log(traffic: &TrafficCounters) -> MetricFamily {
    let (refused, slow) =
        (traffic.access_log_refused().get(), traffic.logs().lost(RequestLog::File));
    let lost = [("disk", refused), ("slow", slow)];
    let lost = lost.map(|(reason, lines)| ([reason], SampleValue::Whole(lines)));
    family(metrics::ACCESS_LOG_LOST, lost)
}

fn trace_spans(traffic: &TrafficCounters) -> MetricFamily {
    let losses = traffic.tracer().map(|tracer| &tracer.queue().losses);
    let counts =
        losses.map(|it| [("lost", &it.lost), ("refused", &it.refused), ("sent", &it.sent)]);
    let counts = counts.into_iter().flatten();
    family(metrics::TRACE_SPANS, counts.map(|(it, count)| ([it], SampleValue::Whole(count.get()))))
}

/// The cache's decision and its detail; `none` for requests that the cache had no part in.
fn names(decision: Option<Decision>) -> (&'static str, &'static str) {
    decision.map_or(("none", ""), |decision| (decision.names().word, decision.names().detail))
}

/// Adds up what has the same labels: bytes are shown without the decision's detail.
fn merged<const N: usize>(samples: Vec<([&str; N], SampleValue)>) -> Vec<([&str; N], SampleValue)> {
    let mut merged: Vec<([&str; N], SampleValue)> = Vec::new();
    for (labels, value) in samples {
        match (merged.iter_mut().find(|(before, _)| *before == labels), value) {
            (Some((_, SampleValue::Whole(sum))), SampleValue::Whole(more)) => *sum += more,
            (_, value) => merged.push((labels, value)),
        }
    }
    merged
}

fn upstreams(table: &RegistrySet) -> Vec<MetricFamily> {
    let known = table.registries();
    let registries =
        || known.iter().map(|registry| (registry.name().as_str(), registry.upstream().as_ref()));
    let requests = registries().flat_map(|(label, upstreams)| {
        let requests = upstreams.meter().requests();
        requests
            .map(move |(class, result, count)| ([label, class, result], SampleValue::Whole(count)))
    });
    let heads = registries().flat_map(|(label, upstreams)| {
        let heads = upstreams.meter().heads();
        heads.map(move |(class, seen)| ([label, class], SampleValue::Histogram(seen)))
    });
    let received = registries()
        .map(|(label, upstreams)| ([label], SampleValue::Whole(upstreams.meter().received())));
    let held = registries()
        .map(|(label, upstreams)| ([label], SampleValue::Whole(upstreams.limits_held() as u64)));
    let troubles = registries().flat_map(|(label, upstreams)| {
        let troubles = upstreams.troubles();
        TroubleKind::ALL.map(|kind| {
            let count = troubles.iter().filter(|trouble| trouble.kind == kind).count();
            ([label, kind.as_str()], SampleValue::Whole(count as u64))
        })
    });
    let ends = registries().filter_map(|(label, upstreams)| {
        Some(([label], SampleValue::Whole(unix_seconds(upstreams.credential_end()?))))
    });
    let mut families = vec![
        family(metrics::UPSTREAM_REQUESTS, requests),
        family(metrics::UPSTREAM_HEADS, heads),
        family(metrics::UPSTREAM_BYTES, received),
        family(metrics::LIMITS_HELD, held),
        family(metrics::TROUBLES, troubles),
        family(metrics::CREDENTIAL_END, ends),
    ];
    families.extend(allowances(&known));
    families
}

/// The rate limits that upstreams state, for each login by its number: no label names an account.
fn allowances(known: &[Arc<Registry>]) -> [MetricFamily; 3] {
    let stated = known.iter().flat_map(|registry| {
        let allowances = registry.upstream().allowances();
        allowances.map(|(login, stated)| (registry.name().as_str(), login.to_string(), stated))
    });
    let stated: Vec<_> = stated.collect();
    let allowed = |metric, part: fn(&RateAllowance) -> Option<u64>| {
        let samples = stated.iter().filter_map(|(registry, login, allowance)| {
            Some(([*registry, login], SampleValue::Whole(part(allowance)?)))
        });
        family(metric, samples)
    };
    [
        allowed(metrics::RATELIMIT_LIMIT, |it| it.limit),
        allowed(metrics::RATELIMIT_REMAINING, |it| it.remaining),
        allowed(metrics::RATELIMIT_WINDOW, |it| it.window.map(|window| window.as_secs())),
    ]
}

fn fills(sources: &ReportSources) -> Vec<MetricFamily> {
    let ended = sources.cache.fills_ended();
    let ended = ended
        .iter()
        .map(|(label, end, count)| ([label.as_str(), end.as_str()], SampleValue::Whole(*count)));
    let warmed = (sources.warmed)();
    vec![
        single(metrics::FILLS_RUNNING, sources.cache.fills().len() as u64),
        family(metrics::FILLS_ENDED, ended),
        family(
            metrics::WARMED,
            warmed.map(|(result, count)| ([result], SampleValue::Whole(count))),
        ),
    ]
}

/// A disk that cannot be asked has no size.
async fn disk(sources: &ReportSources) -> Vec<MetricFamily> {
    let trouble = sources.cache.disk_trouble().await;
    let trouble = trouble.map(|reason| ([reason], SampleValue::Whole(1)));
    let room = sources.cache.disk_space().await.ok();
    let whole = |value: u64| ([], SampleValue::Whole(value));
    let free = room.map(|room| whole(room.available.saturating_sub(room.min_free)));
    vec![
        family(metrics::DISK_TROUBLE, trouble),
        family(metrics::DISK_FREE, free),
        family(metrics::DISK_MIN_FREE, room.map(|room| whole(room.min_free))),
        family(metrics::DISK_SIZE, room.map(|room| whole(room.total))),
    ]
}

/// Without an index, and before it is open, the totals are unknown.
fn store(StoreReport { index, verification, .. }: &StoreReport) -> Vec<MetricFamily> {
    let is_known = !matches!(index.state, IndexState::Off | IndexState::Opening);
    let totals = is_known.then_some(index.totals);
    let counts =
        totals.map(|it| [("content", it.blobs), ("manifest", it.manifests), ("tag", it.tags)]);
    let counts =
        counts.into_iter().flatten().map(|(kind, count)| ([kind], SampleValue::Whole(count)));
    let states = IndexState::ALL
        .map(|state| ([state.as_str()], SampleValue::Whole(u64::from(index.state == state))));
    let results = [("right", verification.checked), ("wrong", verification.bad)];
    vec![
        family(metrics::STORED, counts),
        family(metrics::STORED_BYTES, totals.map(|it| ([], SampleValue::Whole(it.bytes)))),
        family(metrics::INDEX, states),
        single(metrics::INDEX_WALKS, index.walks),
        single(metrics::INDEX_BAD, index.set_aside),
        single(metrics::INDEX_LOST, index.dropped),
        family(
            metrics::VERIFIED,
            results.map(|(result, count)| ([result], SampleValue::Whole(count))),
        ),
        single(metrics::HEALED, verification.healed),
    ]
}

/// Until a first pass has ended it is unknown what waits longest.
fn scrub(ScrubReport { bytes, lost, oldest }: ScrubReport) -> Vec<MetricFamily> {
    let oldest = oldest.map(|age| ([], SampleValue::Whole(age.as_secs())));
    vec![
        single(metrics::SCRUBBED_BYTES, bytes),
        single(metrics::SCRUB_LOST, lost),
        family(metrics::SCRUB_OLDEST, oldest),
    ]
}

fn space(report: &SpaceReport) -> Vec<MetricFamily> {
    let whole = |value: u64| ([], SampleValue::Whole(value));
    let used = SpacePart::ALL.iter().zip(report.used);
    let evicted = |count: fn(&EvictedBlobs) -> u64| {
        let reasons = EvictionReason::ALL.iter().zip(&report.evicted);
        reasons.map(move |(reason, it)| ([reason.as_str()], SampleValue::Whole(count(it))))
    };
    vec![
        family(metrics::CAP, report.cap.map(whole)),
        family(metrics::USED, used.map(|(part, used)| ([part.as_str()], SampleValue::Whole(used)))),
        single(metrics::PINNED, report.pinned),
        single(metrics::PROTECTED, report.protected),
        family(metrics::EVICTED, evicted(|it| it.count)),
        family(metrics::EVICTED_BYTES, evicted(|it| it.bytes)),
        family(metrics::EVICTED_UNUSED, report.last_unused.map(whole)),
    ]
}

fn memory(sources: &ReportSources) -> Vec<MetricFamily> {
    let parts = sources.cache.memory();
    vec![
        family(
            metrics::MEMORY_BYTES,
            parts.iter().map(|it| ([it.what], SampleValue::Whole(it.bytes))),
        ),
        family(
            metrics::MEMORY_ENTRIES,
            parts.iter().map(|it| ([it.what], SampleValue::Whole(it.entries))),
        ),
    ]
}

fn ready(health: &HealthReport) -> MetricFamily {
    let states = HealthState::ALL
        .map(|state| ([state.as_str()], SampleValue::Whole(u64::from(health.state() == state))));
    family(metrics::READY, states)
}
