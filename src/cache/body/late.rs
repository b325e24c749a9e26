//! A body whose source is decided, and opened, when its first bytes are wanted.

use std::future::Future;
use std::pin::Pin;

use crate::cache::CacheError;
use crate::http::{BodySource, NextBytes};

/// A source that may still have to be opened.
pub(crate) struct LateBody {
    opening: Option<OpeningSource>,
    source: Option<Box<dyn BodySource>>,
}

type OpeningSource = Pin<Box<dyn Future<Output = Result<Box<dyn BodySource>, CacheError>> + Send>>;

impl LateBody {
    pub(super) fn new(
        opening: impl Future<Output = Result<Box<dyn BodySource>, CacheError>> + Send + 'static,
    ) -> Self {
        Self { opening: Some(Box::pin(opening)), source: None }
    }
}

impl BodySource for LateBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        self.source.as_mut()?.next_now()
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        match &mut self.source {
            Some(source) => source.next(),
            none => Box::pin(async {
                let opening = self.opening.take().ok_or("a body was read on after its error")?;
                none.insert(opening.await?).next().await
            }),
        }
    }
}
