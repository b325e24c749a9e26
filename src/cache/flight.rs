//! One question at a time per key, however many clients want the answer.
//!
//! The first request starts a task, detached from itself; all, the first included, wait for the
//! task's answer. No client's leaving stops it while another waits. Once none does, the question is
//! dropped, so that clients that leave at once cost no more than those that stay; but not the
//! revalidation of a record that is served stale meanwhile. The answer is handed out and forgotten:
//! whether it is worth keeping is decided by the task.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

type FlightMap<K, V> = HashMap<K, Arc<Flight<V>>>;

/// A question in flight.
#[derive(Debug)]
struct Flight<V> {
    landing: watch::Sender<Option<Result<V, CacheError>>>,
    /// Whether it goes on when no request waits for its answer.
    is_kept: AtomicBool,
}

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
            Entry::Occupied(entry) => (true, PendingAnswer::of(entry.get())),
            Entry::Vacant(entry) => {
                let (landing, is_kept) = (watch::Sender::new(None), AtomicBool::new(false));
                let flight = Arc::new(Flight { landing, is_kept });
                let key = entry.key().clone();
                let lead = FlightGuard {
                    key,
                    under_way: Arc::clone(&self.under_way),
                    flight: Arc::clone(&flight),
                };
                let answer = PendingAnswer::of(&flight);
                entry.insert(flight);
                let question = ask();
                self.tasks.spawn(async move {
                    tokio::select! {
                        result = question => lead.land(result),
                        () = lead.abandoned() => {}
                    }
                });
                (false, answer)
            }
        };
        (joined, answer)
    }
}

/// Frees the key when the task ends, also when it panics.
struct FlightGuard<K: Eq + Hash, V> {
    key: K,
    under_way: Arc<Mutex<FlightMap<K, V>>>,
    flight: Arc<Flight<V>>,
}

impl<K: Eq + Hash, V> FlightGuard<K, V> {
    fn land(&self, result: Result<V, CacheError>) {
        // The key goes first: a request after this gets a new answer.
        self.free();
        self.flight.landing.send_replace(Some(result));
    }

    /// Ends when no request waits for the answer. From then on none joins.
    async fn abandoned(&self) {
        loop {
            self.flight.landing.closed().await;
            if self.flight.is_kept.load(Ordering::Acquire) {
                return std::future::pending().await;
            }
            let mut under_way = self.under_way.lock();
            // Requests join under the lock.
            if self.flight.landing.is_closed() {
                under_way.remove(&self.key);
                return;
            }
        }
    }

    fn free(&self) {
        let mut under_way = self.under_way.lock();
        // The key may be that of a later flight.
        if under_way.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            under_way.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash, V> Drop for FlightGuard<K, V> {
    fn drop(&mut self) {
        self.free();
        let lost = |answer: &mut Option<_>| {
            let is_lost = answer.is_none();
            answer.get_or_insert(Err(LOST));
            is_lost
        };
        self.flight.landing.send_if_modified(lost);
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
    flight: Arc<Flight<V>>,
}

impl<V> PendingAnswer<V> {
    fn of(flight: &Arc<Flight<V>>) -> Self {
        Self { answer: flight.landing.subscribe(), flight: Arc::clone(flight) }
    }

    /// The same; its question goes on also when no request waits any more.
    pub(super) fn kept(self) -> Self {
        self.flight.is_kept.store(true, Ordering::Release);
        self
    }
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

    /// Neither a question that nothing waits for, nor its place, nor an answer to come later.
    #[tokio::test(start_paused = true)]
    async fn a_question_is_dropped_with_the_last_request_that_waits_unless_it_is_kept() {
        for is_kept in [false, true] {
            let tasks = DetachedTasks::default();
            let flights = FlightTable::<&str, usize>::new(tasks.clone());
            let gate = Arc::new(Notify::new());
            let join = |answer: usize| {
                let gate = Arc::clone(&gate);
                let ask = move || async move {
                    gate.notified().await;
                    Ok(answer)
                };
                let (joined, answer) = flights.join("key", ask);
                (joined, if is_kept { answer.kept() } else { answer })
            };
            let (first, second) = (join(1), join(2));
            drop(first);
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            assert_eq!(tasks.len(), 1, "one request waits");
            drop(second);
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;

            assert_eq!(tasks.len(), usize::from(is_kept));
            let (joined, answer) = join(3);
            assert_eq!(joined, is_kept);
            tokio::task::yield_now().await;
            gate.notify_one();
            assert_eq!(answer.landed().await.unwrap(), if is_kept { 1 } else { 3 });
        }
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
