//! When a host that does not answer is no longer called.
//!
//! Connections that fail, time-outs and 502 to 504 are counted while they come in a row. After a
//! few the breaker opens: nothing is sent to the host, and requests to it fail at once. After a
//! while one request, the probe, finds out whether the host is back. If none comes, the task that
//! was started when the breaker opened asks (`probe.rs`), so that an idle Larder finds out as well.
//!
//! It is kept for each host that is called on behalf of an upstream: storage that is down must not
//! keep manifests from being asked for. Bodies on their way are not its concern.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use super::error::UpstreamError;

/// The hosts that have failed.
#[derive(Default)]
pub(super) struct CircuitBreaker {
    circuits: Mutex<HashMap<String, HostCircuit>>,
    on_open: Option<OpenHook>,
}

/// Called when the breaker of a host opens.
pub(super) type OpenHook = Box<dyn Fn(OpenedHost) + Send + Sync>;

/// A host whose breaker has just opened.
#[derive(Clone, Debug)]
pub(super) struct OpenedHost {
    pub(super) host: String,
    pub(super) scheme: UrlScheme,
    since: Instant,
}

/// How a host was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlScheme {
    Http,
    Https,
}

impl UrlScheme {
    pub(super) fn of(url: &Url) -> Self {
        if url.scheme() == "http" { Self::Http } else { Self::Https }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A host that has failed, and has not answered since.
#[derive(Debug)]
struct HostCircuit {
    faults: u32,
    first: Instant,
    last_fault: String,
    open: Option<OpenCircuit>,
}

#[derive(Debug)]
struct OpenCircuit {
    since: Instant,
    until: Instant,
    wait: Duration,
    /// Whether the request that finds out is under way.
    is_probed: bool,
}

impl CircuitBreaker {
    /// A breaker for hosts that have not failed yet.
    pub(super) fn new(on_open: OpenHook) -> Self {
        Self { circuits: Mutex::default(), on_open: Some(on_open) }
    }

    /// Whether a breaker is open as it was when it opened then.
    pub(super) fn is_open_since(&self, opened: &OpenedHost) -> bool {
        let circuits = self.circuits();
        let open = circuits.get(&opened.host).and_then(|circuit| circuit.open.as_ref());
        open.is_some_and(|open| open.since == opened.since)
    }

    /// Leave to send a request that no client waits for. If it fails, that changes nothing: the
    /// next client's request is to find out as soon as it could have before.
    pub(super) fn enter_idle(&self, host: &str, scheme: UrlScheme) -> BreakerPermit<'_> {
        self.permit(host, scheme, false)
    }

    /// Whether nothing is sent to this host now.
    pub(super) fn is_open(&self, host: &str) -> bool {
        self.check(host).is_err()
    }

    /// Whether a request would be sent now.
    pub(super) fn check(&self, host: &str) -> Result<(), UpstreamError> {
        self.circuits().get(host).map_or(Ok(()), |circuit| circuit.check(host))
    }

    /// The hosts that are not called, or are being tried again, each with its last fault.
    pub(super) fn open_hosts(&self) -> Vec<(String, String)> {
        let circuits = self.circuits();
        let open = circuits.iter().filter(|(_, circuit)| circuit.open.is_some());
        open.map(|(host, circuit)| (host.clone(), circuit.last_fault.clone())).collect()
    }

    /// Leave to send one request.
    pub(super) fn enter(
        &self,
        host: &str,
        scheme: UrlScheme,
    ) -> Result<BreakerPermit<'_>, UpstreamError> {
        let mut circuits = self.circuits();
        let mut is_probe = false;
        if let Some(circuit) = circuits.get_mut(host) {
            circuit.check(host)?;
            if let Some(open) = &mut circuit.open {
                (open.is_probed, is_probe) = (true, true);
            }
        }
        drop(circuits);
        Ok(self.permit(host, scheme, is_probe))
    }

    fn permit(&self, host: &str, scheme: UrlScheme, is_probe: bool) -> BreakerPermit<'_> {
        let (host, began) = (host.to_owned(), Instant::now());
        BreakerPermit { breaker: self, host, scheme, began, is_probe, is_settled: false }
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<String, HostCircuit>> {
        self.circuits.lock()
    }

