//! The name of a blob in the order of eviction: a digest in 40 bytes.

use crate::oci::{Algorithm, Digest};

/// A digest by its hash, without the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum BlobKey {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

impl BlobKey {
    pub(super) fn of(digest: &Digest) -> Self {
        match digest.algorithm() {
            Algorithm::Sha256 => Self::Sha256(hash_of(digest)),
            Algorithm::Sha512 => Self::Sha512(Box::new(hash_of(digest))),
        }
    }

    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest::of_hash(Algorithm::Sha256, hash),
            Self::Sha512(hash) => Digest::of_hash(Algorithm::Sha512, hash.as_slice()),
        }
    }
}

fn hash_of<const N: usize>(digest: &Digest) -> [u8; N] {
    let mut hash = [0; N];
    hash.iter_mut().zip(digest.hash()).for_each(|(to, from)| *to = from);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_digest() {
        assert_eq!(size_of::<BlobKey>(), 40);
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"x");
            assert_eq!(BlobKey::of(&digest).digest(), digest);
        }
    }
}
