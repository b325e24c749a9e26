//! Why an archive is not taken, or not made.

use std::io;

use crate::oci::{Digest, MediaType};
use crate::store::DigestMismatch;

/// Why an archive is not taken, or not made. Nothing that clients see has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The archive cannot be read: it is damaged, no archive at all, or the input failed.
    #[error("cannot read the archive: {0}")]
    Unreadable(#[source] io::Error),
    /// The archive ends in the middle of a file.
    #[error("the archive ends in the middle of `{0}`")]
    Cut(String),
    /// A path that leads out of the archive, or cannot be read.
    #[error("the path `{0}` is no path in the archive")]
    BadPath(String),
    /// A link, a device, or another entry that is no plain file.
    #[error("`{name}` is {kind}, and only plain files are taken")]
    NotAFile {
        /// Its path.
        name: String,
        /// The sort of entry.
        kind: &'static str,
    },
    /// Two entries with one path: readers differ in which of them counts.
    #[error("`{0}` is in the archive twice")]
    Duplicate(String),
    /// More entries than are taken.
    #[error("the archive has more than {0} entries")]
    TooMany(usize),
    /// A file that is longer than it may be.
    #[error("`{name}` is said to have {bytes} bytes, more than the {max} that it may have")]
    TooLong {
        /// Its path.
        name: String,
        /// Its length as the archive states it.
        bytes: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A file that the cache cannot hold, however much it evicts.
    #[error("`{name}` is said to have {bytes} bytes, for which the cache has no room")]
    TooLarge {
        /// Its path.
        name: String,
        /// Its length as the archive states it.
        bytes: u64,
    },
    /// A path below `blobs/` that is no digest.
    #[error("`{0}` is named by no digest")]
    NoDigest(String),
    /// A file whose bytes are not those of its name.
    #[error("`{name}` is damaged: {mismatch}")]
    Damaged {
        /// Its path.
        name: String,
        /// The two digests.
        mismatch: DigestMismatch,
    },
    /// The archive has none of the files by which its format is known.
    #[error(
        "it is no archive of images: neither `index.json`, `manifest.json` nor \
         `docker/registry/v2` is in it"
    )]
    Unknown,
    /// A file that describes the archive cannot be read.
    #[error("`{name}` cannot be read: {why}")]
    BadIndex {
        /// Its path.
        name: String,
        /// The reason.
        why: String,
    },
    /// An archive that is not signed, where only signed ones are taken.
    #[error("the archive is not signed, and the keys of `[import]` ask for a signature")]
    Unsigned,
    /// A signature by another key, or of another index.
    #[error("no key of `[import]` has signed the archive, or it was changed since")]
    WrongSignature,
    /// The key gives no signature.
    #[error("the key cannot sign")]
    Unsignable,
    /// The archive lists no image.
    #[error("there is no image in the archive")]
    Empty,
    /// An image without a name that can be used.
    #[error("the archive does not say the name of its image {0}")]
    Unnamed(String),
    /// A name that was given, and fits more than one image.
    #[error("the archive has {0} images, and one name was given")]
    OneName(usize),
    /// A content that an image lists, and that is neither in the archive nor in the cache.
    #[error("{image} lists {digest}, which is neither in the archive nor in the cache")]
    Missing {
        /// The image.
        image: String,
        /// The content.
        digest: Digest,
    },
    /// A content that was stored, and evicted before the import ended.
    #[error("{image} lists {digest}, which was evicted during the import")]
    Evicted {
        /// The image.
        image: String,
        /// The content.
        digest: Digest,
    },
    /// An index of which no manifest is there.
    #[error("{image}: no platform of the index {digest} is in the archive or in the cache")]
    Hollow {
        /// The image.
        image: String,
        /// The index.
        digest: Digest,
    },
    /// A content that has not the length that its manifest states.
    #[error("{image}: {digest} has {bytes} bytes, and {stated} are stated")]
    OtherLength {
        /// The image.
        image: String,
        /// The content.
        digest: Digest,
        /// Its length in bytes.
        bytes: u64,
        /// The stated length in bytes.
        stated: u64,
    },
    /// A content that is listed as a manifest, and is none that is cached.
    #[error("{image}: {digest} is no manifest: {why}")]
    NoManifest {
        /// The image.
        image: String,
        /// The content.
        digest: Digest,
        /// The reason.
        why: String,
    },
    /// A manifest that is listed as of another type than it says itself.
    #[error("{image}: the manifest {digest} is listed as {stated}, and says that it is {own}")]
    OtherType {
        /// The image.
        image: String,
        /// The manifest.
        digest: Digest,
        /// The listed type.
        stated: MediaType,
        /// Its own word.
        own: MediaType,
    },
    /// The disk has no room, whatever is evicted.
    #[error("there is no room for `{name}` in the cache: {error}")]
    NoSpace {
        /// The file.
        name: String,
        /// The reason that the disk gives.
        error: io::Error,
    },
    /// The store does not take or give a content.
    #[error("the cache directory cannot be used: {0}")]
    Store(#[source] io::Error),
    /// The bundle cannot be written.
    #[error("cannot write the bundle: {0}")]
    Unwritten(#[source] io::Error),
    /// A stored content that is not what it should be, or is gone.
    #[error("{0} was evicted or is damaged, so that the bundle is not complete")]
    Lost(Digest),
}

impl BundleError {
    /// Advice, if there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } | Self::Cut(_) => Some("copy it once more, or export it again"),
            Self::Missing { .. } => Some(
                "a bundle that was exported with `--minus` needs what the inventory lists: export \
                 it again with a new `larder inventory` of this cache",
            ),
            Self::Unnamed(_) => Some(
                "give its name: `--name registry/repository:tag`, or `--registry docker.io` for \
                 the tree of a registry",
            ),
            Self::Unsigned => Some(
                "export it with `--sign KEY`; `index.json` and `index.json.sig` come before the \
                 contents",
            ),
            Self::WrongSignature => Some("do not use it before its sender has confirmed it"),
            Self::OneName(_) => Some("leave the tag out of `--name`"),
            Self::TooLarge { .. } | Self::NoSpace { .. } | Self::Evicted { .. } => {
                Some("raise `max_size`, or give the cache a larger disk")
            }
            Self::Lost(_) => Some("`larder verify` finds damage; `larder pin` keeps an image"),
            _ => None,
        }
    }
}
