//! How many connections to a host are open at once.
//!
//! A bound on requests is none on connections: one whose answer has just been read is not back in
//! the pool yet when the next request looks there, and that one dials. The pool also lets a dial
//! that a request turned out not to need go on, and keeps what comes of it. So connections
//! themselves are counted here, from before the dial to their end. A request that finds no room
//! takes whichever comes first: a connection that is free again, from the pool, or room for a new
//! one.
//!
//! # Out of scope
//!
//! It closes nothing. An idle connection keeps its place; the pool would have given it to the next
//! request.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::HostPort;

tokio::task_local! {
    /// Cancelled when the request for which is dialled has ended.
    static ENDED: CancellationToken;
}

/// Room for connections, by host.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimit {
    max: usize,
    /// Hosts to which there are connections, or were at the last dial.
    hosts: Arc<Mutex<HashMap<HostPort, Weak<Semaphore>>>>,
}

impl ConnectionLimit {
    /// Room for `max` connections to a host, at least one.
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.clamp(1, Semaphore::MAX_PERMITS), hosts: Arc::default() }
    }

    /// Waits until there is room for one more connection to `host`. It is taken until the permit is
    /// dropped.
    ///
    /// # Errors
    ///
    /// When the request that wanted it has ended: it was given another one, and this one is not
    /// needed.
    pub(super) async fn enter(&self, host: &HostPort) -> io::Result<OwnedSemaphorePermit> {
        let ended = ENDED.try_with(Clone::clone).unwrap_or_default();
        let entered = ended.run_until_cancelled_owned(self.at(host).acquire_owned()).await;
        let entered = entered.ok_or_else(|| io::Error::other("it is not wanted any more"))?;
        entered.map_err(io::Error::other)
    }

    fn at(&self, host: &HostPort) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock();
        if let Some(open) = hosts.get(host).and_then(Weak::upgrade) {
            return open;
        }
        hosts.retain(|_, open| open.strong_count() > 0);
        let fresh = Arc::new(Semaphore::new(self.max));
        hosts.insert(host.clone(), Arc::downgrade(&fresh));
        fresh
    }
}

/// Runs `request`. A dial for it that still waits for a place when it ends is given up.
pub(super) async fn dialling<T>(request: impl Future<Output = T>) -> T {
    let ended = CancellationToken::new();
    let _on_drop = ended.clone().drop_guard();
    ENDED.scope(ended, request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostPort {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_have_room_of_their_own_and_give_it_back() {
        let room = ConnectionLimit::new(2);
        let (a, b) = (host("a.test:1"), host("b.test:1"));
        let first = room.enter(&a).await.unwrap();
        let _second = room.enter(&a).await.unwrap();
        drop(room.enter(&b).await.unwrap());
        let third = tokio::spawn({
            let (room, a) = (room.clone(), a.clone());
            async move { room.enter(&a).await }
        });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        drop(first);
        drop(third.await.unwrap().unwrap());

        // A host without connections is forgotten when another one is met.
        drop(room.enter(&host("c.test:1")).await.unwrap());
        assert!(!room.hosts.lock().contains_key(&b));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_ended_waits_for_no_room() {
        let (room, a) = (ConnectionLimit::new(1), host("a.test:1"));
        let _first = room.enter(&a).await.unwrap();
        let mut dial = Box::pin(room.enter(&a));
        dialling(async {
            // As the pool does it: the dial begins with the request, and may go on without it.
            tokio::select! {
                biased;
                _ = &mut dial => panic!("there is no room"),
                () = std::future::ready(()) => {}
            }
        })
        .await;
        dial.await.unwrap_err();
    }
}
