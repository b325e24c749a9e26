//! Several ranges in one answer: `multipart/byteranges` (RFC 9110, 14.6).

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;

use super::BodyData;
use super::body::{BodySource, NextBytes, ReplyBody};

/// The parts of an answer, before its bytes.
#[derive(Debug)]
pub struct MultipartBody {
    boundary: String,
    content_type: &'static str,
    total: u64,
}

impl MultipartBody {
    /// Parts of something that is `total` bytes long and of this type.
    pub fn new(content_type: &'static str, total: u64) -> Self {
        // These 128 bits are not known before, so no content can contain the boundary on purpose.
        let boundary = format!("{:032x}", fastrand::u128(..));
        Self { boundary, content_type, total }
    }

    /// The answer's `Content-Type`.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The body with these parts in this order, and its length. Each is opened by `source` when its
    /// turn comes, so that a thousand ranges cost no more than one.
    pub fn into_body(
        self,
        parts: Vec<Range<u64>>,
        source: impl Fn(Range<u64>) -> Box<dyn BodySource> + Send + 'static,
    ) -> (ReplyBody, u64) {
        let end = self.end();
        let of_part = |part: &Range<u64>| self.head(part).len() as u64 + (part.end - part.start);
        let len = parts.iter().map(of_part).sum::<u64>() + end.len() as u64;
        let chain = PartChain {
            multipart: self,
            parts: parts.into_iter(),
            open: Box::new(source),
            current: None,
            end: Some(end),
        };
        (ReplyBody::of(Box::new(chain), Some(len)), len)
    }

    fn head(&self, part: &Range<u64>) -> Bytes {
        let Self { boundary, content_type, total } = self;
        let (first, last) = (part.start, part.end - 1);
        Bytes::from(format!(
            "\r\n--{boundary}\r\ncontent-type: {content_type}\r\n\
             content-range: bytes {first}-{last}/{total}\r\n\r\n"
        ))
    }

    fn end(&self) -> Bytes {
        Bytes::from(format!("\r\n--{}--\r\n", self.boundary))
    }
}

/// One part after the other, each behind its head.
struct PartChain {
    multipart: MultipartBody,
    parts: std::vec::IntoIter<Range<u64>>,
    open: Box<dyn Fn(Range<u64>) -> Box<dyn BodySource> + Send>,
    /// The part whose turn it is.
    current: Option<Box<dyn BodySource>>,
    end: Option<Bytes>,
}

impl PartChain {
    /// Goes on to the next part; its head, or the end of the whole.
    fn advance(&mut self) -> Option<BodyData> {
        self.current = None;
        let Some(part) = self.parts.next() else { return self.end.take().map(BodyData::from) };
        let head = self.multipart.head(&part);
        self.current = Some((self.open)(part));
        Some(head.into())
    }
}

impl BodySource for PartChain {
    fn next_now(&mut self) -> Option<NextBytes> {
        match self.current.as_mut().map(|part| part.next_now()) {
            Some(Some(Ok(None))) | None => Some(Ok(self.advance())),
            Some(next) => next,
        }
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            let Some(part) = &mut self.current else { return Ok(self.advance()) };
            match part.next().await? {
                None => Ok(self.advance()),
                some => Ok(some),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt as _;

    use super::*;

    /// Yields what it was given, waiting before each byte.
    struct Slow(VecDeque<u8>);

    impl BodySource for Slow {
        fn next_now(&mut self) -> Option<NextBytes> {
            self.0.is_empty().then_some(Ok(None))
        }

        fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
            let byte = self.0.pop_front();
            Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(byte.map(|byte| Bytes::from(vec![byte]).into()))
            })
        }
    }

    #[tokio::test]
    async fn parts_come_in_the_order_asked_for_and_the_length_is_right() {
        let multipart = MultipartBody::new("application/octet-stream", 10);
        let boundary = multipart.boundary.clone();
        let source = |part: Range<u64>| -> Box<dyn BodySource> {
            Box::new(Slow(
                (b'0'..=b'9')
                    .zip(0..)
                    .filter(|(_, at)| part.contains(at))
                    .map(|(byte, _)| byte)
                    .collect(),
            ))
        };
        let (body, len) = multipart.into_body(vec![5..8, 0..1], source);
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len() as u64, len);
        let part = |range: &str, bytes: &str| {
            format!(
                "\r\n--{boundary}\r\ncontent-type: application/octet-stream\r\n\
                 content-range: bytes {range}/10\r\n\r\n{bytes}"
            )
        };
        let want = format!("{}{}\r\n--{boundary}--\r\n", part("5-7", "567"), part("0-0", "0"));
        assert_eq!(String::from_utf8(bytes.to_vec()).unwrap(), want);
    }
    /// One byte, from something that is open as long as this is.
    struct Open(Arc<AtomicUsize>, Slow);

    impl BodySource for Open {
        fn next_now(&mut self) -> Option<NextBytes> {
            self.1.next_now()
        }

        fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
            self.1.next()
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A client that asks for a thousand ranges and does not read holds no more than one.
    #[tokio::test]
    async fn a_part_is_opened_when_its_turn_comes_and_closed_before_the_next() {
        let (open, opened) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&open), Arc::clone(&opened));
        let source = move |_: Range<u64>| -> Box<dyn BodySource> {
            counts.0.fetch_add(1, Ordering::Relaxed);
            counts.1.fetch_add(1, Ordering::Relaxed);
            Box::new(Open(Arc::clone(&counts.0), Slow(VecDeque::from([0]))))
        };
        let parts = (0..1024).map(|at| 2 * at..2 * at + 1).collect();
        let multipart = MultipartBody::new("application/octet-stream", 4096);
        let (mut body, _) = multipart.into_body(parts, source);
        let is_open = || open.load(Ordering::Relaxed);
        assert_eq!((is_open(), opened.load(Ordering::Relaxed)), (0, 0), "nobody reads yet");

        let mut most = 0;
        while let Some(frame) = body.frame().await {
            frame.unwrap();
            most = most.max(is_open());
        }
        assert_eq!((most, is_open(), opened.load(Ordering::Relaxed)), (1, 0, 1024));
    }
}
