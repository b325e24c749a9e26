//! The download of a blob, or of a part of it, through cuts.
//!
//! A body that breaks off is continued by `Range` from the byte where it broke, a bounded number of
//! times. Whether the bytes are right is not decided here: the reader of the download hashes them.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::StatusCode;

use crate::cache::CacheError;
use crate::cache::fetch::origin::BlobOrigin;
use crate::upstream::{Answer, AnswerBody, UpstreamError, UpstreamIndex};

/// One blob on its way from an upstream.
#[derive(Debug)]
pub(crate) struct BlobDownload {
    origin: BlobOrigin,
    /// The offset of the next byte.
    at: u64,
    /// The offset behind the last byte that is wanted; `None` if all are.
    until: Option<u64>,
    /// The length of the whole blob, as far as it is known.
    total: Option<u64>,
    body: Option<AnswerBody>,
    /// The upstream that sends `body`.
    place: UpstreamIndex,
    is_from_mirror: bool,
    /// Bytes to drop, where an upstream ignored `Range` and sends from zero.
    skip: u64,
    /// Bytes that were put back, to be returned first.
    put_back: VecDeque<Bytes>,
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
    /// [`UpstreamError::RangeNotSatisfiable`] when the blob has fewer bytes than `from`.
    pub(crate) async fn open(
        origin: BlobOrigin,
        from: u64,
        expected: Option<u64>,
    ) -> Result<Self, CacheError> {
        let mut this = Self::new(origin, from, None);
        this.ask_first().await?;
        // A blob that is not empty has a length of one byte at least: see `begin`.
        this.total = this.total.or(expected.filter(|expected| *expected >= from.max(1)));
        Ok(this)
    }

    /// Asks for these bytes only, so that the upstream sends no more.
    pub(crate) async fn part(origin: BlobOrigin, part: Range<u64>) -> Result<Self, CacheError> {
        let mut this = Self::new(origin, part.start, Some(part.end));
        this.ask_first().await?;
        Ok(this)
    }

    fn new(origin: BlobOrigin, from: u64, until: Option<u64>) -> Self {
        Self {
            origin,
            at: from,
            until,
            total: None,
            body: None,
            place: UpstreamIndex::default(),
            is_from_mirror: false,
            skip: 0,
            put_back: VecDeque::new(),
            failures: 0,
            since_failure: 0,
            is_resumed: from > 0,
        }
    }