    fn note(&self, permit: &BreakerPermit<'_>, fault: &str) {
        let BreakerPermit { host, scheme, is_probe, .. } = permit;
        let now = Instant::now();
        let mut circuits = self.circuits();
        make_room(&mut circuits);
        let circuit = circuits.entry(host.clone()).or_insert_with(|| HostCircuit::new(now));
        fault.clone_into(&mut circuit.last_fault);
        match &mut circuit.open {
            Some(open) if *is_probe => {
                let wait = (open.wait * 2).min(WAIT_MAX);
                *open = OpenCircuit { until: now + wait, wait, is_probed: false, ..*open };
            }
            // It was on its way when the breaker opened.
            Some(_) => {}
            None => {
                let is_opened = circuit.count(host, now);
                drop(circuits);
                let opened = OpenedHost { host: host.clone(), scheme: *scheme, since: now };
                self.on_open.iter().filter(|_| is_opened).for_each(|hook| hook(opened.clone()));
            }
        }
    }
}

impl HostCircuit {
    fn new(now: Instant) -> Self {
        Self { faults: 0, first: now, last_fault: String::new(), open: None }
    }

    fn check(&self, host: &str) -> Result<(), UpstreamError> {
        let Some(open) = &self.open else { return Ok(()) };
        if !open.is_probed && Instant::now() >= open.until {
            return Ok(());
        }
        let Self { faults, last_fault, .. } = self;
        let reason = format!(
            "its circuit breaker is open after {faults} faults in a row, the last: {last_fault}"
        );
        Err(UpstreamError::Unreachable { host: host.to_owned(), reason })
    }

    /// Counts a fault. Returns whether it opens the breaker.
    fn count(&mut self, host: &str, now: Instant) -> bool {
        if now.duration_since(self.first) > ROW_MAX {
            (self.faults, self.first) = (0, now);
        }
        self.faults += 1;
        if self.faults >= FAULTS_MAX {
            let fault = &self.last_fault;
            let wait_seconds = WAIT.as_secs_f64();
            tracing::warn!(host, wait_seconds, fault, "circuit breaker opened");
            let until = now + WAIT;
            self.open = Some(OpenCircuit { since: now, until, wait: WAIT, is_probed: false });
        }
        self.open.is_some()
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CircuitBreaker").field(&self.circuits).finish()
    }
}

/// Leave to send one request, to be given back with what came of it. Dropped, it says nothing,
/// unless its sender had waited for long.
#[derive(Debug)]
pub(super) struct BreakerPermit<'b> {
    breaker: &'b CircuitBreaker,
    host: String,
    scheme: UrlScheme,
    began: Instant,
    is_probe: bool,
    is_settled: bool,
}

impl BreakerPermit<'_> {
    /// The host answered, with whatever status.
    pub(super) fn answered(mut self) {
        self.is_settled = true;
        let circuit = self.breaker.circuits().remove(&self.host);
        if let Some(open) = circuit.and_then(|circuit| circuit.open) {
            let open_seconds = open.since.elapsed().as_secs_f64();
            tracing::info!(host = self.host, open_seconds, "circuit breaker closed");
        }
    }

    /// The host did not answer, or what answered cannot reach it.
    pub(super) fn failed(mut self, fault: &str) {
        self.is_settled = true;
        self.breaker.note(&self, fault);
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let waited = self.began.elapsed();
        if waited >= PATIENCE {
            let fault = format!("it sent nothing for {} s", waited.as_secs());
            self.breaker.note(self, &fault);
        } else if self.is_probe
            && let Some(circuit) = self.breaker.circuits().get_mut(&self.host)
            && let Some(open) = &mut circuit.open
        {
            open.is_probed = false;
        }
    }
}

/// Storage hosts are named by redirects, so there could be any number of them.
fn make_room(circuits: &mut HashMap<String, HostCircuit>) {
    if circuits.len() >= HOSTS_MAX {
        circuits.retain(|_, circuit| circuit.open.is_some());
    }
    if circuits.len() >= HOSTS_MAX {
        circuits.clear();
    }
}

