//! One question at a time per key, however many clients want the answer.
//!
//! The first to ask starts a task, detached from its request; all, the first included, wait for
//! the task's answer. Nobody's leaving stops it. The answer is handed out and forgotten: whether
//! it is worth keeping is for others to decide.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Error;
use super::tasks::Tasks;
use crate::access::Grant;
use crate::upstream::Identity;

/// The questions under way, by key.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    under_way: Arc<Mutex<Map<K, V>>>,
    tasks: Tasks,
}

type Map<K, V> = HashMap<K, watch::Receiver<Option<Result<V, Error>>>>;

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// No questions; their tasks will be counted by `tasks`.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { under_way: Arc::default(), tasks }
    }

    /// Joins `key`'s question, asking it by `ask` if nobody does.
    ///
    /// Returns whether another's question was joined, and where its answer will be.
    pub(super) fn join<F>(&self, key: K, ask: impl FnOnce() -> F) -> (bool, Pending<V>)
    where
        F: Future<Output = Result<V, Error>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let (joined, answer) = match under_way.entry(key) {
            Entry::Occupied(entry) => (true, entry.get().clone()),
            Entry::Vacant(entry) => {
                let (landing, answer) = watch::channel(None);
                let lead =
                    Lead { key: entry.key().clone(), under_way: Arc::clone(&self.under_way) };
                entry.insert(answer.clone());
                let question = ask();
                self.tasks.spawn(async move {
                    let result = question.await;
                    // The key goes first: who asks after this gets a new answer.
                    drop(lead);
                    landing.send_replace(Some(result));
                });
                (false, answer)
            }
        };
        (joined, Pending { answer })
    }
}

/// Frees the key when the task ends, also when it panics.
struct Lead<K: Eq + Hash, V> {
    key: K,
    under_way: Arc<Mutex<Map<K, V>>>,
}

impl<K: Eq + Hash, V> Drop for Lead<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// With whom a question is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// With whoever asks the same.
    All,
    /// With those only who ask with the same credential.
    Own,
}

impl Company {
    /// The key of a question that has this one in all company.
    pub(super) fn key(self, key: String, grant: &Grant) -> String {
        match (self, grant.client().and_then(Identity::tag)) {
            (Self::All, _) => key,
            (Self::Own, Some(who)) => format!("{key} as {who}"),
            (Self::Own, None) => format!("{key} as nobody"),
        }
    }
}

/// The answer to a question, and whether another's was joined. What another client was told about
/// itself is no answer; then the question is asked anew.
pub(super) async fn told<V: Clone>(
    grant: &Grant,
    ask: impl Fn(Company) -> (bool, Pending<V>),
) -> (bool, Result<V, Error>) {
    let (joined, answer) = ask(Company::All);
    match answer.landed().await {
        Err(error) if joined && grant.is_of_client() && error.is_about_the_asker() => {
            let (joined, answer) = ask(Company::Own);
            (joined, answer.landed().await)
        }
        answer => (joined, answer),
    }
}

/// The answer to come.
#[derive(Debug)]
pub(super) struct Pending<V> {
    answer: watch::Receiver<Option<Result<V, Error>>>,
}

impl<V: Clone> Pending<V> {
    /// Waits for it.
    pub(super) async fn landed(mut self) -> Result<V, Error> {
        match self.answer.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(LOST)),
            Err(_) => Err(LOST),
        }
    }
}

const LOST: Error = Error::Internal("the task that asked the upstream was lost");

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    /// A client that goes away takes nothing with it: the others still get the one answer.
    #[tokio::test(start_paused = true)]
    async fn all_who_ask_get_one_answer_whoever_leaves() {
        let flights = Flights::<&str, usize>::new(Tasks::default());
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
        let flights = Flights::<&str, usize>::new(Tasks::default());
        let (_, lost) = flights.join("key", || async { panic!("on purpose") });
        assert!(matches!(lost.landed().await, Err(Error::Internal(_))));
        let (joined, answer) = flights.join("key", || async { Ok(1) });
        assert!(!joined);
        assert_eq!(answer.landed().await.unwrap(), 1);
    }
}
