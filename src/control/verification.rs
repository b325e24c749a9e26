//! The verification of stored contents when an operator asks for it: what `larder verify` shows.
//!
//! Contents are counted first, then read from the disk one after the other. A report comes while
//! one is read, too, so that the operator sees that it goes on.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::Future;
use std::hash::BuildHasher as _;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::oci::Digest;
use crate::store::{CONTENT_GROUPS, ContentView, DiskPace, RecheckVerdict, Store, contents_of};

/// How far a verification is, and what it has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationReport {
    /// Whether it has ended.
    #[serde(rename = "done")]
    pub is_done: bool,
    /// Contents that were verified or found wrong.
    pub verified: u64,
    /// Bytes that were read.
    pub verified_bytes: u64,
    /// Contents that are to be verified.
    pub of: u64,
    /// Their bytes.
    pub of_bytes: u64,
    /// The contents that were found wrong since the report before.
    pub wrong: Vec<WrongContent>,
}

/// A content that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongContent {
    /// Its digest.
    pub digest: String,
    /// Its state now.
    pub state: WrongState,
}

/// The state of a content that was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrongState {
    /// It was fetched again.
    Restored,
    /// It was removed; the next pull fetches it.
    Removed,
    /// It cannot be read, and is still there.
    Unreadable,
}

impl WrongState {
    /// Its name, as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::Removed => "removed",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A share of all contents, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentShare(u32);

impl ContentShare {
    /// All of them.
    pub const ALL: Self = Self(MILLION);

    /// Whether a content is among them, whose `hash` is as good as random.
    fn has(self, hash: u64) -> bool {
        hash % u64::from(MILLION) < u64::from(self.0)
    }
}

impl fmt::Display for ContentShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / PERCENT)
    }
}

impl FromStr for ContentShare {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        let percent = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "up to a million"
        )]
        let millionths = percent.map(|percent| (percent * PERCENT).ceil() as u32);
        millionths.map(Self).ok_or(NoShare)
    }
}

/// The text is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a share in per cent, above 0 % and up to 100 %, such as `5%`")]
pub struct NoShare;

/// Fetches a content again that was removed, and says whether it is stored.
pub(super) type RestoreContent =
    Arc<dyn Fn(Digest) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A share of all contents, chosen at random.
struct ContentChoice {
    share: ContentShare,
    salt: RandomState,
}

impl ContentChoice {
    /// The chosen contents of a group.
    async fn of(&self, store: &Store, group: usize) -> io::Result<Vec<(Digest, ContentView)>> {
        let mut contents = contents_of(store, group).await?;
        contents.retain(|(digest, _)| self.share.has(self.salt.hash_one(digest.as_str())));
        Ok(contents)
    }
}

/// A verification under way.
pub struct ContentVerification {
    store: Arc<Store>,
    restore: Option<RestoreContent>,
    pace: DiskPace,
    choice: ContentChoice,
    group: usize,
    waiting: VecDeque<Digest>,
    running: Option<RunningCheck>,
    read: Arc<AtomicU64>,
    report: VerificationReport,
}

type RunningCheck = Pin<Box<dyn Future<Output = Option<WrongContent>> + Send>>;

impl fmt::Debug for ContentVerification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentVerification").field("report", &self.report).finish_non_exhaustive()
    }
}

impl ContentVerification {
    /// Verifies a share of the contents of a store that no server uses: what is wrong is removed.
    ///
    /// # Errors
    ///
    /// Those of listing the contents.
    pub async fn begin(store: &Arc<Store>, share: ContentShare) -> io::Result<Self> {
        let pace = DiskPace { bytes_per_second: None, rest: 0 };
        Self::new(store, share, pace, None).await
    }

    /// Verifies a share of the contents beside clients: what is wrong is fetched again.
    pub(super) async fn beside_clients(
        store: &Arc<Store>,
        share: ContentShare,
        restore: RestoreContent,
    ) -> io::Result<Self> {
        let pace = DiskPace { bytes_per_second: None, rest: 1 };
        Self::new(store, share, pace, Some(restore)).await
    }

