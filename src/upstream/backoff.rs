//! How long an upstream that limits us is left alone.
//!
//! Kept for each host that answered, each class of request and each identity, since registries
//! count them apart: a limit on manifests is no limit on blobs, and one client's limit is not
//! another's. It belongs to one upstream; where Larder asks for itself, that is one identity.
//!
//! After a refusal nothing of the class is sent until the time that the host named, or one that
//! grows by itself. Then one request, the probe, finds out whether the limit is over; requests that
//! come meanwhile are refused here. Requests that were in flight when the limit set in do not make
//! it longer.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use tokio::time::Instant;

use super::error::UpstreamError;
use super::identity::CredentialId;
use super::limit::WAIT_MIN;

/// A kind of request that registries count apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LimitClass {
    /// A blob, or whether it exists.
    Blob,
    /// Tags and referrers.
    List,
    /// A manifest. Docker Hub counts these as pulls.
    ManifestGet,
    /// Whether there is a manifest, and which.
    ManifestHead,
    /// Uploads, manifests put, and what is deleted.
    Push,
    /// The login: a token, or `/v2/` itself.
    Token,
}

impl LimitClass {
    /// All of them, in the order of [`LimitClass::index`].
    pub(super) const ALL: [Self; 6] =
        [Self::Blob, Self::List, Self::ManifestGet, Self::ManifestHead, Self::Push, Self::Token];

    /// Its place among them.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::List => "list",
            Self::ManifestGet => "manifest-get",
            Self::ManifestHead => "manifest-head",
            Self::Push => "push",
            Self::Token => "token",
        }
    }

    /// The word in traces for the thing that it is about.
    pub(super) fn object(self) -> &'static str {
        match self {
            Self::ManifestGet | Self::ManifestHead => "manifest",
            other => other.as_str(),
        }
    }
}

/// The limits that an upstream and its token server have set to one login, or the storage to all.
#[derive(Debug, Default)]
pub(super) struct BackoffTable {
    windows: Mutex<HashMap<BackoffKey, BackoffWindow>>,
    is_of_storage: bool,
}

type BackoffKey = (String, LimitClass, Option<CredentialId>);

/// A time in which nothing is sent.
#[derive(Debug)]
struct BackoffWindow {
    until: Instant,
    /// How often in a row the host has refused, which is what the wait grows by.
    refusals: u32,
    /// Whether the request that finds out is under way.
    is_probed: bool,
}

impl BackoffTable {
    /// The table of storage.
    pub(super) fn of_storage() -> Self {
        Self { is_of_storage: true, ..Self::default() }
    }

    /// Whether a request of this class would be sent now.
    pub(super) fn check(
        &self,
        host: &str,
        class: LimitClass,
        who: Option<CredentialId>,
    ) -> Result<(), UpstreamError> {
        match self.windows().get(&(host.to_owned(), class, who)) {
            Some(window) if !window.is_over() => Err(self.error(host, window)),
            _ => Ok(()),
        }
    }

    /// Leave to send one request of this class.
    pub(super) fn enter(
        &self,
        host: &str,
        class: LimitClass,
        who: Option<CredentialId>,
    ) -> Result<BackoffPermit<'_>, UpstreamError> {
        let key = (host.to_owned(), class, who);
        let mut windows = self.windows();
        let is_probe = match windows.get_mut(&key) {
            Some(window) if !window.is_over() => return Err(self.error(host, window)),
            Some(window) => {
                window.is_probed = true;
                true
            }
            None => false,
        };
        drop(windows);
        Ok(BackoffPermit { backoff: self, key, is_probe })
    }

    /// How many limits hold now.
    pub(super) fn held(&self) -> usize {
        self.windows().values().filter(|window| !window.is_over()).count()
    }

    fn error(&self, host: &str, window: &BackoffWindow) -> UpstreamError {
        let rest = window.until.saturating_duration_since(Instant::now());
        let (host, wait) = (host.to_owned(), Some(rest.max(WAIT_MIN)));
        UpstreamError::Throttled { host, wait, by_storage: self.is_of_storage }
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<BackoffKey, BackoffWindow>> {
        self.windows.lock()
    }
}

impl BackoffWindow {
    /// Whether it is time for a probe.
    fn is_over(&self) -> bool {
        !self.is_probed && Instant::now() >= self.until
    }
}

/// Leave to send one request, to be given back with what came of it. Dropped, it says nothing.
#[derive(Debug)]
pub(super) struct BackoffPermit<'b> {
    backoff: &'b BackoffTable,
    key: BackoffKey,
    is_probe: bool,
}