    /// Asks until an upstream's answer can be used.
    async fn ask_first(&mut self) -> Result<(), CacheError> {
        while self.body.is_none() {
            match self.origin.ask(self.at, self.until).await {
                Ok(answer) => {
                    let place = answer.place;
                    let is_last =
                        place == UpstreamIndex::Authoritative || self.origin.has_failed(place);
                    match self.begin(answer) {
                        Err(error) if is_last => return Err(error),
                        // The answer of the next upstream may be right.
                        Err(_) => self.origin.fail(place),
                        Ok(()) => {}
                    }
                }
                // The file has all of the blob already.
                Err(UpstreamError::RangeNotSatisfiable { total: Some(total), .. })
                    if total == self.at && self.at > 0 =>
                {
                    self.total = Some(total);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Continues with the credential of any reader from now on. To be called once the repository
    /// has been seen to have the blob.
    pub(crate) fn take_any_reader(&mut self) {
        self.origin = self.origin.clone().with_any_reader();
    }

    /// The length of the whole blob in bytes, as far as it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// The offset of the next byte.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Whether the upstream ignored `Range`, so that the wanted bytes come behind all others.
    pub(crate) fn is_cut_out(&self) -> bool {
        self.skip > 0
    }

    pub(crate) fn origin(&self) -> &BlobOrigin {
        &self.origin
    }

    /// Whether a digest mismatch is worth another fetch, from the registry itself and from zero:
    /// the bytes are of more than one answer, or some are of a mirror.
    pub(crate) fn is_worth_refetching(&self) -> bool {
        self.is_resumed || self.is_from_mirror
    }

    /// The error for wrong bytes, which names the upstream that sent the last of them.
    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> CacheError {
        let host = self.origin.host_of(self.place).to_owned();
        CacheError::Corrupt { host, digest: self.origin.digest().clone(), reason: reason.into() }
    }

    /// Takes back the chunks that were returned last.
    pub(crate) fn put_back(&mut self, chunks: Vec<Bytes>) {
        for chunk in chunks.into_iter().rev() {
            self.at -= chunk.len() as u64;
            self.put_back.push_front(chunk);
        }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, CacheError> {
        if let Some(bytes) = self.put_back.pop_front() {
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
                // Without a length an end may be the blob's end. The digest decides.
                Ok(None) if self.total.is_none() => self.total = Some(self.at),
                Ok(None) => self.retry_after(self.ended_early()).await?,
                Err(error) => self.retry_after(error).await?,
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
            return Err(self.corrupt("more bytes than announced"));
        }
        Ok(Some(bytes))
    }

    async fn reopen(&mut self) -> Result<(), CacheError> {
        self.is_resumed = true;
        match self.origin.ask(self.at, self.until).await {
            Ok(answer) => self.begin(answer),
            Err(UpstreamError::RangeNotSatisfiable { .. }) => {
                Err(self.corrupt("blob became shorter during the download"))
            }
            Err(error) => self.retry_after(error).await,
        }
    }

    fn begin(&mut self, answer: Answer) -> Result<(), CacheError> {
        let is_part = answer.status == StatusCode::PARTIAL_CONTENT;
        let total = answer.length();
        self.place = answer.place;
        // Such an answer is complete with its head, so there is no tail to hold back.
        if total == Some(0) && !self.origin.digest().is_of_nothing() {
            return Err(self.corrupt("empty body"));
        }
        if let (Some(before), Some(now)) = (self.total, total)
            && before != now
        {
            return Err(self.corrupt(format!("length changed from {before} to {now}")));
        }
        self.total = self.total.or(total);
        self.is_from_mirror |= answer.place != UpstreamIndex::Authoritative;
        self.skip = if is_part { 0 } else { self.at };
        self.body = Some(answer.body);
        Ok(())
    }

    /// Pauses before the next try, or gives up.
    async fn retry_after(&mut self, error: UpstreamError) -> Result<(), CacheError> {
        if self.body.take().is_some() && !self.origin.has_failed(self.place) {
            self.origin.fail(self.place);
        }
        if self.since_failure >= PROGRESS_MIN {
            self.failures = 0;
        }
        self.since_failure = 0;
        self.failures += 1;
        let growing = PAUSE * 4_u32.pow(self.failures.min(FAILURES_MAX) - 1);
        // The upstream had the blob a moment ago: something in between may have said this.
        let is_unproven = matches!(error, UpstreamError::NotFound { .. })
            || matches!(error, UpstreamError::Denied { is_proven: false, .. });
        if self.failures > FAILURES_MAX || !(error.is_transient() || is_unproven) {
            return Err(error.into());
        }
        let pause = growing.mul_f64(0.75 + fastrand::f64() / 2.0);
        tracing::debug!(at = self.at, failures = self.failures, %error, "retrying a download");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn ended_early(&self) -> UpstreamError {
        let reason = format!("the body ended at byte {}", self.at);
        UpstreamError::Unreachable { host: self.origin.host_of(self.place).to_owned(), reason }
    }
}

/// How many failures in a row end a download.
const FAILURES_MAX: u32 = 4;

/// After fewer bytes than this a failure counts as one more in the same row.
const PROGRESS_MIN: u64 = 64 << 10;

/// The pause after the first failure; each further one is four times as long. The longest exceeds
/// the time for which the circuit breaker stays open.
const PAUSE: Duration = Duration::from_millis(125);
