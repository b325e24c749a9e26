//! A gate in an answer: the server stops there until the test lets it go on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How long an answer may take to get to a gate. On the paused clock a test that hangs gets here
/// at once.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let mut arrived = self.arrived.subscribe();
        let waiting = arrived.wait_for(|arrived| *arrived >= count);
        let reached = tokio::time::timeout(PATIENCE, waiting).await.map(drop);
        assert!(reached.is_ok(), "no answer reached the gate within {PATIENCE:?}");
    }

    pub(super) async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}
