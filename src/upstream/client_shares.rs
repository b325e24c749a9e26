//! How much of something each client may hold.
//!
//! A client waits for its own share first, and so stands in the queue of all with no more than
//! that. How large a share is, and of what, is decided by the caller.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// The shares of all clients. A client that holds nothing takes no room here.
#[derive(Debug)]
pub struct ClientShares<K> {
    clients: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K> Default for ClientShares<K> {
    fn default() -> Self {
        Self { clients: Mutex::default() }
    }
}

impl<K: Eq + Hash> ClientShares<K> {
    /// The share of a client, which is `share` if it holds nothing yet.
    pub fn of(&self, client: K, share: usize) -> Arc<Semaphore> {
        let mut clients = self.clients.lock();
        if let Some(share) = clients.get(&client).and_then(Weak::upgrade) {
            return share;
        }
        // Removes the clients that hold nothing, before the map would grow.
        if clients.len() >= clients.capacity() {
            clients.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(share));
        clients.insert(client, Arc::downgrade(&share));
        share
    }
}
