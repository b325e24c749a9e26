//! Content addresses, and the one way to compute them.
//!
//! A [`Digest`] is a claim about bytes; a [`DigestHasher`] computes what is true of them. Whether a
//! claim holds for stored bytes is decided in the store, whose answer is a different type.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Sha256, Sha512};

/// The name of some bytes: a hash algorithm and the hash itself, as in `sha256:2c26…e7ae`.
///
/// A `Digest` is only ever *well formed*. It is a claim about bytes, made by a client, a
/// manifest or an upstream; nothing here says that the claim is true.
///
/// Two digests are equal when their text is. Upper-case hex is refused rather than folded: the
/// specification (image-spec, "Registered algorithms") does not allow it, and two spellings of
/// one name would be two cache entries.
///
/// # Examples
///
/// ```
/// # use larder::oci::Digest;
/// let hex = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
/// let digest: Digest = format!("sha256:{hex}").parse()?;
/// assert_eq!(digest.hex(), hex);
/// assert!("sha256:2C26".parse::<Digest>().is_err());
/// # Ok::<(), larder::oci::InvalidDigest>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    /// `algorithm:hex`, so that the hot path can hand out the text without building it.
    text: Box<str>,
    algorithm: Algorithm,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Whether this is the digest of no bytes at all.
    pub fn is_of_nothing(&self) -> bool {
        *self == Self::of(self.algorithm, b"")
    }

    /// The digest whose hash has these bytes; there must be as many as its algorithm gives.
    pub(crate) fn of_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        debug_assert_eq!(hash.len() * 2, algorithm.hex_len(), "a hash has a fixed length");
        let text = text_of(&format!("{}:", algorithm.as_str()), hash);
        Self { text: text.into_boxed_str(), algorithm }
    }

    /// The bytes of the hash.
    pub(crate) fn hash(&self) -> impl Iterator<Item = u8> {
        let digit = |byte: u8| if byte < b'a' { byte - b'0' } else { byte - b'a' + 10 };
        self.hex().as_bytes().as_chunks().0.iter().map(move |[a, b]| digit(*a) << 4 | digit(*b))
    }

    /// The algorithm of the hash.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash in lower-case hex, without its algorithm.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The whole text, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, hex) = text.split_once(':').ok_or(InvalidDigest::NoAlgorithm)?;
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(InvalidDigest::UnknownAlgorithm),
        };
        if hex.len() != algorithm.hex_len() {
            return Err(InvalidDigest::WrongLength { got: hex.len(), want: algorithm.hex_len() });
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidDigest::NotLowerHex);
        }
        Ok(Self { text: text.into(), algorithm })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A hash algorithm registered by the image-spec and computed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 64 hex digits.
    Sha256,
    /// SHA-512, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The algorithm's name in a digest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex digits a hash has.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// How many bytes a [`DigestHasher::state`] has.
    pub fn state_len(self) -> usize {
        self.serialised().0
    }

    /// How many bytes state and count of blocks have when they are serialised. A block of either
    /// algorithm is twice as long as its state.
    fn serialised(self) -> (usize, usize) {
        match self {
            Self::Sha256 => (32, 8),
            Self::Sha512 => (64, 16),
        }
    }
}

/// Computes a [`Digest`] over bytes as they pass.
#[derive(Clone)]
pub struct DigestHasher {
    state: HasherState,
}

#[derive(Clone)]
enum HasherState {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl DigestHasher {
    /// A hasher that has seen no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => HasherState::Sha256(Sha256::new()),
            Algorithm::Sha512 => HasherState::Sha512(Sha512::new()),
        };
        Self { state }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            HasherState::Sha256(hash) => hash.update(bytes),
            HasherState::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all bytes seen.
    pub fn finish(self) -> Digest {
        let (algorithm, text) = match self.state {
            HasherState::Sha256(hash) => (Algorithm::Sha256, text_of("sha256:", &hash.finalize())),
            HasherState::Sha512(hash) => (Algorithm::Sha512, text_of("sha512:", &hash.finalize())),
        };
        Digest { text: text.into_boxed_str(), algorithm }
    }
}

/// A hash can be interrupted where the bytes so far fill whole blocks of the algorithm, and later
/// be gone on with. This lets parts of a blob be verified alone: given the hash state at the begin
/// of a part, the state at its end proves the part.
impl DigestHasher {
    /// The state of the hash so far: [`Algorithm::state_len`] bytes.
    ///
    /// `None` unless the number of bytes seen is a multiple of 128.
    pub fn state(&self) -> Option<Vec<u8>> {
        match &self.state {
            HasherState::Sha256(hash) => state_of(hash, Algorithm::Sha256),
            HasherState::Sha512(hash) => state_of(hash, Algorithm::Sha512),
        }
    }

    /// A hasher that has seen `len` bytes and is in this `state`; `None` where there is no such.
    pub fn resumed(algorithm: Algorithm, state: &[u8], len: u64) -> Option<Self> {
        let state = match algorithm {
            Algorithm::Sha256 => HasherState::Sha256(resumed(algorithm, state, len)?),
            Algorithm::Sha512 => HasherState::Sha512(resumed(algorithm, state, len)?),
        };
        Some(Self { state })
    }
}

