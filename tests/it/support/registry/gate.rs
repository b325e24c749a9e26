//! A gate in an answer: the server stops there until the test lets it go on.

use std::sync::Arc;

use tokio::sync::watch;

/// Holds every answer that reaches it. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    arrived: Arc<watch::Sender<usize>>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self { open: Arc::new(watch::Sender::new(false)), arrived: Arc::default() }
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until an answer is held here, or went through.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until `count` answers are held here, or went through.
    pub async fn reached_by(&self, count: usize) {
        self.arrived.subscribe().wait_for(|arrived| *arrived >= count).await.unwrap();
    }

    pub(super) async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}
