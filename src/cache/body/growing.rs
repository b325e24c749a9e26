//! Reading a blob while it is being filled.
//!
//! A reader follows the growing file at its own speed. An answer that includes the blob's last
//! byte stops short of the end until the fill has verified the whole, so no client ever has a
//! complete wrong blob. An answer that ends earlier is passed on as the upstream gave it.

use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cache::CacheError;
use crate::cache::body::relay::RelayBody;
use crate::cache::fetch::reader_credentials::FillReader;
use crate::cache::fill::table::FillProgress;
use crate::http::{self, FileDelivery, FrameReader, NextBytes};

/// The most that is held back until a blob is verified: enough that no client has the whole, and
/// little enough that it does not notice.
pub(crate) const TAIL_BYTES: u64 = 64 << 10;

/// The bytes of a blob that an answer still has to bring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodySpan {
    /// The next byte.
    pub(crate) at: u64,
    /// Behind the last; `None` while the blob's length is unknown.
    pub(crate) end: Option<u64>,
    /// Whether the last byte is the blob's last.
    pub(crate) reaches_end: bool,
}

impl BodySpan {
    pub(crate) fn is_over(&self) -> bool {
        self.end == Some(self.at)
    }

    /// How far one may read when `written` bytes are there, not yet verified.
    fn released(&self, written: u64, total: Option<u64>) -> u64 {
        let released = if self.reaches_end {
            written.min(total.unwrap_or(written).saturating_sub(TAIL_BYTES))
        } else {
            written
        };
        released.min(self.end.unwrap_or(u64::MAX))
    }
}

/// One reader of a fill.
pub(crate) struct GrowingFileBody {
    progress: watch::Receiver<FillProgress>,
    delivery: FileDelivery,
    span: BodySpan,
    /// Whether bytes have been sent, and so of which generation all must be.
    has_sent: bool,
    generation: u32,
    reader: Option<FrameReader>,
    relay: Option<RelayBody>,
    /// That it is there, while it is.
    _presence: Option<Arc<FillReader>>,
}

/// What to do next.
enum ReadStep {
    /// Read from the file up to this offset.
    Read(u64),
    Ready(NextBytes),
    Relay,
    /// Until the fill has got on.
    Wait,
}

impl GrowingFileBody {
    pub(crate) fn new(
        progress: watch::Receiver<FillProgress>,
        delivery: FileDelivery,
        span: BodySpan,
    ) -> Self {
        let (reader, relay) = (None, None);
        let (has_sent, generation) = (false, 0);
        Self { progress, delivery, span, has_sent, generation, reader, relay, _presence: None }
    }

    /// The same for a reader with a credential of its own.
    pub(crate) fn of(self, reader: Option<Arc<FillReader>>) -> Self {
        Self { _presence: reader, ..self }
    }

    fn step(&mut self) -> ReadStep {
        if self.relay.is_some() {
            return ReadStep::Relay;
        }
        if self.span.is_over() {
            return ReadStep::Ready(Ok(None));
        }
        let progress = self.progress.borrow_and_update().clone();
        match progress {
            FillProgress::Asking => ReadStep::Wait,
            FillProgress::Failed(error) => ReadStep::Ready(Err(error.into())),
            FillProgress::Filling { total, file, written, generation } => {
                self.read_up_to(&file, generation, self.span.released(written, total))
            }
            FillProgress::Done { blob, generation } => {
                let len = blob.content().len();
                if *self.span.end.get_or_insert(len) > len {
                    return ReadStep::Ready(Err("the blob is shorter than was announced".into()));
                }
                let end = self.span.end.unwrap_or(len);
                if self.span.at == end {
                    return ReadStep::Ready(Ok(None));
                }
                self.read_up_to(blob.content().file(), generation, end)
            }
            FillProgress::Relaying { point, generation } => {
                if let Some((file, len)) = point.on_disk() {
                    let released = self.span.released(len, point.total());
                    if self.span.at < released {
                        return self.read_up_to(file, generation, released);
                    }
                }
                if let Err(error) = self.keep_generation(generation) {
                    return ReadStep::Ready(Err(error.into()));
                }
                self.relay = Some(RelayBody::new(point, self.span));
                ReadStep::Relay
            }
        }
    }

    fn read_up_to(&mut self, file: &Arc<File>, generation: u32, released: u64) -> ReadStep {
        if let Err(error) = self.keep_generation(generation) {
            return ReadStep::Ready(Err(error.into()));
        }
        if self.reader.is_none() {
            self.reader = Some(self.delivery.reader(file));
        }
        if self.span.at < released { ReadStep::Read(released) } else { ReadStep::Wait }
    }

    /// A fill that starts again reads other bytes into another file.
    fn keep_generation(&mut self, generation: u32) -> Result<(), CacheError> {
        if self.generation == generation {
            return Ok(());
        }
        if self.has_sent {
            return Err(CacheError::Internal("bytes that were sent before proved wrong"));
        }
        self.generation = generation;
        self.reader = None;
        Ok(())
    }

    fn sent(&mut self, next: NextBytes) -> NextBytes {
        if let Ok(Some(data)) = &next {
            self.span.at += data.len() as u64;
            self.has_sent = true;
        }
        next
    }
}

impl http::BodySource for GrowingFileBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        match self.step() {
            ReadStep::Ready(next) => Some(next),
            ReadStep::Relay => self.relay.as_mut().and_then(http::BodySource::next_now),
            ReadStep::Wait => None,
            ReadStep::Read(released) => {
                let (at, max) = (self.span.at, released - self.span.at);
                let read = self.reader.as_mut()?.read_now(at, max).transpose()?;
                Some(self.sent(read.map(Some).map_err(Into::into)))
            }
        }
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            loop {
                match self.step() {
                    ReadStep::Ready(next) => return next,
                    ReadStep::Relay => match &mut self.relay {
                        Some(relay) => return http::BodySource::next(relay).await,
                        None => return Err(CacheError::Internal("a relay was lost").into()),
                    },
                    ReadStep::Wait => {
                        if self.progress.changed().await.is_err() {
                            return Err(CacheError::Internal("the fill was lost").into());
                        }
                        // What was just written is in memory, most likely.
                        if let Some(next) = self.next_now() {
                            return next;
                        }
                    }
                    ReadStep::Read(released) => {
                        let (at, max) = (self.span.at, released - self.span.at);
                        let Some(reader) = &mut self.reader else {
                            return Err(CacheError::Internal("a reader was lost").into());
                        };
                        let read = reader.read(at, max).await;
                        return self.sent(read.map(Some).map_err(Into::into));
                    }
                }
            }
        })
    }
}

/// One reader of a file all of whose bytes may be read.
pub(crate) struct FileBody {
    reader: FrameReader,
    at: u64,
    end: u64,
}

impl FileBody {
    pub(crate) fn new(file: &Arc<File>, delivery: &FileDelivery, at: u64, end: u64) -> Self {
        Self { reader: delivery.reader(file), at, end }
    }

    fn sent(&mut self, next: NextBytes) -> NextBytes {
        if let Ok(Some(data)) = &next {
            self.at += data.len() as u64;
        }
        next
    }
}

impl http::BodySource for FileBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        if self.at == self.end {
            return Some(Ok(None));
        }
        let read = self.reader.read_now(self.at, self.end - self.at).transpose()?;
        Some(self.sent(read.map(Some).map_err(Into::into)))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            let read = self.reader.read(self.at, self.end - self.at).await;
            self.sent(read.map(Some).map_err(Into::into))
        })
    }
}
