//! The data of a body: bytes, or a part of a file that stands for its bytes.

use bytes::{Buf, Bytes};

use super::sendfile::FileSlice;

/// Some bytes of a body.
#[derive(Debug)]
pub enum BodyData {
    /// In a file, which the connection sends.
    File(FileSlice),
    /// In memory.
    Memory(Bytes),
}

impl BodyData {
    /// How many bytes they are.
    pub fn len(&self) -> usize {
        self.remaining()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.has_remaining()
    }
}

impl From<Bytes> for BodyData {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

/// Always in one part: hyper writes buffers wrongly when they are in several (hyper#4132).
impl Buf for BodyData {
    fn remaining(&self) -> usize {
        match self {
            Self::File(slice) => slice.remaining(),
            Self::Memory(bytes) => bytes.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::File(slice) => slice.chunk(),
            Self::Memory(bytes) => bytes.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::File(slice) => slice.advance(count),
            Self::Memory(bytes) => bytes.advance(count),
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        match self {
            Self::File(slice) => slice.copy_to_bytes(len),
            Self::Memory(bytes) => bytes.copy_to_bytes(len),
        }
    }
}