    async fn new(
        store: &Arc<Store>,
        share: ContentShare,
        pace: DiskPace,
        restore: Option<RestoreContent>,
    ) -> io::Result<Self> {
        let mut this = Self {
            store: Arc::clone(store),
            restore,
            pace,
            choice: ContentChoice { share, salt: RandomState::new() },
            group: 0,
            waiting: VecDeque::new(),
            running: None,
            read: Arc::default(),
            report: VerificationReport::default(),
        };
        for group in 0..CONTENT_GROUPS {
            for (_, content) in this.choice.of(store, group).await? {
                this.report.of += 1;
                this.report.of_bytes += content.len;
            }
        }
        Ok(this)
    }

    /// Goes on for a moment, or until something is found wrong. `None` after the last report.
    ///
    /// # Errors
    ///
    /// Those of listing the contents.
    pub async fn next(&mut self) -> io::Result<Option<VerificationReport>> {
        if self.report.is_done {
            return Ok(None);
        }
        let until = Instant::now() + REPORT_EVERY;
        self.report.wrong.clear();
        while self.report.wrong.is_empty() && Instant::now() < until {
            let Some(mut running) = self.take_check().await? else {
                self.report.is_done = true;
                break;
            };
            match timeout_at(until, &mut running).await {
                Ok(wrong) => {
                    self.report.verified += 1;
                    self.report.wrong.extend(wrong);
                }
                Err(_) => self.running = Some(running),
            }
        }
        self.report.verified_bytes = self.read.load(Ordering::Relaxed);
        Ok(Some(self.report.clone()))
    }

    /// The check that runs, or that of the next content.
    async fn take_check(&mut self) -> io::Result<Option<RunningCheck>> {
        if let Some(running) = self.running.take() {
            return Ok(Some(running));
        }
        while self.waiting.is_empty() && self.group < CONTENT_GROUPS {
            let chosen = self.choice.of(&self.store, self.group).await?;
            self.waiting.extend(chosen.into_iter().map(|(digest, _)| digest));
            self.group += 1;
        }
        let Some(digest) = self.waiting.pop_front() else { return Ok(None) };
        let (store, pace) = (Arc::clone(&self.store), self.pace);
        let (read, restore) = (Arc::clone(&self.read), self.restore.clone());
        Ok(Some(Box::pin(async move { check(&store, pace, digest, &read, restore).await })))
    }
}

/// Verifies a content; `None` if it is right, or stored no longer.
async fn check(
    store: &Store,
    pace: DiskPace,
    digest: Digest,
    read: &AtomicU64,
    restore: Option<RestoreContent>,
) -> Option<WrongContent> {
    let count = |bytes| {
        read.fetch_add(bytes, Ordering::Relaxed);
    };
    let state = match pace.check(&store.content(), &digest, count).await {
        Ok(Some(RecheckVerdict::Wrong)) => match restore {
            Some(restore) if restore(digest.clone()).await => WrongState::Restored,
            _ => WrongState::Removed,
        },
        Ok(_) => return None,
        Err(error) => {
            tracing::warn!(%digest, %error, "cannot read a stored content to verify it");
            WrongState::Unreadable
        }
    };
    Some(WrongContent { digest: digest.to_string(), state })
}

const MILLION: u32 = 1_000_000;

/// Millionths in a per cent.
const PERCENT: f64 = 10_000.0;

/// The time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_per_cent_and_not_nothing() {
        for (text, want) in [
            ("100%", Some("100%")),
            ("5%", Some("5%")),
            ("0.25%", Some("0.25%")),
            ("0.00001%", Some("0.0001%")),
            ("0%", None),
            ("-1%", None),
            ("101%", None),
            ("5", None),
            ("NaN%", None),
            ("%", None),
        ] {
            let share = text.parse::<ContentShare>().ok();
            assert_eq!(share.map(|share| share.to_string()).as_deref(), want, "{text}");
        }
        assert!((0..2 * u64::from(MILLION)).all(|hash| ContentShare::ALL.has(hash)));
    }
}
