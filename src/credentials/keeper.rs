//! The credential of one upstream from its source: fetched once for all who wait, before it ends,
//! and again when the upstream refuses it.
//!
//! A source that fails is asked again after a pause that grows, and what it gave before is used as
//! long as it lives. Credentials stay in memory, and nowhere else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::error::CredentialError;
use super::fetch_cache::{FetchCache, FetchNeed, Perishable};
use super::issued::IssuedCredential;
use super::source::CredentialSource;

/// How long a source may take. A request upstream that waits for it has 25 s in all.
const FETCH_WAIT: Duration = Duration::from_secs(20);

/// How young a credential may be refused without being replaced: a repository that is refused for
/// good must not have the source asked with each request.
const REPLACED_AFTER: Duration = Duration::from_secs(60);

/// The first pause after a failure. It doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// The most keys of which failures and earlier credentials are remembered.
const HISTORIES_MAX: usize = 1_000;

/// Gets the credential of one upstream, and keeps it.
pub struct CredentialKeeper {
    source: Arc<dyn CredentialSource>,
    issued: FetchCache<IssuedCredential, CredentialError>,
    histories: Mutex<HashMap<String, FetchHistory>>,
}

/// The outcomes of the fetches for one key.
#[derive(Default)]
struct FetchHistory {
    last_good: Option<IssuedCredential>,
    failures: u32,
    last_failure: Option<(Instant, CredentialError)>,
}

/// A credential, and where it is kept.
pub struct HeldCredential {
    key: String,
    /// The credential.
    pub credential: IssuedCredential,
}

/// How things stand with a credential, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialState {
    /// When the credential at hand ends.
    pub ends: Option<SystemTime>,
    /// The identity behind it, as far as its source says that.
    pub owner: Option<String>,
    /// Why the last fetch failed, if it did.
    pub failure: Option<String>,
}

impl CredentialKeeper {
    /// A keeper of what `source` gives.
    pub(super) fn new(source: Arc<dyn CredentialSource>) -> Self {
        Self { source, issued: FetchCache::default(), histories: Mutex::default() }
    }

    /// The credential for `repository`, named as the upstream names it, or for no repository.
    ///
    /// # Errors
    ///
    /// If the source gives none, and what it gave before has ended.
    pub async fn obtain(
        &self,
        repository: Option<&str>,
    ) -> Result<HeldCredential, CredentialError> {
        let key = self.source.key(repository);
        let outcome = match self.recent_failure(&key) {
            Some(error) => Err(error),
            None => self.fetch(&key, repository).await,
        };
        let credential = outcome.or_else(|error| self.still_good(&key).ok_or(error))?;
        Ok(HeldCredential { key, credential })
    }

    /// Forgets a credential that the upstream refused. Returns whether another one may be asked
    /// for: one that was just issued is no better the second time.
    pub fn replace(&self, held: &HeldCredential) -> bool {
        if held.credential.age() < REPLACED_AFTER {
            return false;
        }
        if let Some(history) = self.histories.lock().get_mut(&held.key) {
            history.last_good.take_if(|good| good.is_same(&held.credential));
        }
        self.issued.discard(&held.key, &held.credential);
        true
    }

    /// How things stand: the soonest end of what is at hand, and the last failure.
    pub fn state(&self) -> CredentialState {
        let histories = self.histories.lock();
        let good = || histories.values().filter_map(|history| history.last_good.as_ref());
        let failures = histories.values().filter_map(|history| history.last_failure.as_ref());
        CredentialState {
            ends: good().filter_map(IssuedCredential::stated_end).min(),
            owner: good().find_map(|good| good.owner().map(str::to_owned)),
            failure: failures.max_by_key(|(at, _)| *at).map(|(_, error)| error.to_string()),
        }
    }

    async fn fetch(
        &self,
        key: &str,
        repository: Option<&str>,
    ) -> Result<IssuedCredential, CredentialError> {
        let fetch = || {
            let fetch = Arc::clone(&self.source).fetch(repository.map(str::to_owned));
            async {
                timeout(FETCH_WAIT, fetch).await.unwrap_or_else(|_| {
                    let seconds = FETCH_WAIT.as_secs();
                    Err(CredentialError::new(format!("nothing came for {seconds} s")))
                })
            }
        };
        let fetched = match self.issued.obtain(key, FetchNeed::default(), fetch).await {
            Some(fetched) => fetched,
            None => Err(CredentialError::new("the task that fetched it was lost")),
        };
        match fetched {
            Ok((credential, is_fresh)) => {
                if is_fresh {
                    self.note_good(key, &credential);
                }
                Ok(credential)
            }
            Err(error) => {
                self.note_failed(key, &error);
                Err(error)
            }
        }
    }

    /// The failure because of which the source is not asked now.
    fn recent_failure(&self, key: &str) -> Option<CredentialError> {
        let histories = self.histories.lock();
        let history = histories.get(key)?;
        let (at, error) = history.last_failure.as_ref()?;
        let doubled = PAUSE_MIN.saturating_mul(1 << history.failures.min(16).saturating_sub(1));
        (at.elapsed() < doubled.min(PAUSE_MAX)).then(|| error.clone())
    }

    /// The credential of before, if it has not ended.
    fn still_good(&self, key: &str) -> Option<IssuedCredential> {
        let histories = self.histories.lock();
        let good = histories.get(key)?.last_good.as_ref()?;
        (Instant::now() < good.ends()).then(|| good.clone())
    }

