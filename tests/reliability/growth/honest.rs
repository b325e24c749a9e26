//! The client beside the hostile ones, which pulls what is cached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Growth;
use super::requests::REPOSITORY;
use crate::support::Client;

/// The longest pull of the honest client.
#[derive(Clone, Debug, Default)]
pub struct LongestPull {
    pub time: Duration,
    /// The times of its requests, and what they were answered from.
    pub steps: Vec<String>,
}

impl Growth {
    /// Pulls the cached image again and again; gives the pull that took longest.
    pub(super) async fn pull_on(
        self: Arc<Self>,
        is_over: Arc<AtomicBool>,
    ) -> Result<LongestPull, String> {
        let client = self.larder.client();
        let mut longest = LongestPull::default();
        while !is_over.load(Ordering::Relaxed) {
            let since = Instant::now();
            let steps = self.pull(&client).await?;
            let time = since.elapsed();
            if time > longest.time {
                longest = LongestPull { time, steps };
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(longest)
    }

    pub(super) async fn pull(&self, client: &Client) -> Result<Vec<String>, String> {
        let mut steps = Vec::new();
        let manifest = &self.image.manifest.blob;
        let latest = format!("/v2/{REPOSITORY}/manifests/latest");
        let blobs = self.image.blobs().map(|blob| (blob.path(REPOSITORY), blob));
        for (path, blob) in [(latest, manifest)].into_iter().chain(blobs) {
            let since = Instant::now();
            let reply = client.get(&path).await;
            if reply.status != 200 || reply.body != blob.bytes || !reply.is_complete() {
                return Err(format!("{path}: {} {:?}", reply.status, reply.broken));
            }
            let from = reply.header("cache-status").unwrap_or_default();
            steps.push(format!("{} ms {from}", since.elapsed().as_millis()));
        }
        Ok(steps)
    }
}
