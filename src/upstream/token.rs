//! The tokens at hand: one fetch per scope for all that wait, and a new one before the old ends.
//!
//! A fetch runs in a task of its own. The first request need not stay: if it is dropped, the others
//! get the token all the same. How a token is fetched is not known here.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderValue;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::UpstreamError;
use super::identity::sensitive;

/// The most tokens that are kept. At about 3 KiB each, 30 MiB.
const TOKENS_MAX: usize = 10_000;

/// The least life that a token must have left to be used.
const REST_MIN: Duration = Duration::from_secs(10);

/// For how long a token that the registry refuses is not replaced. Its clock may be behind that of
/// the token server, or it may not know the server's key yet.
const NOT_YET_VALID_MAX: Duration = Duration::from_secs(30);

/// The tokens at hand and the fetches under way, by what was asked for.
#[derive(Default)]
pub(super) struct TokenCache {
    slots: Mutex<HashMap<String, TokenSlot>>,
}

/// The use of a token, which decides which will do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenNeed {
    /// How long it has to be good for, unless its whole life is shorter.
    pub(super) rest_min: Duration,
    /// Since when it has to have been asked for. A token may outlive the right that it was issued
    /// for by its whole life, and registries believe it until then.
    pub(super) since: Option<Instant>,
}

#[derive(Clone)]
struct TokenSlot {
    /// When its server was asked.
    begun: Instant,
    /// `None` while the fetch is under way.
    outcome: watch::Receiver<Option<Result<BearerToken, UpstreamError>>>,
}

/// A token that some server issued.
#[derive(Clone)]
pub(super) struct BearerToken(Arc<IssuedToken>);

struct IssuedToken {
    secret: SecretString,
    issued: Instant,
    usable_until: Instant,
    ends: Instant,
    /// Whether the registry has taken it.
    is_taken: AtomicBool,
}

impl BearerToken {
    /// A token received now, good for `life`.
    pub(super) fn new(secret: SecretString, life: Duration) -> Self {
        let rest = (life / 5).max(REST_MIN);
        let issued = Instant::now();
        Self(Arc::new(IssuedToken {
            secret,
            issued,
            usable_until: issued + life.saturating_sub(rest),
            ends: issued + life,
            is_taken: AtomicBool::new(false),
        }))
    }

    /// The registry took it.
    pub(super) fn note_taken(&self) {
        self.0.is_taken.store(true, Ordering::Relaxed);
    }

    /// Whether the registry has not taken it yet and still may: another one would be no better.
    pub(super) fn may_become_valid(&self) -> bool {
        !self.0.is_taken.load(Ordering::Relaxed) && self.0.issued.elapsed() < NOT_YET_VALID_MAX
    }

    /// The value of the `Authorization` header, marked sensitive.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        sensitive("Bearer", &self.0.secret)
    }
}

impl TokenCache {
    /// A token for `key` that will do, and whether it was fetched after this was called, or by a
    /// fetch under way then.
    pub(super) async fn obtain<F>(
        &self,
        key: &str,
        need: TokenNeed,
        fetch: impl FnOnce() -> F,
    ) -> Option<Result<(BearerToken, bool), UpstreamError>>
    where
        F: Future<Output = Result<BearerToken, UpstreamError>> + Send + 'static,
    {
        let (mut slot, is_fresh) = self.slot(key, need, fetch);
        // The sender is lost only with the whole runtime, or when a fetch panics.
        let outcome = slot.outcome.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(outcome.map(|token| (token, is_fresh)))
    }

    fn slot<F>(&self, key: &str, need: TokenNeed, fetch: impl FnOnce() -> F) -> (TokenSlot, bool)
    where
        F: Future<Output = Result<BearerToken, UpstreamError>> + Send + 'static,
    {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(key).filter(|slot| is_usable(slot, need)) {
            let is_under_way = slot.outcome.borrow().is_none();
            return (slot.clone(), is_under_way);
        }
        make_room(&mut slots);
        let (done, outcome) = watch::channel(None);
        let slot = TokenSlot { begun: Instant::now(), outcome };
        slots.insert(key.to_owned(), slot.clone());
        let fetch = fetch();
        tokio::spawn(async move { done.send_replace(Some(fetch.await)) });
        (slot, true)
    }

    /// Forgets `token`, unless another has taken its place already.
    pub(super) fn discard(&self, key: &str, token: &BearerToken) {
        let mut slots = self.slots.lock();
        let is_same = slots.get(key).is_some_and(|slot| match &*slot.outcome.borrow() {
            Some(Ok(held)) => Arc::ptr_eq(&held.0, &token.0),
            _ => false,
        });
        if is_same {
            slots.remove(key);
        }
    }
}

fn is_usable(slot: &TokenSlot, need: TokenNeed) -> bool {
    let now = Instant::now();
    if need.since.is_some_and(|since| slot.begun < since) {
        return false;
    }
    match &*slot.outcome.borrow() {
        // A lost sender is an error here.
        None => slot.outcome.has_changed().is_ok(),
        Some(Ok(token)) => now < token.0.usable_until && now + need.rest_min <= token.0.ends,
        Some(Err(_)) => false,
    }
}

