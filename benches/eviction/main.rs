//! `cargo bench --bench eviction`: which blobs to evict, compared over synthetic traces.
//!
//! Prints the tables of `docs/decisions/0016-eviction.md`. Nothing is measured by the clock, so the
//! same program prints the same figures on every machine. `--days 7` makes it shorter. With
//! `--real`, 20,000 pulls of a trace (or `--pulls`) go through the program itself, and through
//! nginx. `--scale` measures the order alone and the program, with up to a million blobs.
#![allow(clippy::print_stdout, reason = "a command prints its answer")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes and times of a model are far from the limits of their types"
)]

mod policies;
mod real;
mod scale;
#[path = "../compare/store.rs"]
#[expect(dead_code, reason = "paths are for those who ask")]
mod store;
mod trace;

use std::collections::HashMap;

use policies::EvictionPolicy;
use trace::{Trace, TraceOptions};

/// Sizes of the cache, in per cent of the bytes of all layers.
const CACHE_PERCENT: [u64; 5] = [2, 5, 10, 20, 40];

const ZIPF: [f64; 3] = [0.8, 1.0, 1.2];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, by_default: u32| {
        let given = arguments.iter().position(|it| it == name).map(|at| &arguments[at + 1]);
        given.map_or(by_default, |number| number.parse().expect("a number"))
    };
    let days = number("--days", 60);
    if arguments.iter().any(|argument| argument == "--real") {
        real::compare(days, number("--pulls", 20_000)).expect("both caches can be run");
        return;
    }
    if arguments.iter().any(|argument| argument == "--scale") {
        scale::order().expect("the process can see its memory");
        scale::program().expect("the program can be run");
        return;
    }
    for has_scan in [false, true] {
        let traces: Vec<_> = ZIPF
            .iter()
            .map(|zipf| Trace::new(TraceOptions { zipf: *zipf, has_scan, seed: 1, days }))
            .collect();
        for (zipf, trace) in ZIPF.iter().zip(&traces) {
            println!("Zipf {zipf}: {}", trace.check());
        }
        let futures: Vec<_> = traces.iter().map(next_uses).collect();
        let kind = if has_scan { "with a nightly scan" } else { "without a scan" };
        let sizes = CACHE_PERCENT.map(|percent| format!("{percent} %")).join(" | ");
        println!("\n| {kind} | {sizes} |\n| --- | --- | --- | --- | --- | --- |");
        for number in 0..policies::all().len() {
            println!("{}", row(number, &traces, &futures));
        }
        println!();
    }
}

/// The row of a policy: at each size hits, bytes, whole pulls and time saved in per cent, as means
/// over the traces.
fn row(number: usize, traces: &[Trace], futures: &[Vec<u64>]) -> String {
    let mut row = format!("| {} |", policies::all()[number].0);
    for percent in CACHE_PERCENT {
        let mut sum = Outcome::default();
        for (trace, next) in traces.iter().zip(futures) {
            let (_, policy) = policies::all().swap_remove(number);
            sum.add(&run(trace, next, policy, trace.bytes() * percent / 100));
        }
        let [hits, bytes, pulls, time] = sum.percent();
        let cell = format!(" {hits:.0} · {bytes:.0} · {pulls:.0} · {time:.0} |");
        row.push_str(&cell);
    }
    row
}

/// Parts that came from the cache, and their wholes.
#[derive(Debug, Default)]
struct Outcome {
    hits: [f64; 2],
    bytes: [f64; 2],
    pulls: [f64; 2],
    time: [f64; 2],
}

impl Outcome {
    fn count(&mut self, size: u64, is_hit: bool) {
        let part = f64::from(u8::from(is_hit));
        let (size, time) = (size as f64, 8.0 * 1024.0 * 1024.0 + size as f64);
        for (counter, weight) in
            [(&mut self.hits, 1.0), (&mut self.bytes, size), (&mut self.time, time)]
        {
            counter[0] += part * weight;
            counter[1] += weight;
        }
    }

    /// Each trace counts the same.
    fn add(&mut self, other: &Self) {
        for (sum, one) in [
            (&mut self.hits, other.hits),
            (&mut self.bytes, other.bytes),
            (&mut self.pulls, other.pulls),
            (&mut self.time, other.time),
        ] {
            sum[0] += one[0] / one[1];
            sum[1] += 1.0;
        }
    }

    fn percent(&self) -> [f64; 4] {
        [self.hits, self.bytes, self.pulls, self.time].map(|[part, whole]| 100.0 * part / whole)
    }
}

/// Plays a trace. The first third fills the cache and is not counted.
fn run(trace: &Trace, next: &[u64], mut policy: Box<dyn EvictionPolicy>, cap: u64) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut stored, mut used) = (HashMap::new(), 0);
    let mut pull = (0, true);
    for (number, request) in trace.requests.iter().enumerate() {
        let size = trace.sizes[request.layer as usize].next_multiple_of(4096);
        let is_hit = stored.contains_key(&request.layer);
        if is_hit {
            policy.touch(request.layer, size, request.at, next[number]);
        } else if size <= cap {
            while used + size > cap {
                used -= stored.remove(&policy.evict()).expect("only stored layers are evicted");
            }
            used += size;
            stored.insert(request.layer, size);
            policy.insert(request.layer, size, request.at, next[number]);
        }
        if !request.counts || number < trace.requests.len() / 3 {
            continue;
        }
        outcome.count(size, is_hit);
        if request.pull != pull.0 {
            outcome.pulls[0] += f64::from(u8::from(pull.1));
            outcome.pulls[1] += 1.0;
            pull = (request.pull, true);
        }
        pull.1 &= is_hit;
    }
    outcome
}

/// For each request the number of the next one of the same layer.
fn next_uses(trace: &Trace) -> Vec<u64> {
    let mut last = HashMap::new();
    let mut next = vec![u64::MAX; trace.requests.len()];
    for (number, request) in trace.requests.iter().enumerate().rev() {
        if let Some(later) = last.insert(request.layer, number as u64) {
            next[number] = later;
        }
    }
    next
}
