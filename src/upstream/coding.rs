//! The coding of a body by its `Content-Encoding` (RFC 9110, 8.4), and decoding of gzip.
//!
//! Larder asks for no coding. The label comes all the same: web servers and object stores label
//! files that are compressed anyway, or state no coding at all (`aws-chunked`, `binary`, `none`).
//! The bytes of a blob are what its digest says, whatever the label. Documents (manifests, lists,
//! tokens, errors) that a gateway has compressed are decoded, since no client takes them otherwise;
//! whether a manifest is the right one is for its digest to say, afterwards.

use std::io::{self, Read as _};

use bytes::buf::Reader;
use bytes::{Buf as _, Bytes};
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// The longest document that is taken compressed, in bytes: a manifest's limit. The decoded
/// document is read in pieces, with the limit that it has uncompressed.
pub(super) const GZIP_BYTES_MAX: usize = 4 << 20;

/// How a document may be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DocumentCoding {
    /// By gzip, if it begins as gzip does.
    Gzip,
    /// Not at all.
    Plain,
}

impl DocumentCoding {
    /// The coding that the headers of a document state; `None` for one that cannot be decoded.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut coding = Self::Plain;
        for line in headers.get_all(CONTENT_ENCODING) {
            for label in line.to_str().ok()?.split(',') {
                match &*label.trim().to_ascii_lowercase() {
                    "" | "aws-chunked" | "binary" | "identity" | "none" | "utf-8" => {}
                    "gzip" | "x-gzip" if coding == Self::Plain => coding = Self::Gzip,
                    _ => return None,
                }
            }
        }
        Some(coding)
    }
}

/// A document that is decoded as it is read.
pub(super) struct GzipDocument {
    decoder: MultiGzDecoder<Reader<Bytes>>,
}

impl GzipDocument {
    /// The document in `bytes`, or the bytes themselves if they do not begin as gzip does
    /// (RFC 1952, 2.3.1).
    pub(super) fn new(bytes: Bytes) -> Result<Self, Bytes> {
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(bytes);
        }
        Ok(Self { decoder: MultiGzDecoder::new(bytes.reader()) })
    }

    /// The next bytes, at most [`PIECE_LEN`]; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Bytes> {
        let mut piece = Vec::new();
        (&mut self.decoder).take(PIECE_LEN).read_to_end(&mut piece)?;
        Ok(piece.into())
    }
}

/// A few bytes can become a thousand times as many, so that no more are decoded than are wanted.
const PIECE_LEN: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn labels_that_say_nothing_are_plain_and_unknown_ones_are_not_taken() {
        use DocumentCoding::{Gzip, Plain};
        for (lines, want) in [
            (&[][..], Some(Plain)),
            (&[""], Some(Plain)),
            (&["identity"], Some(Plain)),
            (&["Identity, none"], Some(Plain)),
            (&["aws-chunked"], Some(Plain)),
            (&["binary"], Some(Plain)),
            (&["UTF-8"], Some(Plain)),
            (&["gzip"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["aws-chunked,gzip"], Some(Gzip)),
            (&["aws-chunked", " GZIP "], Some(Gzip)),
            (&["gzip, gzip"], None),
            (&["gzip", "x-gzip"], None),
            (&["br"], None),
            (&["deflate"], None),
            (&["zstd"], None),
            (&["compress"], None),
            (&["ä"], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
                headers.append(CONTENT_ENCODING, value);
            }
            assert_eq!(DocumentCoding::of(&headers), want, "{lines:?}");
        }
    }
}
