//! Things that a server issues for a while: one fetch per key for all that wait, and a new one
//! before the old ends.
//!
//! A fetch runs in a task of its own. The first request need not stay: if it is dropped, the others
//! get the outcome all the same. How a value is fetched is not known here.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::traces::{current_scope, within};

/// The most values that are kept. Tokens have about 3 KiB each: 30 MiB.
const VALUES_MAX: usize = 10_000;

/// A value that is good for some time. Clones are the same.
pub trait Perishable: Clone + Send + Sync + 'static {
    /// Until when it is handed out; a new one is fetched after that.
    fn usable_until(&self) -> Instant;

    /// When it ends.
    fn ends(&self) -> Instant;

    /// Whether both are clones of one.
    fn is_same(&self, other: &Self) -> bool;
}

/// The values at hand and the fetches under way, by what was asked for.
pub struct FetchCache<V, E> {
    slots: Mutex<HashMap<String, FetchSlot<V, E>>>,
}

/// The use of a value, which decides which will do.
#[derive(Clone, Copy, Debug, Default)]
pub struct FetchNeed {
    /// How long it has to be good for, unless its whole life is shorter.
    pub rest_min: Duration,
    /// Since when it has to have been asked for. A token may outlive the right that it was issued
    /// for by its whole life, and registries believe it until then.
    pub since: Option<Instant>,
}

#[derive(Clone)]
struct FetchSlot<V, E> {
    /// When its server was asked.
    begun: Instant,
    /// `None` while the fetch is under way.
    outcome: watch::Receiver<Option<Result<V, E>>>,
}

impl<V, E> Default for FetchCache<V, E> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<V: Perishable, E: Clone + Send + Sync + 'static> FetchCache<V, E> {
    /// A value for `key` that will do, and whether it was fetched after this was called, or by a
    /// fetch under way then. `None` if the task of the fetch was lost.
    pub async fn obtain<F>(
        &self,
        key: &str,
        need: FetchNeed,
        fetch: impl FnOnce() -> F,
    ) -> Option<Result<(V, bool), E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.obtain_in_turn(key, need, ready(Ok(())), |()| fetch()).await
    }

    /// Obtains a value, awaiting `turn` before a fetch begins. A caller that is dropped meanwhile
    /// begins none.
    pub async fn obtain_in_turn<T, F>(
        &self,
        key: &str,
        need: FetchNeed,
        turn: impl Future<Output = Result<T, E>>,
        fetch: impl FnOnce(T) -> F,
    ) -> Option<Result<(V, bool), E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (mut slot, is_fresh) = match self.usable_slot(key, need) {
            Some(slot) => slot,
            None => match turn.await {
                Ok(turn) => self.slot(key, need, || fetch(turn)),
                Err(error) => return Some(Err(error)),
            },
        };
        // The sender is lost only with the whole runtime, or when a fetch panics.
        let outcome = slot.outcome.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(outcome.map(|value| (value, is_fresh)))
    }

    /// The slot of a value that will do, and whether its fetch is under way.
    fn usable_slot(&self, key: &str, need: FetchNeed) -> Option<(FetchSlot<V, E>, bool)> {
        usable_slot(&self.slots.lock(), key, need)
    }

    fn slot<F>(
        &self,
        key: &str,
        need: FetchNeed,
        fetch: impl FnOnce() -> F,
    ) -> (FetchSlot<V, E>, bool)
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let mut slots = self.slots.lock();
        if let Some(slot) = usable_slot(&slots, key, need) {
            return slot;
        }
        make_room(&mut slots);
        let (done, outcome) = watch::channel(None);
        let slot = FetchSlot { begun: Instant::now(), outcome };
        slots.insert(key.to_owned(), slot.clone());
        let fetch = fetch();
        let fetch = async move { done.send_replace(Some(fetch.await)) };
        tokio::spawn(within(current_scope(), fetch));
        (slot, true)
    }

    /// Forgets `value`, unless another has taken its place already.
    pub fn discard(&self, key: &str, value: &V) {
        let mut slots = self.slots.lock();
        let is_same = slots.get(key).is_some_and(|slot| match &*slot.outcome.borrow() {
            Some(Ok(held)) => held.is_same(value),
            _ => false,
        });
        if is_same {
            slots.remove(key);
        }
    }
}

impl<V: Perishable, E> FetchSlot<V, E> {
    fn is_usable(&self, need: FetchNeed) -> bool {
        let now = Instant::now();
        if need.since.is_some_and(|since| self.begun < since) {
            return false;
        }
        match &*self.outcome.borrow() {
            // A lost sender is an error here.
            None => self.outcome.has_changed().is_ok(),
            Some(Ok(value)) => now < value.usable_until() && now + need.rest_min <= value.ends(),
            Some(Err(_)) => false,
        }
    }
}

fn usable_slot<V: Perishable, E: Clone>(
    slots: &HashMap<String, FetchSlot<V, E>>,
    key: &str,
    need: FetchNeed,
) -> Option<(FetchSlot<V, E>, bool)> {
    let slot = slots.get(key).filter(|slot| slot.is_usable(need))?;
    let is_under_way = slot.outcome.borrow().is_none();
    Some((slot.clone(), is_under_way))
}

/// Unusable values go first; if that is not enough, everything but the fetches in flight.
fn make_room<V: Perishable, E>(slots: &mut HashMap<String, FetchSlot<V, E>>) {
    if slots.len() >= VALUES_MAX {
        slots.retain(|_, slot| slot.is_usable(FetchNeed::default()));
    }
    if slots.len() >= VALUES_MAX {
        slots.retain(|_, slot| slot.outcome.borrow().is_none());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone)]
    struct Token(Arc<Instant>);

    impl Perishable for Token {
        fn usable_until(&self) -> Instant {
            *self.0
        }

        fn ends(&self) -> Instant {
            *self.0
        }

        fn is_same(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.0, &other.0)
        }
    }

    fn token(life_secs: u64) -> Token {
        Token(Arc::new(Instant::now() + Duration::from_secs(life_secs)))
    }

    type Tokens = FetchCache<Token, ()>;

    /// A right is confirmed with a token of now; one that was asked for before tells the past.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_asked_for_too_early_is_replaced() {
        let tokens = Tokens::default();
        let since_now = || FetchNeed { since: Some(Instant::now()), ..FetchNeed::default() };
        let is_fresh = async |need| {
            let obtained = tokens.obtain("k", need, async || Ok(token(300))).await;
            obtained.unwrap().unwrap().1
        };
        assert!(is_fresh(FetchNeed::default()).await);
        assert!(!is_fresh(since_now()).await, "of this very instant");
        tokio::time::advance(Duration::from_millis(1)).await;
        let need = since_now();
        assert!(is_fresh(need).await);
        assert!(!is_fresh(need).await);

        let slow = async || {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(token(300))
        };
        let (under_way, is_fresh) = tokens.slot("slow", FetchNeed::default(), slow);
        assert!(is_fresh);
        tokio::time::advance(Duration::from_millis(1)).await;
        let (other, _) = tokens.slot("slow", since_now(), slow);
        assert!(!under_way.outcome.same_channel(&other.outcome));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_bounded() {
        let tokens = Tokens::default();
        for i in 0..VALUES_MAX + 5 {
            let obtained =
                tokens.obtain(&i.to_string(), FetchNeed::default(), async || Ok(token(300))).await;
            assert!(obtained.unwrap().is_ok());
        }
        assert!(tokens.slots.lock().len() <= VALUES_MAX);
    }
}
