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

use super::Error;
use super::fills::Progress;
use super::readers::Reader;
use super::relay::Relay;
use crate::http::{self, Delivery, FrameReader, Next};

/// The most that is held back until a blob is verified: enough that no client has the whole, and
/// little enough that it does not notice.
pub(super) const TAIL_BYTES: u64 = 64 << 10;

/// The bytes of a blob that an answer still has to bring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// The next byte.
    pub(super) at: u64,
    /// Behind the last; `None` while the blob's length is unknown.
    pub(super) end: Option<u64>,
    /// Whether the last byte is the blob's last.
    pub(super) reaches_end: bool,
}

impl Span {
    pub(super) fn is_over(&self) -> bool {
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
pub(super) struct Follow {
    progress: watch::Receiver<Progress>,
    delivery: Delivery,
    span: Span,
    /// Whether bytes have been sent, and so of which generation all must be.
    has_sent: bool,
    generation: u32,
    reader: Option<FrameReader>,
    relay: Option<Relay>,
    /// That it is there, while it is.
    _presence: Option<Arc<Reader>>,
}

/// What to do next.
enum Step {
    /// Read from the file up to this offset.
    Read(u64),
    Ready(Next),
    Relay,
    /// Until the fill has got on.
    Wait,
}

impl Follow {
    pub(super) fn new(progress: watch::Receiver<Progress>, delivery: Delivery, span: Span) -> Self {
        let (reader, relay) = (None, None);
        let (has_sent, generation) = (false, 0);
        Self { progress, delivery, span, has_sent, generation, reader, relay, _presence: None }
    }

    /// The same for a reader with a credential of its own.
    pub(super) fn of(self, reader: Option<Arc<Reader>>) -> Self {
        Self { _presence: reader, ..self }
    }

    fn step(&mut self) -> Step {
        if self.relay.is_some() {
            return Step::Relay;
        }
        if self.span.is_over() {
            return Step::Ready(Ok(None));
        }
        let progress = self.progress.borrow_and_update().clone();
        match progress {
            Progress::Asking => Step::Wait,
            Progress::Failed(error) => Step::Ready(Err(error.into())),
            Progress::Filling { total, file, written, generation } => {
                self.read_up_to(&file, generation, self.span.released(written, total))
            }
            Progress::Done { blob, generation } => {
                let len = blob.content().len();
                if *self.span.end.get_or_insert(len) > len {
                    return Step::Ready(Err("the blob is shorter than was announced".into()));
                }
                let end = self.span.end.unwrap_or(len);
                if self.span.at == end {
                    return Step::Ready(Ok(None));
                }
                self.read_up_to(blob.content().file(), generation, end)
            }
            Progress::Relaying { point, generation } => {
                if let Some((file, len)) = point.on_disk() {
                    let released = self.span.released(len, point.total());
                    if self.span.at < released {
                        return self.read_up_to(file, generation, released);
                    }
                }
                if let Err(error) = self.keep_generation(generation) {
                    return Step::Ready(Err(error.into()));
                }
                self.relay = Some(Relay::new(point, self.span));
                Step::Relay
            }
        }
    }

    fn read_up_to(&mut self, file: &Arc<File>, generation: u32, released: u64) -> Step {
        if let Err(error) = self.keep_generation(generation) {
            return Step::Ready(Err(error.into()));
        }
        if self.reader.is_none() {
            self.reader = Some(self.delivery.reader(file));
        }
        if self.span.at < released { Step::Read(released) } else { Step::Wait }
    }

    /// A fill that starts again reads other bytes into another file.
    fn keep_generation(&mut self, generation: u32) -> Result<(), Error> {
        if self.generation == generation {
            return Ok(());
        }
        if self.has_sent {
            return Err(Error::Internal("bytes that were sent before proved wrong"));
        }
        self.generation = generation;
        self.reader = None;
        Ok(())
    }

    fn sent(&mut self, next: Next) -> Next {
        if let Ok(Some(data)) = &next {
            self.span.at += data.len() as u64;
            self.has_sent = true;
        }
        next
    }
}

impl http::Source for Follow {
    fn next_now(&mut self) -> Option<Next> {
        match self.step() {
            Step::Ready(next) => Some(next),
            Step::Relay => self.relay.as_mut().and_then(http::Source::next_now),
            Step::Wait => None,
            Step::Read(released) => {
                let (at, max) = (self.span.at, released - self.span.at);
                let read = self.reader.as_mut()?.read_now(at, max).transpose()?;
                Some(self.sent(read.map(Some).map_err(Into::into)))
            }
        }
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = Next> + Send + '_>> {
        Box::pin(async move {
            loop {
                match self.step() {
                    Step::Ready(next) => return next,
                    Step::Relay => match &mut self.relay {
                        Some(relay) => return http::Source::next(relay).await,
                        None => return Err(Error::Internal("a relay was lost").into()),
                    },
                    Step::Wait => {
                        if self.progress.changed().await.is_err() {
                            return Err(Error::Internal("the fill was lost").into());
                        }
                        // What was just written is in memory, most likely.
                        if let Some(next) = self.next_now() {
                            return next;
                        }
                    }
                    Step::Read(released) => {
                        let (at, max) = (self.span.at, released - self.span.at);
                        let Some(reader) = &mut self.reader else {
                            return Err(Error::Internal("a reader was lost").into());
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
pub(super) struct Whole {
    reader: FrameReader,
    at: u64,
    end: u64,
}

impl Whole {
    pub(super) fn new(file: &Arc<File>, delivery: &Delivery, at: u64, end: u64) -> Self {
        Self { reader: delivery.reader(file), at, end }
    }

    fn sent(&mut self, next: Next) -> Next {
        if let Ok(Some(data)) = &next {
            self.at += data.len() as u64;
        }
        next
    }
}

impl http::Source for Whole {
    fn next_now(&mut self) -> Option<Next> {
        if self.at == self.end {
            return Some(Ok(None));
        }
        let read = self.reader.read_now(self.at, self.end - self.at).transpose()?;
        Some(self.sent(read.map(Some).map_err(Into::into)))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = Next> + Send + '_>> {
        Box::pin(async move {
            let read = self.reader.read(self.at, self.end - self.at).await;
            self.sent(read.map(Some).map_err(Into::into))
        })
    }
}
