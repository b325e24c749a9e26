//! Synthetic traces of pulls, the same for the same seed.
//!
//! The parameters match what was published of registries: Anwar et al., "Improving Docker Registry
//! Design based on Production Workload Analysis" (FAST '18), and Zhao et al., "Large-Scale Analysis
//! of the Docker Hub Dataset" (CLUSTER '19). [`Trace::check`] prints what of that came out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use fastrand::Rng;

/// A layer by its number, and the pull that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerRequest {
    pub(crate) layer: u32,
    pub(crate) pull: u32,
    /// Seconds since the begin of the trace.
    pub(crate) at: u32,
    /// Whether it is of a client, and not of the nightly scan.
    pub(crate) counts: bool,
}

/// Requests in order of time.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) requests: Vec<LayerRequest>,
    /// Bytes of each layer.
    pub(crate) sizes: Vec<u64>,
}

/// Parameters that differ between traces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceOptions {
    /// Exponent of the popularity of repositories by rank.
    pub(crate) zipf: f64,
    pub(crate) has_scan: bool,
    pub(crate) seed: u64,
    pub(crate) days: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TraceEvent {
    DistributionRelease(usize),
    RuntimeRelease(usize),
    Release(usize),
    Pull,
    PullOf { repository: usize, version: usize },
    Scan,
}

/// An image that is built on another one.
#[derive(Debug, Default)]
struct ImageLine {
    /// The number of the image that it is built on.
    base: usize,
    /// Seconds between two releases, on average.
    period: f64,
    /// Layers of each version, those of its base included.
    versions: Vec<Vec<u32>>,
    /// How many of them are of its base.
    base_len: usize,
}

struct TraceBuilder {
    random: Rng,
    options: TraceOptions,
    trace: Trace,
    events: BinaryHeap<Reverse<(u32, u32, TraceEvent)>>,
    sequence: u32,
    pulls: u32,
    distributions: Vec<ImageLine>,
    runtimes: Vec<ImageLine>,
    repositories: Vec<ImageLine>,
    popularity: Vec<f64>,
    /// Layers that clients with a store of their own have.
    client_stores: HashSet<(u8, u32)>,
}

impl Trace {
    pub(crate) fn new(options: TraceOptions) -> Self {
        let mut builder = TraceBuilder::new(options);
        builder.schedule_all();
        while let Some(Reverse((at, _, event))) = builder.events.pop() {
            builder.step(at, event);
        }
        builder.trace
    }

    /// Bytes of all layers.
    pub(crate) fn bytes(&self) -> u64 {
        self.sizes.iter().sum()
    }

    /// The figures that can be compared with published ones.
    pub(crate) fn check(&self) -> String {
        let share = |limit| {
            let below = self.sizes.iter().filter(|size| **size < limit).count();
            100 * below / self.sizes.len()
        };
        let mut counts = vec![0_u32; self.sizes.len()];
        let clients: Vec<_> = self.requests.iter().filter(|it| it.counts).collect();
        for request in &clients {
            counts[request.layer as usize] += 1;
        }
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let busiest: u32 = counts[..counts.len() / 100].iter().sum();
        format!(
            "{} layers of {:.0} GB, {} requests of clients; layers below 1 MB {} % (published 62 to \
             65), below 10 MB {} % (77 to 80); the busiest 1 % of layers have {} % of requests \
             (about 40)",
            self.sizes.len(),
            self.bytes() as f64 / 1e9,
            clients.len(),
            share(1_000_000),
            share(10_000_000),
            100 * busiest as usize / clients.len(),
        )
    }
}

