//! A body from a blob that is being filled.
//!
//! A reader follows the growing file at its own speed. An answer that includes the blob's last byte
//! stops short of the end until the fill has verified the whole, so that no client ever has a
//! complete wrong blob. An answer that ends earlier is passed on as the upstream gave it.

use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::download::DownloadBody;
use super::late::LateBody;
use super::relay::RelayBody;
use super::span::BodySpan;
use crate::cache::CacheError;
use crate::cache::fetch::reader_credentials::FillReader;
use crate::cache::fill::handover::RelayPoint;
use crate::cache::fill::progress::FillProgress;
use crate::cache::fill::table::{FillHandle, FillPlace};
use crate::http::{
    BodyError, BodySource, FileDelivery, FileRescue, FrameReader, NextBytes, ReplyBody,
};
use crate::store::StoredBlob;

/// One reader of a fill.
pub(crate) struct GrowingFileBody {
    progress: watch::Receiver<FillProgress>,
    delivery: FileDelivery,
    span: BodySpan,
    /// The attempt of the fill that all bytes must be of, once some have been sent.
    attempt: u32,
    has_sent: bool,
    file: Option<FrameReader>,
    relay: Option<Box<dyn BodySource>>,
    /// Its credential may be used for the fill as long as this is held.
    reader: Option<Arc<FillReader>>,
    place: FillPlace,
}

/// The next thing to do.
enum ReadStep {
    End,
    /// Read from the file up to this offset.
    Read(u64),
    Relay,
    /// Wait until the fill has moved on.
    Wait,
}

impl GrowingFileBody {
    pub(crate) fn new(fill: &FillHandle, delivery: &FileDelivery, span: BodySpan) -> Self {
        Self {
            progress: fill.progress.clone(),
            delivery: delivery.clone(),
            span,
            attempt: 0,
            has_sent: false,
            file: None,
            relay: None,
            reader: fill.reader.clone(),
            place: fill.place.clone(),
        }
    }

    fn step(&mut self) -> Result<ReadStep, BodyError> {
        if self.relay.is_some() {
            return Ok(ReadStep::Relay);
        }
        if self.span.is_over() {
            return Ok(ReadStep::End);
        }
        let progress = self.progress.borrow_and_update().clone();
        match progress {
            FillProgress::Asking => Ok(ReadStep::Wait),
            FillProgress::Failed(error) => Err(error.into()),
            FillProgress::Filling { total, file, written, attempt } => {
                self.read_up_to(self.span.released(written, total), &file, attempt)
            }
            FillProgress::Done { blob, attempt } => self.read_verified(&blob, attempt),
            FillProgress::Relaying { point, attempt } => self.relay(point, attempt),
        }
    }

    fn read_verified(&mut self, blob: &StoredBlob, attempt: u32) -> Result<ReadStep, BodyError> {
        let len = blob.content().len();
        let end = *self.span.end.get_or_insert(len);
        if end > len {
            return Err("the blob is shorter than announced".into());
        }
        if self.span.at == end {
            return Ok(ReadStep::End);
        }
        self.read_up_to(end, blob.content().file(), attempt)
    }

    fn relay(&mut self, point: Arc<RelayPoint>, attempt: u32) -> Result<ReadStep, BodyError> {
        if let Some(file) = point.file() {
            let released = self.span.released(point.prefix_len(), point.total());
            if self.span.at < released {
                return self.read_up_to(released, file, attempt);
            }
        }
        self.keep_to(attempt)?;
        let span = self.span;
        self.relay = Some(match span.end.filter(|_| !span.reaches_end) {
            None => Box::new(RelayBody::new(point, span)),
            Some(end) => Box::new(LateBody::new(async move {
                let download = point.download(span.at, Some(end)).await?;
                Ok(Box::new(DownloadBody::new(download, end - span.at)) as _)
            })),
        });
        Ok(ReadStep::Relay)
    }

    fn read_up_to(
        &mut self,
        released: u64,
        file: &Arc<File>,
        attempt: u32,
    ) -> Result<ReadStep, BodyError> {
        self.keep_to(attempt)?;
        if self.file.is_none() {
            self.file = Some(self.delivery.reader(file).rescued_by(self.rescue()));
        }
        Ok(if self.span.at < released { ReadStep::Read(released) } else { ReadStep::Wait })
    }

    /// The way for a connection that cannot read the file when it sends it: to read it again, or to
    /// go on as the fill does. These bytes were allowed to leave already.
    fn rescue(&self) -> FileRescue {
        let (progress, attempt) = (self.progress.clone(), self.attempt);
        let (delivery, reader) = (self.delivery.clone().through(None), self.reader.clone());
        let place = self.place.clone();
        FileRescue::new(move |at, end| {
            let source = Self {
                progress: progress.clone(),
                delivery: delivery.clone(),
                span: BodySpan { at, end: Some(end), reaches_end: false },
                attempt,
                has_sent: true,
                file: None,
                relay: None,
                reader: reader.clone(),
                place: place.clone(),
            };
            ReplyBody::of(Box::new(source), Some(end - at)).into_rescued_bytes()
        })
    }

    /// Goes over to another attempt of the fill, which writes other bytes into another file.
    fn keep_to(&mut self, attempt: u32) -> Result<(), BodyError> {
        if self.attempt != attempt {
            if self.has_sent {
                return Err(CacheError::Internal("the bytes sent so far proved wrong").into());
            }
            self.attempt = attempt;
            self.file = None;
        }
        Ok(())
    }

    fn advance(&mut self, next: NextBytes) -> NextBytes {
        if let Ok(Some(data)) = &next {
            self.span.at += data.len() as u64;
            self.has_sent = true;
        }
        next
    }
}

impl BodySource for GrowingFileBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        match self.step() {
            Err(error) => Some(Err(error)),
            Ok(ReadStep::End) => Some(Ok(None)),
            Ok(ReadStep::Relay) => self.relay.as_mut()?.next_now(),
            Ok(ReadStep::Wait) => None,
            Ok(ReadStep::Read(released)) => {
                let (at, max) = (self.span.at, released - self.span.at);
                // An error comes again where it can be waited for the other way.
                let read = self.file.as_mut()?.read_now(at, max).ok()??;
                Some(self.advance(Ok(Some(read))))
            }
        }
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            loop {
                match self.step()? {
                    ReadStep::End => return Ok(None),
                    ReadStep::Relay => {
                        return self.relay.as_mut().ok_or("a relay was lost")?.next().await;
                    }
                    ReadStep::Wait => {
                        if self.progress.changed().await.is_err() {
                            return Err(CacheError::Internal("the fill was lost").into());
                        }
                        // Most likely, bytes that were just written are in memory.
                        if let Some(next) = self.next_now() {
                            return next;
                        }
                    }
                    ReadStep::Read(released) => {
                        let (at, max) = (self.span.at, released - self.span.at);
                        let file = self.file.as_mut().ok_or("a reader was lost")?;
                        let read = match file.read(at, max).await {
                            Err(_) => file.read(at, max).await,
                            read => read,
                        };
                        return self.advance(read.map(Some).map_err(Into::into));
                    }
                }
            }
        })
    }
}
