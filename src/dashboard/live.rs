//! The figures as they change: server-sent events (WHATWG HTML, 9.2) with the sections of the page.
//!
//! Figures are taken when a viewer wants them, at most once a second for all viewers together. A
//! viewer that reads slowly gets the latest ones when it has read those before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::collect::FigureCollector;
use super::figures::DashboardFigures;
use super::page::DashboardPage;
use crate::http::{BodySource, NextBytes, ReplyBody};

/// Takes figures, and sends them to viewers. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct LiveFigures {
    collector: Arc<FigureCollector>,
    latest: Arc<Mutex<Option<TakenFigures>>>,
    viewers: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
struct TakenFigures {
    at: Instant,
    figures: Arc<DashboardFigures>,
    /// The sections of the page, as an event.
    event: Bytes,
}

impl LiveFigures {
    pub(super) fn new(collector: FigureCollector) -> Self {
        let viewers = Arc::new(Semaphore::new(VIEWERS_MAX));
        Self { collector: Arc::new(collector), latest: Arc::default(), viewers }
    }

    /// Figures of this second.
    pub(super) async fn figures(&self) -> Arc<DashboardFigures> {
        self.taken().await.figures
    }

    async fn taken(&self) -> TakenFigures {
        let mut latest = self.latest.lock().await;
        if let Some(taken) = latest.as_ref().filter(|taken| taken.at.elapsed() < TAKEN_KEPT) {
            return taken.clone();
        }
        let figures = Arc::new(self.collector.figures().await);
        let live = DashboardPage { figures: &figures }.live().unwrap_or_default();
        let taken = TakenFigures { at: Instant::now(), figures, event: event(&live) };
        *latest = Some(taken.clone());
        taken
    }

    /// A body of events for one more viewer; `None` if there are too many.
    pub(super) fn watch(&self) -> Option<ReplyBody> {
        let place = Arc::clone(&self.viewers).try_acquire_owned().ok()?;
        let viewer = ViewerBody { live: self.clone(), sent: Bytes::new(), _place: place };
        Some(ReplyBody::of(Box::new(viewer), None))
    }
}

/// An event with this text.
fn event(text: &str) -> Bytes {
    let mut event = String::with_capacity(text.len() + 512);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        event.push_str("data: ");
        event.push_str(line.trim());
        event.push('\n');
    }
    event.push('\n');
    Bytes::from(event)
}

struct ViewerBody {
    live: LiveFigures,
    /// The event that was sent last.
    sent: Bytes,
    _place: OwnedSemaphorePermit,
}

impl BodySource for ViewerBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        None
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            for _ in 0..SILENCE_SECONDS {
                if !self.sent.is_empty() {
                    sleep(Duration::from_secs(1)).await;
                }
                let event = self.live.taken().await.event;
                if event != self.sent {
                    self.sent = event.clone();
                    return Ok(Some(event.into()));
                }
            }
            Ok(Some(Bytes::from_static(COMMENT).into()))
        })
    }
}

/// Viewers at the same time. Each takes a connection, and 20 KiB a second at most.
const VIEWERS_MAX: usize = 32;

/// Seconds after which something is sent although nothing has changed.
const SILENCE_SECONDS: u32 = 15;

/// Tells proxies that the connection lives; viewers do not see it.
const COMMENT: &[u8] = b":\n\n";

/// The time for which figures are those of now.
const TAKEN_KEPT: Duration = Duration::from_millis(900);
