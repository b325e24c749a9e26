//! A blob's bytes from the upstream, from some byte on, through cuts.
//!
//! A body that breaks off is gone on with by `Range` from the byte where it broke, a bounded
//! number of times. Whether the bytes are the right ones is not decided here: whoever reads them
//! hashes them.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::StatusCode;

use crate::cache::CacheError;
use crate::cache::fetch::origin::BlobOrigin;
use crate::upstream::{self, Answer, AnswerBody, UpstreamIndex};

/// One blob being read.
#[derive(Debug)]
pub(crate) struct BlobDownload {
    source: BlobOrigin,
    /// The offset of the next byte that is handed out.
    at: u64,
    /// Behind the last byte that is wanted; `None` if all are.
    until: Option<u64>,
    /// The whole blob's length, where anybody told.
    total: Option<u64>,
    body: Option<AnswerBody>,
    /// Which upstream the bytes come from.
    place: UpstreamIndex,
    is_of_mirrors: bool,
    /// Bytes to throw away, where an upstream sent the whole for a range.
    skip: u64,
    /// Handed out and not used; handed out again first.
    returned: VecDeque<Bytes>,
    failures: u32,
    since_failure: u64,
    is_resumed: bool,
}

impl BlobDownload {
    /// Asks for the bytes from `from` on. `expected` is the length that a manifest states, for
    /// upstreams that state none.
    ///
    /// # Errors
    ///
    /// [`upstream::UpstreamError::RangeNotSatisfiable`] when the blob has fewer bytes than `from`.
    pub(crate) async fn open(
        source: BlobOrigin,
        from: u64,
        expected: Option<u64>,
    ) -> Result<Self, CacheError> {
        Self::open_until(source, from, None, expected).await
    }

    /// Asks for these bytes and no others, so that the upstream need not send what nobody reads.
    pub(crate) async fn part(source: BlobOrigin, part: Range<u64>) -> Result<Self, CacheError> {
        Self::open_until(source, part.start, Some(part.end), None).await
    }

