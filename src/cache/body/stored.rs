//! A body from a file all of whose bytes may leave.

use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::http::{BodySource, FileDelivery, FrameReader, NextBytes};

/// The bytes of a file from `at` to `end`.
pub(crate) struct FileBody {
    reader: FrameReader,
    at: u64,
    end: u64,
}

impl FileBody {
    pub(crate) fn new(file: &Arc<File>, delivery: &FileDelivery, at: u64, end: u64) -> Self {
        Self { reader: delivery.reader(file), at, end }
    }

    fn advance(&mut self, next: NextBytes) -> NextBytes {
        if let Ok(Some(data)) = &next {
            self.at += data.len() as u64;
        }
        next
    }
}

impl BodySource for FileBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        if self.at == self.end {
            return Some(Ok(None));
        }
        let read = self.reader.read_now(self.at, self.end - self.at).transpose()?;
        Some(self.advance(read.map(Some).map_err(Into::into)))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            let read = self.reader.read(self.at, self.end - self.at).await;
            self.advance(read.map(Some).map_err(Into::into))
        })
    }
}
