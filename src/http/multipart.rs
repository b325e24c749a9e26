//! Several ranges in one answer: `multipart/byteranges` (RFC 9110, 14.6).

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;

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

    /// The body with these parts in this order, and its length.
    pub fn into_body(
        self,
        parts: Vec<Range<u64>>,
        source: impl Fn(Range<u64>) -> Box<dyn BodySource>,
    ) -> (ReplyBody, u64) {
        let mut pieces = VecDeque::with_capacity(parts.len() * 2 + 1);
        let mut len = 0;
        for part in parts {
            let head = self.head(&part);
            len += head.len() as u64 + (part.end - part.start);
            pieces.push_back(MultipartPiece::Text(head));
            pieces.push_back(MultipartPiece::Bytes(source(part)));
        }
        let end = Bytes::from(format!("\r\n--{}--\r\n", self.boundary));
        len += end.len() as u64;
        pieces.push_back(MultipartPiece::Text(end));
        (ReplyBody::of(Box::new(PieceChain { pieces }), Some(len)), len)
    }

    fn head(&self, part: &Range<u64>) -> Bytes {
        let Self { boundary, content_type, total } = self;
        let (first, last) = (part.start, part.end - 1);
        Bytes::from(format!(
            "\r\n--{boundary}\r\ncontent-type: {content_type}\r\n\
             content-range: bytes {first}-{last}/{total}\r\n\r\n"
        ))
    }
}

enum MultipartPiece {
    Bytes(Box<dyn BodySource>),
    Text(Bytes),
}

/// One piece after the other.
struct PieceChain {
    pieces: VecDeque<MultipartPiece>,
}

impl BodySource for PieceChain {
    fn next_now(&mut self) -> Option<NextBytes> {
        loop {
            match self.pieces.front_mut() {
                None => return Some(Ok(None)),
                Some(MultipartPiece::Text(text)) => {
                    let text = std::mem::take(text);
                    self.pieces.pop_front();
                    return Some(Ok(Some(text.into())));
                }
                Some(MultipartPiece::Bytes(source)) => match source.next_now()? {
                    Ok(None) => drop(self.pieces.pop_front()),
                    next => return Some(next),
                },
            }
        }
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            loop {
                if let Some(next) = self.next_now() {
                    return next;
                }
                if let Some(MultipartPiece::Bytes(source)) = self.pieces.front_mut() {
                    match source.next().await {
                        Ok(None) => drop(self.pieces.pop_front()),
                        next => return next,
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
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
}
