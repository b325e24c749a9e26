//! One question at a time per key, however many clients want the answer.
//!
//! The first request starts a task, detached from itself; all, the first included, wait for the
//! task's answer. No client's leaving stops it. The answer is handed out and forgotten: whether it
//! is worth keeping is decided by the task.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tokio::sync::watch;

use super::CacheError;
use super::key::RecordKey;
use super::tasks::DetachedTasks;
use crate::access::Grant;

/// The questions under way, by key.
#[derive(Debug)]
pub(super) struct FlightTable<K, V> {
    under_way: Arc<Mutex<FlightMap<K, V>>>,
    tasks: DetachedTasks,
}

type FlightMap<K, V> = HashMap<K, watch::Receiver<Option<Result<V, CacheError>>>>;

impl<K, V> FlightTable<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// No questions; their tasks will be counted by `tasks`.
    pub(super) fn new(tasks: DetachedTasks) -> Self {
        Self { under_way: Arc::default(), tasks }
    }

    /// Joins the question in flight of the key, or starts it by `ask`.
    ///
    /// Returns whether it was in flight, and where its answer will be.
    pub(super) fn join<F>(&self, key: K, ask: impl FnOnce() -> F) -> (bool, PendingAnswer<V>)
    where
        F: Future<Output = Result<V, CacheError>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        let (joined, answer) = match under_way.entry(key) {
            Entry::Occupied(entry) => (true, entry.get().clone()),
            Entry::Vacant(entry) => {
                let (landing, answer) = watch::channel(None);
                let lead = FlightGuard {
                    key: entry.key().clone(),
                    under_way: Arc::clone(&self.under_way),
                };
                entry.insert(answer.clone());
                let question = ask();
                self.tasks.spawn(async move {
                    let result = question.await;
                    // The key goes first: a request after this gets a new answer.
                    drop(lead);
                    landing.send_replace(Some(result));
                });
                (false, answer)
            }
        };
        (joined, PendingAnswer { answer })
    }
}

/// Frees the key when the task ends, also when it panics.
struct FlightGuard<K: Eq + Hash, V> {
    key: K,
    under_way: Arc<Mutex<FlightMap<K, V>>>,
}

impl<K: Eq + Hash, V> Drop for FlightGuard<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

/// How far a question is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// By all clients that ask the same.
    Everyone,
    /// By clients that ask with the same credential.
    SameCredential,
}

impl Sharing {
    /// The key of a question whose key is this one where everyone shares it.
    pub(super) fn key(self, key: RecordKey, grant: &Grant) -> RecordKey {
        match self {
            Self::Everyone => key,
            Self::SameCredential => key.asked_with(grant.client()),
        }
    }
}

/// Asks a question, or joins one in flight, and returns whether it was joined, and the answer. An
/// answer about another client's own credential is none; then the question is asked anew.
pub(super) async fn ask_shared<V: Clone>(
    grant: &Grant,
    ask: impl Fn(Sharing) -> (bool, PendingAnswer<V>),
) -> (bool, Result<V, CacheError>) {
    let (joined, answer) = ask(Sharing::Everyone);
    match answer.landed().await {
        Err(error) if joined && error.is_of_another_client(grant) => {
            let (joined, answer) = ask(Sharing::SameCredential);
            (joined, answer.landed().await)
        }
        answer => (joined, answer),
    }
}

/// The answer to come.
#[derive(Debug)]
pub(super) struct PendingAnswer<V> {
    answer: watch::Receiver<Option<Result<V, CacheError>>>,
}

impl<V: Clone> PendingAnswer<V> {
    /// Waits for it.
    pub(super) async fn landed(mut self) -> Result<V, CacheError> {
        match self.answer.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(LOST)),
            Err(_) => Err(LOST),
        }
    }
}

const LOST: CacheError = CacheError::Internal("the task that asked the upstream was lost");

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// A client that goes away takes nothing with it: the others still get the one answer.
    #[tokio::test(start_paused = true)]
    async fn all_requests_get_one_answer_whichever_client_leaves() {
        let flights = FlightTable::<&str, usize>::new(DetachedTasks::default());
        let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let join = || {
            let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
            flights.join("key", move || async move {
                gate.notified().await;
                Ok(asked.fetch_add(1, Ordering::Relaxed) + 1)
            })
        };
        let (first_joined, first) = join();
        let (second_joined, second) = join();
        assert!(!first_joined && second_joined);

        drop(first);
        gate.notify_one();
        assert_eq!(second.landed().await.unwrap(), 1);

        gate.notify_one();
        assert_eq!(
            join().1.landed().await.unwrap(),
            2,
            "an answer that was given is not given again"
        );
    }

    #[tokio::test]
    async fn a_task_that_panics_frees_its_key_and_its_followers() {
        let flights = FlightTable::<&str, usize>::new(DetachedTasks::default());
        let (_, lost) = flights.join("key", || async { panic!("on purpose") });
        assert!(matches!(lost.landed().await, Err(CacheError::Internal(_))));
        let (joined, answer) = flights.join("key", || async { Ok(1) });
        assert!(!joined);
        assert_eq!(answer.landed().await.unwrap(), 1);
    }
}