    fn note_good(&self, key: &str, credential: &IssuedCredential) {
        let mut histories = self.histories.lock();
        let good = FetchHistory { last_good: Some(credential.clone()), ..FetchHistory::default() };
        histories.insert(key.to_owned(), good);
        keep_few(&mut histories, key);
    }

    fn note_failed(&self, key: &str, error: &CredentialError) {
        let mut histories = self.histories.lock();
        let history = histories.entry(key.to_owned()).or_default();
        // All that waited for one fetch come here.
        let is_told = history.last_failure.as_ref().is_some_and(|(_, known)| known.is_same(error));
        if !is_told {
            history.failures += 1;
            history.last_failure = Some((Instant::now(), error.clone()));
            tracing::warn!(%error, source = self.source.kind(), "cannot get a credential");
        }
        keep_few(&mut histories, key);
    }
}

/// Keeps the histories few. All others go at once: they are learned again.
fn keep_few(histories: &mut HashMap<String, FetchHistory>, kept: &str) {
    if histories.len() > HISTORIES_MAX {
        histories.retain(|key, _| key == kept);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;
    use crate::credentials::issued::IssuedSecret;
    use crate::credentials::source::PendingCredential;

    /// Gives a password with the number of the fetch, after a second, or fails.
    #[derive(Default)]
    struct FakeSource {
        fetches: AtomicUsize,
        life: Duration,
        fails_from: Option<usize>,
    }

    impl CredentialSource for FakeSource {
        fn kind(&self) -> &'static str {
            "fake"
        }

        fn fetch(self: Arc<Self>, _repository: Option<String>) -> PendingCredential {
            Box::pin(async move {
                let number = self.fetches.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(Duration::from_secs(1)).await;
                if self.fails_from.is_some_and(|first| number >= first) {
                    return Err(CredentialError::new("no answer"));
                }
                let (username, password) = (number.to_string(), "pw".into());
                let secret = IssuedSecret::Password { username, password };
                Ok(IssuedCredential::new(secret, self.life))
            })
        }
    }

    fn keeper(
        life_secs: u64,
        fails_from: Option<usize>,
    ) -> (Arc<CredentialKeeper>, Arc<FakeSource>) {
        let life = Duration::from_secs(life_secs);
        let source = Arc::new(FakeSource { life, fails_from, ..FakeSource::default() });
        let keeper = CredentialKeeper::new(Arc::clone(&source) as Arc<dyn CredentialSource>);
        (Arc::new(keeper), source)
    }

    /// The number of the credential at hand.
    async fn number(keeper: &CredentialKeeper) -> Result<String, CredentialError> {
        let held = keeper.obtain(None).await?;
        match held.credential.secret() {
            IssuedSecret::Password { username, .. } => Ok(username.clone()),
            _ => panic!("the fake gives passwords"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_askers_share_one_fetch_and_one_refresh_before_the_end() {
        let (keeper, source) = keeper(1_000, None);
        for round in 1..=2 {
            let askers: Vec<_> = (0..100)
                .map(|_| {
                    let keeper = Arc::clone(&keeper);
                    tokio::spawn(async move { number(&keeper).await.unwrap() })
                })
                .collect();
            for asker in askers {
                assert_eq!(asker.await.unwrap(), round.to_string());
            }
            assert_eq!(source.fetches.load(Ordering::SeqCst), round);
            advance(Duration::from_secs(801)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_before_is_used_while_its_source_fails_and_not_after_its_end() {
        let (keeper, source) = keeper(1_000, Some(2));
        assert_eq!(number(&keeper).await.unwrap(), "1");
        advance(Duration::from_secs(801)).await;
        assert_eq!(number(&keeper).await.unwrap(), "1", "it lives on");
        assert_eq!(keeper.state().failure.as_deref(), Some("no answer"));
        advance(Duration::from_secs(199)).await;
        assert!(number(&keeper).await.is_err(), "it has ended");
        assert!(source.fetches.load(Ordering::SeqCst) >= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_is_asked_after_pauses_that_grow() {
        let (keeper, source) = keeper(1_000, Some(1));
        let mut at = Vec::new();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3_600) {
            let before = source.fetches.load(Ordering::SeqCst);
            assert!(number(&keeper).await.is_err());
            if source.fetches.load(Ordering::SeqCst) > before {
                at.push(start.elapsed().as_secs());
            }
            advance(Duration::from_millis(500)).await;
        }
        assert!(at.len() < 24, "{at:?}");
        let pauses: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses[0] <= 3 && pauses.last().is_some_and(|last| *last >= 300), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_credential_is_replaced_unless_it_was_just_issued() {
        let (keeper, source) = keeper(100_000, None);
        let first = keeper.obtain(None).await.unwrap();
        assert!(!keeper.replace(&first), "it is a second old");
        assert_eq!(number(&keeper).await.unwrap(), "1");
        advance(Duration::from_secs(61)).await;
        assert!(keeper.replace(&first));
        assert_eq!(number(&keeper).await.unwrap(), "2");
        assert!(keeper.replace(&first), "the caller may ask again");
        assert_eq!(number(&keeper).await.unwrap(), "2", "its successor stays");
        assert_eq!(source.fetches.load(Ordering::SeqCst), 2);
    }

    /// Clocks differ, and test servers give any date: an end that has passed is not believed.
    #[tokio::test(start_paused = true)]
    async fn a_credential_that_has_ended_when_it_comes_is_used_for_a_minute() {
        let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_400_000_000);
        let issued = IssuedCredential::until(IssuedSecret::Nothing, past, past + PAUSE_MAX);
        assert_eq!(issued.usable_until().duration_since(Instant::now()), Duration::from_secs(60));
        assert_eq!(issued.stated_end(), Some(past));
    }
}