    async fn open_until(
        source: BlobOrigin,
        from: u64,
        until: Option<u64>,
        expected: Option<u64>,
    ) -> Result<Self, CacheError> {
        let mut this = Self {
            source,
            at: from,
            until,
            total: None,
            body: None,
            place: UpstreamIndex::default(),
            is_of_mirrors: false,
            skip: 0,
            returned: VecDeque::new(),
            failures: 0,
            since_failure: 0,
            is_resumed: from > 0,
        };
        while this.body.is_none() {
            match this.source.ask(from, until).await {
                Ok(answer) => {
                    let place = answer.place;
                    let is_last =
                        place == UpstreamIndex::Authoritative || this.source.has_failed(place);
                    match this.begin(answer) {
                        Err(error) if is_last => return Err(error),
                        // The next one may know better.
                        Err(_) => this.source.fail(place),
                        Ok(()) => {}
                    }
                }
                // All of it was there already.
                Err(upstream::UpstreamError::RangeNotSatisfiable {
                    total: Some(total), ..
                }) if total == from && from > 0 => {
                    this.total = Some(total);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // None of what is stated may be nothing: see `begin`.
        this.total = this.total.or(expected.filter(|expected| *expected >= from.max(1)));
        Ok(this)
    }

    /// The repository has been seen to have it, so from now on whoever reads it will do.
    pub(crate) fn go_on_for_any_reader(&mut self) {
        self.source.take_any_reader();
    }

    /// The whole blob's length.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// The offset of the next byte.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Where it comes from.
    pub(crate) fn source(&self) -> &BlobOrigin {
        &self.source
    }

    /// Whether its bytes are from more than one answer.
    pub(crate) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Whether some of its bytes are from a mirror.
    pub(crate) fn is_of_mirrors(&self) -> bool {
        self.is_of_mirrors
    }

    /// What is wrong with its bytes, and who sent the last of them.
    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> CacheError {
        let host = self.source.host_of(self.place).to_owned();
        CacheError::Corrupt { host, digest: self.source.digest().clone(), reason: reason.into() }
    }

    /// Takes back bytes that were handed out last and not used.
    pub(crate) fn put_back(&mut self, chunks: Vec<Bytes>) {
        for chunk in chunks.into_iter().rev() {
            self.at -= chunk.len() as u64;
            self.returned.push_front(chunk);
        }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, CacheError> {
        if let Some(bytes) = self.returned.pop_front() {
            self.at += bytes.len() as u64;
            return Ok(Some(bytes));
        }
        loop {
            if self.total == Some(self.at) || self.until == Some(self.at) {
                self.body = None;
                return Ok(None);
            }
            let Some(body) = &mut self.body else {
                self.reopen().await?;
                continue;
            };
            match body.chunk().await {
                Ok(Some(bytes)) => {
                    if let Some(bytes) = self.take(bytes)? {
                        return Ok(Some(bytes));
                    }
                }
                // An end that nobody announced may be one. The digest will tell.
                Ok(None) if self.total.is_none() => {
                    self.total = Some(self.at);
                }
                Ok(None) => self.failed(self.ended_early()).await?,
                Err(error) => self.failed(error).await?,
            }
        }
    }

    fn take(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, CacheError> {
        let skipped = self.skip.min(bytes.len() as u64);
        bytes.advance(usize::try_from(skipped).unwrap_or(bytes.len()));
        self.skip -= skipped;
        // An upstream may send more than it was asked for.
        let room = self.until.map_or(u64::MAX, |until| until.saturating_sub(self.at));
        bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return Ok(None);
        }
        self.at += bytes.len() as u64;
        self.since_failure += bytes.len() as u64;
        if self.total.is_some_and(|total| self.at > total) {
            return Err(self.corrupt("more bytes came than were announced"));
        }
        Ok(Some(bytes))
    }

    async fn reopen(&mut self) -> Result<(), CacheError> {
        self.is_resumed = true;
        match self.source.ask(self.at, self.until).await {
            Ok(answer) => self.begin(answer),
            Err(upstream::UpstreamError::RangeNotSatisfiable { .. }) => {
                Err(self.corrupt("it has become shorter while it was read"))
            }
            Err(error) => self.failed(error).await,
        }
    }

    fn begin(&mut self, answer: Answer) -> Result<(), CacheError> {
        let is_part = answer.status == StatusCode::PARTIAL_CONTENT;
        let total = answer.length();
        self.place = answer.place;
        // An answer of no bytes is complete with its head: there is no tail to hold back.
        if total == Some(0) && !self.source.digest().is_of_nothing() {
            return Err(self.corrupt("there are none"));
        }
        if let (Some(before), Some(now)) = (self.total, total)
            && before != now
        {
            let reason = format!("its length has changed from {before} to {now}");
            return Err(self.corrupt(reason));
        }
        self.total = self.total.or(total);
        self.is_of_mirrors |= answer.place != UpstreamIndex::Authoritative;
        self.skip = if is_part { 0 } else { self.at };
        self.body = Some(answer.body);
        Ok(())
    }

    /// Notes a failure and pauses, or gives up.
    async fn failed(&mut self, error: upstream::UpstreamError) -> Result<(), CacheError> {
        if self.body.take().is_some() && !self.source.has_failed(self.place) {
            self.source.fail(self.place);
        }
        if self.since_failure >= PROGRESS_MIN {
            self.failures = 0;
        }
        self.since_failure = 0;
        self.failures += 1;
        let growing = PAUSE * 4_u32.pow(self.failures.min(FAILURES_MAX) - 1);
        let pause = match &error {
            // A limit that is over soon is better waited for than told to readers as a cut.
            upstream::UpstreamError::Throttled { wait: Some(wait), .. } if *wait <= LIMIT_MAX => {
                *wait
            }
            error if error.is_transient() => growing.mul_f64(0.75 + fastrand::f64() / 2.0),
            _ => return Err(error.into()),
        };
        if self.failures > FAILURES_MAX {
            return Err(error.into());
        }
        tracing::debug!(at = self.at, failures = self.failures, %error, "a fetch broke off");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn ended_early(&self) -> upstream::UpstreamError {
        let reason = format!("the body ended at byte {}", self.at);
        upstream::UpstreamError::Unreachable {
            host: self.source.host_of(self.place).to_owned(),
            reason,
        }
    }
}

/// How often in a row a fetch may break off.
const FAILURES_MAX: u32 = 4;

/// A try that brought less than this counts as another failure in the same row.
const PROGRESS_MIN: u64 = 64 << 10;

/// The pause after the first failure; each further one is four times as long. The longest is longer
/// than a breaker that has opened meanwhile is open.
const PAUSE: Duration = Duration::from_millis(125);

/// The longest limit that is waited for: readers have patience for 30 s of silence.
const LIMIT_MAX: Duration = Duration::from_secs(10);
