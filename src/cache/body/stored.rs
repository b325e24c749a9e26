//! A body from a file all of whose bytes may leave.
//!
//! A file that the disk cannot read is set aside and fetched anew, and the body goes on from there.

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::fallback::BlobFallback;
use super::growing::GrowingFileBody;
use crate::http::{
    BodyData, BodyError, BodySource, FileDelivery, FileRescue, FrameReader, NextBytes, ReplyBody,
};

/// The bytes of a file from `at` to `end`.
pub(crate) struct FileBody {
    file: Arc<File>,
    delivery: FileDelivery,
    fallback: BlobFallback,
    reader: FrameReader,
    at: u64,
    end: u64,
    /// The rest of the bytes, once the file could not be read.
    rest: Option<Box<GrowingFileBody>>,
}

impl FileBody {
    pub(crate) fn new(
        file: &Arc<File>,
        delivery: &FileDelivery,
        fallback: &BlobFallback,
        at: u64,
        end: u64,
    ) -> Self {
        let reader = delivery.reader(file).rescued_by(rescue(file, delivery, fallback));
        let (file, delivery) = (Arc::clone(file), delivery.clone());
        Self { file, delivery, fallback: fallback.clone(), reader, at, end, rest: None }
    }

    fn advance(&mut self, data: BodyData) -> BodyData {
        self.at += data.len() as u64;
        data
    }

    /// Reads, waiting for the disk a while, and once more if it fails: what failed may have been a
    /// network below the file system.
    async fn read(&mut self) -> io::Result<BodyData> {
        let (at, max) = (self.at, self.end - self.at);
        let read = async {
            match self.reader.read(at, max).await {
                Err(_) => self.reader.read(at, max).await,
                read => read,
            }
        };
        let hangs = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the disk hangs"));
        timeout(READ_WAIT, read).await.unwrap_or_else(hangs)
    }

    async fn refetch(&mut self, why: io::Error) -> Result<(), BodyError> {
        let BlobFallback { content, digest, .. } = &self.fallback;
        content.set_aside(digest, &self.file, &why).await;
        let refetched = self.fallback.refetch(&self.delivery, self.at, self.end).await;
        if refetched.is_err() {
            // There is nothing better, and the disk may recover.
            content.take_back(digest);
        }
        self.rest = Some(Box::new(refetched?));
        Ok(())
    }
}

/// The way for the connection, which reads the file when it sends it.
fn rescue(file: &Arc<File>, delivery: &FileDelivery, fallback: &BlobFallback) -> FileRescue {
    let (file, fallback) = (Arc::clone(file), fallback.clone());
    let delivery = delivery.clone().through(None);
    FileRescue::new(move |at, end| {
        let source = Box::new(FileBody::new(&file, &delivery, &fallback, at, end));
        ReplyBody::of(source, Some(end - at)).into_rescued_bytes()
    })
}

impl BodySource for FileBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        if let Some(rest) = &mut self.rest {
            return rest.next_now();
        }
        if self.at == self.end {
            return Some(Ok(None));
        }
        // An error comes again where it can be waited for the other way.
        let read = self.reader.read_now(self.at, self.end - self.at).ok()??;
        Some(Ok(Some(self.advance(read))))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            if self.rest.is_none() {
                match self.read().await {
                    Ok(data) => return Ok(Some(self.advance(data))),
                    Err(error) => self.refetch(error).await?,
                }
            }
            self.rest.as_mut().ok_or("a reader was lost")?.next().await
        })
    }
}

/// A read that takes longer is not waited for. Clients give up after 30 s of silence.
const READ_WAIT: Duration = Duration::from_secs(10);