/// Takes the state out of a serialised hash, which consists of it, the number of blocks seen, and
/// the begin of the next block, which is empty here.
fn state_of<H: SerializableState>(hash: &H, algorithm: Algorithm) -> Option<Vec<u8>> {
    let (state_len, count_len) = algorithm.serialised();
    let serialised = hash.serialize();
    let (state, rest) = serialised.split_at_checked(state_len)?;
    let is_between_blocks = rest.get(count_len..)?.iter().all(|byte| *byte == 0);
    is_between_blocks.then(|| state.to_vec())
}

fn resumed<H: SerializableState>(algorithm: Algorithm, state: &[u8], len: u64) -> Option<H> {
    let (state_len, count_len) = algorithm.serialised();
    let block = state_len as u64 * 2;
    if state.len() != state_len || !len.is_multiple_of(block) {
        return None;
    }
    let mut serialised = SerializedState::<H>::default();
    serialised.get_mut(..state_len)?.copy_from_slice(state);
    let count = u128::from(len / block).to_le_bytes();
    serialised.get_mut(state_len..state_len + count_len)?.copy_from_slice(&count[..count_len]);
    H::deserialize(&serialised).ok()
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestHasher").finish_non_exhaustive()
    }
}

/// Why a text is not a [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDigest {
    /// There is no `:` in it.
    #[error("a digest is written `algorithm:hex`")]
    NoAlgorithm,
    /// The hash has a character outside `0-9a-f`.
    #[error("the hash is not lower-case hex")]
    NotLowerHex,
    /// The text does not begin with an algorithm that we can compute.
    #[error("the algorithm is neither sha256 nor sha512")]
    UnknownAlgorithm,
    /// The hash is too short or too long for its algorithm.
    #[error("the hash has {got} hex digits, not {want}")]
    WrongLength {
        /// How many digits there were.
        got: usize,
        /// How many there must be.
        want: usize,
    },
}

fn text_of(prefix: &str, hash: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(prefix.len() + hash.len() * 2);
    text.push_str(prefix);
    for byte in hash {
        text.push(HEX[usize::from(byte >> 4)].into());
        text.push(HEX[usize::from(byte & 15)].into());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_blob_has_its_well_known_digests() {
        let sha256 = Digest::of(Algorithm::Sha256, b"");
        assert_eq!(
            sha256.as_str(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let sha512 = Digest::of(Algorithm::Sha512, b"");
        assert!(sha512.as_str().starts_with("sha512:cf83e1357eefb8bd"), "{sha512}");
        assert_eq!(sha512.hex().len(), 128);
        assert_eq!(sha512.as_str().parse::<Digest>().unwrap(), sha512);
    }

    /// A digest names a file on disk, so anything but plain hex of the right length is refused.
    #[test]
    fn what_is_not_an_algorithm_and_lower_hex_is_refused() {
        let hex = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let wrong_length = |got| InvalidDigest::WrongLength { got, want: 64 };
        let table = [
            (String::new(), InvalidDigest::NoAlgorithm),
            (hex.to_owned(), InvalidDigest::NoAlgorithm),
            ("sha256:".to_owned(), wrong_length(0)),
            (format!("sha256:{}", &hex[1..]), wrong_length(63)),
            (format!("sha256:{hex}0"), wrong_length(65)),
            (format!("sha256:{}", hex.to_uppercase()), InvalidDigest::NotLowerHex),
            (format!("SHA256:{hex}"), InvalidDigest::UnknownAlgorithm),
            (format!("sha1:{hex}"), InvalidDigest::UnknownAlgorithm),
            (format!("md5:{hex}"), InvalidDigest::UnknownAlgorithm),
            (format!("sha256+b64u:{hex}"), InvalidDigest::UnknownAlgorithm),
            ("sha256:../../../etc/passwd".to_owned(), wrong_length(19)),
            (format!("sha256:{}", "/".repeat(64)), InvalidDigest::NotLowerHex),
            (format!("sha256:{}", "٣".repeat(32)), InvalidDigest::NotLowerHex),
            (format!("sha512:{hex}"), InvalidDigest::WrongLength { got: 64, want: 128 }),
            (format!("sha256:{hex}\n"), wrong_length(65)),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<Digest>().unwrap_err(), want, "{text:?}");
        }
    }

    /// Checksums of parts, kept on disk, are such states: they must go on meaning the same.
    #[test]
    fn a_hash_goes_on_from_its_state() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut begun = DigestHasher::new(algorithm);
            begun.update(&bytes[..512]);
            let state = begun.state().unwrap();
            assert_eq!(state.len(), algorithm.state_len());

            let mut resumed = DigestHasher::resumed(algorithm, &state, 512).unwrap();
            assert_eq!(resumed.state().unwrap(), state);
            resumed.update(&bytes[512..]);
            assert_eq!(resumed.finish(), Digest::of(algorithm, &bytes));

            begun.update(&bytes[512..513]);
            assert_eq!(begun.state(), None, "in mid-block there is more to know");
            assert!(DigestHasher::resumed(algorithm, &state[1..], 512).is_none());
            assert!(DigestHasher::resumed(algorithm, &state, 513).is_none());
        }
        let empty = DigestHasher::new(Algorithm::Sha256).state().unwrap();
        // The initial value of SHA-256 (FIPS 180-4, 5.3.3), in little-endian words.
        assert_eq!(empty[..8], [0x67, 0xe6, 0x09, 0x6a, 0x85, 0xae, 0x67, 0xbb]);
    }
}