impl BackoffPermit<'_> {
    /// The answer was none that limits us.
    pub(super) fn answered(mut self) {
        if std::mem::take(&mut self.is_probe) {
            self.backoff.windows().remove(&self.key);
        }
    }

    /// The answer limits us; `wished` is the wait that it names. Returns the wait that is kept.
    pub(super) fn refused(mut self, wished: Option<Duration>) -> Duration {
        let is_probe = std::mem::take(&mut self.is_probe);
        let now = Instant::now();
        let mut windows = self.backoff.windows();
        make_room(&mut windows);
        match windows.entry(self.key.clone()) {
            Entry::Occupied(entry) if is_probe => {
                let window = entry.into_mut();
                window.refusals = window.refusals.saturating_add(1);
                let wait = wished.unwrap_or_else(|| growing(window.refusals));
                (window.until, window.is_probed) = (now + wait, false);
                wait
            }
            Entry::Occupied(entry) => {
                let window = entry.into_mut();
                window.until = window.until.max(now + wished.unwrap_or_default());
                window.until.saturating_duration_since(now).max(WAIT_MIN)
            }
            Entry::Vacant(entry) => {
                let wait = wished.unwrap_or_else(|| growing(1));
                let (host, class, _) = entry.key();
                let wait_seconds = wait.as_secs_f64();
                tracing::info!(
                    host,
                    class = class.as_str(),
                    wait_seconds,
                    "rate limited by the upstream; backing off"
                );
                entry.insert(BackoffWindow { until: now + wait, refusals: 1, is_probed: false });
                wait
            }
        }
    }
}

impl Drop for BackoffPermit<'_> {
    fn drop(&mut self) {
        if self.is_probe
            && let Some(window) = self.backoff.windows().get_mut(&self.key)
        {
            window.is_probed = false;
        }
    }
}

/// The wait after so many refusals that named none, less up to half of it at random, so that many
/// proxies do not return together.
fn growing(refusals: u32) -> Duration {
    let doubled = WAIT_MIN.saturating_mul(1 << refusals.saturating_sub(1).min(16));
    doubled.min(GROWN_MAX).mul_f64(0.5 + fastrand::f64() / 2.0).max(WAIT_MIN)
}

/// Storage hosts are named by redirects, so there could be any number of them.
fn make_room(windows: &mut HashMap<BackoffKey, BackoffWindow>) {
    if windows.len() >= WINDOWS_MAX {
        windows.retain(|_, window| !window.is_over());
    }
    if windows.len() >= WINDOWS_MAX {
        windows.clear();
    }
}

/// The longest wait where none was named.
const GROWN_MAX: Duration = Duration::from_secs(60);

/// The most limits that are kept; there are six classes for each host and client.
const WINDOWS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "up.test";
    const CLASS: LimitClass = LimitClass::ManifestGet;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn is_refused(backoff: &BackoffTable, class: LimitClass) -> bool {
        matches!(backoff.check(HOST, class, None), Err(UpstreamError::Throttled { .. }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_holds_for_its_class_and_host_until_its_time() {
        let backoff = BackoffTable::default();
        assert_eq!(backoff.enter(HOST, CLASS, None).unwrap().refused(Some(secs(30))), secs(30));

        tokio::time::advance(secs(29)).await;
        assert!(is_refused(&backoff, CLASS));
        assert!(
            backoff.enter(HOST, LimitClass::Blob, None).is_ok()
                && backoff.enter("b.test", CLASS, None).is_ok()
        );
        tokio::time::advance(secs(1)).await;
        assert!(!is_refused(&backoff, CLASS));
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_the_end_and_its_answer_decides_for_all() {
        let backoff = BackoffTable::default();
        backoff.enter(HOST, CLASS, None).unwrap().refused(Some(secs(1)));
        tokio::time::advance(secs(1)).await;

        let probe = backoff.enter(HOST, CLASS, None).unwrap();
        assert!(is_refused(&backoff, CLASS));
        drop(probe);
        let probe =
            backoff.enter(HOST, CLASS, None).expect("a probe that was dropped says nothing");
        probe.refused(Some(secs(9)));
        tokio::time::advance(secs(8)).await;
        assert!(is_refused(&backoff, CLASS));
        tokio::time::advance(secs(1)).await;
        backoff.enter(HOST, CLASS, None).unwrap().answered();
        assert!(backoff.windows().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_makes_a_limit_no_longer_than_it_says_itself() {
        let backoff = BackoffTable::default();
        let turns: Vec<_> = (0..50).map(|_| backoff.enter(HOST, CLASS, None).unwrap()).collect();
        for turn in turns {
            assert_eq!(turn.refused(None), WAIT_MIN);
        }
        let (early, late) = (
            backoff.enter(HOST, LimitClass::Blob, None),
            backoff.enter(HOST, LimitClass::Blob, None),
        );
        late.unwrap().refused(Some(secs(5)));
        assert_eq!(early.unwrap().refused(Some(secs(7))), secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_the_host_does_not_name_grow_to_a_minute() {
        let backoff = BackoffTable::default();
        for bound in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let wait = backoff.enter(HOST, CLASS, None).unwrap().refused(None);
            assert!(wait >= secs(bound).div_f64(2.0) && wait <= secs(bound), "{wait:?}/{bound}");
            tokio::time::advance(wait).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_redirects_name_do_not_pile_up() {
        let backoff = BackoffTable::default();
        for number in 0..WINDOWS_MAX * 2 {
            backoff.enter(&format!("{number}.test"), CLASS, None).unwrap().refused(None);
        }
        assert!(backoff.windows().len() <= WINDOWS_MAX);
    }
}