impl TraceBuilder {
    fn new(options: TraceOptions) -> Self {
        let mut random = Rng::with_seed(options.seed);
        let mut line = |bases: usize, days: [f64; 2]| ImageLine {
            base: rank(&mut random, bases),
            period: log_uniform(&mut random, days[0] * DAY, days[1] * DAY),
            ..ImageLine::default()
        };
        Self {
            distributions: (0..12).map(|_| line(1, [14.0, 60.0])).collect(),
            runtimes: (0..40).map(|_| line(12, [7.0, 60.0])).collect(),
            repositories: (0..500).map(|_| line(40, [1.0 / 6.0, 60.0])).collect(),
            popularity: cumulative((1..=500).map(|rank| f64::from(rank).powf(-options.zipf))),
            random,
            options,
            trace: Trace::default(),
            events: BinaryHeap::new(),
            sequence: 0,
            pulls: 0,
            client_stores: HashSet::new(),
        }
    }

    fn at(&mut self, seconds: f64, event: TraceEvent) {
        if seconds < f64::from(self.options.days) * DAY {
            self.sequence += 1;
            self.events.push(Reverse((seconds as u32, self.sequence, event)));
        }
    }

    fn schedule_all(&mut self) {
        for number in 0..self.distributions.len() {
            self.release_distribution(number);
            self.at(self.distributions[number].period, TraceEvent::DistributionRelease(number));
        }
        for number in 0..self.runtimes.len() {
            self.release_runtime(number);
            self.at(self.runtimes[number].period, TraceEvent::RuntimeRelease(number));
        }
        for number in 0..self.repositories.len() {
            self.release(number);
            let first = self.repositories[number].period * self.random.f64();
            self.at(first, TraceEvent::Release(number));
        }
        self.at(0.0, TraceEvent::Pull);
        if self.options.has_scan {
            (0..self.options.days)
                .for_each(|day| self.at(f64::from(day) * DAY + 2.0 * HOUR, TraceEvent::Scan));
        }
    }

    fn step(&mut self, at: u32, event: TraceEvent) {
        let now = f64::from(at);
        match event {
            TraceEvent::DistributionRelease(number) => {
                self.release_distribution(number);
                self.at(now + self.distributions[number].period, event);
            }
            TraceEvent::RuntimeRelease(number) => {
                self.release_runtime(number);
                self.at(now + self.runtimes[number].period, event);
            }
            TraceEvent::Release(repository) => {
                self.release(repository);
                self.at(now + self.repositories[repository].period, event);
                if self.random.f64() < 0.6 {
                    let version = self.repositories[repository].versions.len() - 1;
                    let soon = now + 600.0 * self.random.f64();
                    self.at(soon, TraceEvent::PullOf { repository, version });
                }
            }
            TraceEvent::Pull => self.pull_any(at),
            TraceEvent::PullOf { repository, version } => {
                self.pull(at, repository, version, true);
            }
            TraceEvent::Scan => self.scan(at),
        }
    }

    fn release_distribution(&mut self, number: usize) {
        let layers = (0..=number % 2).map(|_| self.layer()).collect();
        self.distributions[number].versions.push(layers);
    }

    fn release_runtime(&mut self, number: usize) {
        let base = &self.distributions[self.runtimes[number].base];
        let mut layers = base.versions[base.versions.len() - 1].clone();
        layers.extend((0..3).map(|_| self.layer()).collect::<Vec<_>>());
        self.runtimes[number].versions.push(layers);
    }

    /// Replaces the layers above a random one, or now and then all, on the newest runtime.
    fn release(&mut self, number: usize) {
        let line = &self.repositories[number];
        let before = line.versions.last().cloned();
        let base = &self.runtimes[line.base];
        let base = base.versions[base.versions.len() - 1].clone();
        let is_rebuilt = self.random.f64() < 0.12;
        let layers = match before {
            Some(mut layers) if !is_rebuilt => {
                let own = layers.len() - self.repositories[number].base_len;
                let keep = layers.len() - 1 - self.random.usize(..own.max(1)).min(own - 1);
                let replaced = layers.len() - keep;
                layers.truncate(keep);
                layers.extend((0..replaced).map(|_| self.layer()).collect::<Vec<_>>());
                layers
            }
            _ => {
                let own = (5.0 * (0.7 * self.normal()).exp()).round().clamp(1.0, 60.0) as usize;
                self.repositories[number].base_len = base.len();
                let mut layers = base;
                layers.extend((0..own).map(|_| self.layer()).collect::<Vec<_>>());
                layers
            }
        };
        self.repositories[number].versions.push(layers);
    }