/// As many faults in a row open it. One question of one client brings three.
const FAULTS_MAX: u32 = 5;

/// In a row means: none further from the first than this. A black hole takes 5 to 15 s for each.
const ROW_MAX: Duration = Duration::from_secs(120);

/// For how long it is open at first; twice as long after each probe that fails.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// The longest that it is open between two probes.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// A request that was given up after less than this tells nothing about the host.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most hosts that are kept.
const HOSTS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "up.test";

    fn enter(breaker: &CircuitBreaker) -> Result<BreakerPermit<'_>, UpstreamError> {
        breaker.enter(HOST, UrlScheme::Https)
    }

    fn fail(breaker: &CircuitBreaker, times: u32) {
        for _ in 0..times {
            enter(breaker).unwrap().failed("connection refused");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn five_faults_in_a_row_open_it_for_that_host_and_say_why() {
        let breaker = CircuitBreaker::default();
        fail(&breaker, FAULTS_MAX - 1);
        enter(&breaker).unwrap().answered();
        fail(&breaker, FAULTS_MAX - 1);
        assert!(!breaker.is_open(HOST));
        fail(&breaker, 1);

        assert!(breaker.is_open(HOST) && !breaker.is_open("other.test"));
        let Err(UpstreamError::Unreachable { host, reason }) = enter(&breaker) else { panic!() };
        assert_eq!(host, HOST);
        assert!(reason.contains("breaker is open") && reason.ends_with("connection refused"));
    }

    #[tokio::test(start_paused = true)]
    async fn faults_that_lie_far_apart_are_not_in_a_row() {
        let breaker = CircuitBreaker::default();
        for _ in 0..20 {
            fail(&breaker, 1);
            tokio::time::advance(ROW_MAX / 2).await;
        }
        assert!(!breaker.is_open(HOST));
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_after_five_seconds_and_ever_later_ones() {
        let breaker = CircuitBreaker::default();
        fail(&breaker, FAULTS_MAX);
        for wait in [5, 10, 20, 40, 60, 60] {
            tokio::time::advance(Duration::from_secs(wait - 1)).await;
            assert!(breaker.is_open(HOST), "{wait}");
            tokio::time::advance(Duration::from_secs(1)).await;
            let probe = enter(&breaker).unwrap();
            assert!(breaker.is_open(HOST) && enter(&breaker).is_err(), "{wait}");
            let fault = "connection refused".to_owned();
            assert_eq!(breaker.open_hosts(), [(HOST.to_owned(), fault)], "{wait}");
            probe.failed("connection refused");
        }
        tokio::time::advance(WAIT_MAX).await;
        enter(&breaker).unwrap().answered();
        fail(&breaker, FAULTS_MAX - 1);
        assert!(!breaker.is_open(HOST) && breaker.open_hosts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_leaves_room_for_another_and_patience_counts() {
        let breaker = CircuitBreaker::default();
        fail(&breaker, FAULTS_MAX);
        tokio::time::advance(WAIT).await;
        drop(enter(&breaker).unwrap());
        let probe = enter(&breaker).expect("the first probe has told nothing");
        tokio::time::advance(PATIENCE).await;
        drop(probe);
        tokio::time::advance(WAIT).await;
        assert!(breaker.is_open(HOST), "a probe that waited in vain has failed");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_neither_extends_it_nor_is_held_up() {
        let breaker = CircuitBreaker::default();
        let late: Vec<_> = (0..20).map(|_| enter(&breaker).unwrap()).collect();
        fail(&breaker, FAULTS_MAX);
        tokio::time::advance(WAIT).await;
        for pass in late {
            pass.failed("too late");
        }
        assert!(!breaker.is_open(HOST));
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_redirects_name_do_not_pile_up() {
        let breaker = CircuitBreaker::default();
        for number in 0..HOSTS_MAX * 2 {
            breaker.enter(&format!("{number}.test"), UrlScheme::Https).unwrap().failed("x");
        }
        assert!(breaker.circuits().len() <= HOSTS_MAX);
    }
}