/// Unusable tokens go first; if that is not enough, everything but the fetches in flight.
fn make_room(slots: &mut HashMap<String, TokenSlot>) {
    if slots.len() >= TOKENS_MAX {
        slots.retain(|_, slot| is_usable(slot, TokenNeed::default()));
    }
    if slots.len() >= TOKENS_MAX {
        slots.retain(|_, slot| slot.outcome.borrow().is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(life_secs: u64) -> BearerToken {
        BearerToken::new(SecretString::from("t"), Duration::from_secs(life_secs))
    }

    async fn is_fresh(tokens: &TokenCache, life_secs: u64) -> bool {
        let obtained =
            tokens.obtain("k", TokenNeed::default(), async move || Ok(token(life_secs))).await;
        obtained.unwrap().unwrap().1
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_replaced_when_a_fifth_of_its_life_is_left() {
        let tokens = TokenCache::default();
        assert!(is_fresh(&tokens, 300).await);
        tokio::time::advance(Duration::from_secs(239)).await;
        assert!(!is_fresh(&tokens, 300).await);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(is_fresh(&tokens, 300).await);
    }

    /// An upload cannot be sent again when its token ends in the middle of it.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_ends_too_soon_for_its_use_is_replaced() {
        let tokens = TokenCache::default();
        let minute = Duration::from_secs(60);
        let is_fresh = async |life_secs, rest_min| {
            let need = TokenNeed { rest_min, since: None };
            let obtained = tokens.obtain("k", need, async move || Ok(token(life_secs))).await;
            obtained.unwrap().unwrap().1
        };
        assert!(is_fresh(200, minute).await);
        tokio::time::advance(Duration::from_secs(141)).await;
        assert!(!is_fresh(200, Duration::ZERO).await);
        assert!(is_fresh(60, minute).await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_fresh(60, minute).await, "one of a minute is good for one request");
    }

    /// A right is confirmed with a token of now; one that was asked for before tells the past.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_asked_for_too_early_is_replaced() {
        let tokens = TokenCache::default();
        let since_now = || TokenNeed { since: Some(Instant::now()), ..TokenNeed::default() };
        let is_fresh = async |need| {
            let obtained = tokens.obtain("k", need, async || Ok(token(300))).await;
            obtained.unwrap().unwrap().1
        };
        assert!(is_fresh(TokenNeed::default()).await);
        assert!(!is_fresh(since_now()).await, "of this very instant");
        tokio::time::advance(Duration::from_millis(1)).await;
        let need = since_now();
        assert!(is_fresh(need).await);
        assert!(!is_fresh(need).await);

        let slow = async || {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(token(300))
        };
        let (under_way, is_fresh) = tokens.slot("slow", TokenNeed::default(), slow);
        assert!(is_fresh);
        tokio::time::advance(Duration::from_millis(1)).await;
        let (other, _) = tokens.slot("slow", since_now(), slow);
        assert!(!under_way.outcome.same_channel(&other.outcome));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_leader_strands_nobody() {
        let tokens = Arc::new(TokenCache::default());
        let slow = async || {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(token(300))
        };
        let leader = tokio::spawn({
            let tokens = Arc::clone(&tokens);
            async move { tokens.obtain("k", TokenNeed::default(), slow).await.is_some() }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        leader.abort();

        let follower = tokens
            .obtain("k", TokenNeed::default(), async || panic!("a fetch is under way already"))
            .await;

        assert!(follower.unwrap().unwrap().1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_or_broken_fetch_is_not_kept() {
        let tokens = TokenCache::default();
        let error = UpstreamError::NotFound { host: String::new(), said: None, is_proven: false };
        let failed = tokens.obtain("k", TokenNeed::default(), async move || Err(error)).await;
        assert!(failed.unwrap().is_err());
        let broken = tokens.obtain("k", TokenNeed::default(), async || panic!("on purpose")).await;
        assert!(broken.is_none());
        assert!(is_fresh(&tokens, 300).await);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_token_that_failed_is_discarded() {
        let tokens = TokenCache::default();
        assert!(is_fresh(&tokens, 300).await);
        tokens.discard("k", &token(300));
        assert!(!is_fresh(&tokens, 300).await);
        let held = tokens
            .obtain("k", TokenNeed::default(), async || Ok(token(300)))
            .await
            .unwrap()
            .unwrap()
            .0;
        tokens.discard("k", &held);
        assert!(is_fresh(&tokens, 300).await);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_bounded() {
        let tokens = TokenCache::default();
        for i in 0..TOKENS_MAX + 5 {
            let obtained =
                tokens.obtain(&i.to_string(), TokenNeed::default(), async || Ok(token(300))).await;
            assert!(obtained.unwrap().is_ok());
        }
        assert!(tokens.slots.lock().len() <= TOKENS_MAX);
    }
}