    fn layer(&mut self) -> u32 {
        let random = &mut self.random;
        let size = match random.f64() {
            kind if kind < 0.65 => 0.0,
            kind if kind < 0.80 => log_uniform(random, 1e6, 1e7),
            kind if kind < 0.975 => log_uniform(random, 1e7, 1.5e8),
            _ => log_uniform(random, 1.5e8, 2e9),
        };
        let size = if size == 0.0 { 24_576.0 * (1.6 * self.normal()).exp() } else { size };
        self.trace.sizes.push(size.clamp(32.0, 2e9) as u64);
        self.trace.sizes.len() as u32 - 1
    }

    /// A pull of a repository by popularity, at times with a burst behind it.
    fn pull_any(&mut self, at: u32) {
        let now = f64::from(at);
        let repository = pick(&mut self.random, &self.popularity);
        let newest = self.repositories[repository].versions.len() - 1;
        let version = match self.random.f64() {
            kind if kind < 0.7 => newest,
            kind if kind < 0.9 => newest - self.random.usize(..4).min(newest),
            _ => self.random.usize(..=newest),
        };
        self.pull(at, repository, version, true);
        if self.random.f64() < 0.045 {
            let pareto = (1.0 - self.random.f64()).powf(-1.0 / 1.1);
            for _ in 0..(2.0 + 4.0 * pareto).min(150.0) as u32 {
                let soon = now + 600.0 * self.random.f64();
                self.at(soon, TraceEvent::PullOf { repository, version });
            }
        }
        let pause = -(1.0 - self.random.f64()).ln() * MEAN_PAUSE / intensity(at);
        self.at(now + pause, TraceEvent::Pull);
    }

    fn pull(&mut self, at: u32, repository: usize, version: usize, counts: bool) {
        let layers = self.repositories[repository].versions[version].clone();
        let client = (counts && self.random.f64() >= 0.7).then(|| self.random.u8(..20));
        self.pulls += 1;
        for layer in layers {
            if client.is_some_and(|client| !self.client_stores.insert((client, layer))) {
                continue;
            }
            self.trace.requests.push(LayerRequest { layer, pull: self.pulls, at, counts });
        }
    }

    /// A third of the repositories, the five newest tags of each.
    fn scan(&mut self, at: u32) {
        for repository in 0..self.repositories.len() {
            if self.random.f64() < 1.0 / 3.0 {
                let count = self.repositories[repository].versions.len();
                for version in count.saturating_sub(5)..count {
                    self.pull(at, repository, version, false);
                }
            }
        }
    }

    fn normal(&mut self) -> f64 {
        let (one, other) = (1.0 - self.random.f64(), self.random.f64());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    }
}

/// How busy the hour is: nights have 0.35 of a day's load, weekends 0.45.
fn intensity(at: u32) -> f64 {
    let (hour, day) = (at / 3600 % 24, at / 86_400 % 7);
    let by_hour = if (8..20).contains(&hour) { 1.0 } else { 0.35 };
    by_hour * if day >= 5 { 0.45 } else { 1.0 }
}

fn log_uniform(random: &mut Rng, low: f64, high: f64) -> f64 {
    low * (high / low).powf(random.f64())
}

/// One of so many, chosen by 1/rank.
fn rank(random: &mut Rng, count: usize) -> usize {
    pick(random, &cumulative((1..=count).map(|rank| 1.0 / rank as f64)))
}

fn cumulative(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

fn pick(random: &mut Rng, cumulative: &[f64]) -> usize {
    let at = random.f64() * cumulative[cumulative.len() - 1];
    cumulative.partition_point(|sum| *sum <= at).min(cumulative.len() - 1)
}

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// Seconds between two pulls of clients in a busy hour, bursts left out.
const MEAN_PAUSE: f64 = 60.0;
