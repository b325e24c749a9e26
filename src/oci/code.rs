//! The error codes that clients act on.
//!
//! Source: distribution-spec, "Error Codes". The wording for a given case is chosen where the
//! reply is built; a code is only the word in the `code` member.

use std::fmt;

/// A code from the distribution-spec's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The blob is not known to the repository.
    BlobUnknown,
    /// The upload is invalid, for example out of order.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// The access is refused.
    Denied,
    /// The digest in the request is malformed or of an algorithm we cannot compute.
    DigestInvalid,
    /// The manifest is malformed.
    ManifestInvalid,
    /// The manifest is not known to the repository.
    ManifestUnknown,
    /// The repository name is malformed.
    NameInvalid,
    /// The registry or repository is not known.
    NameUnknown,
    /// Not in the specification's table but used widely: `n` is no number.
    PaginationNumberInvalid,
    /// Something in the request has a wrong length, or too many of something.
    SizeInvalid,
    /// Too many requests.
    TooManyRequests,
    /// Authentication is required.
    Unauthorized,
    /// Not in the specification's table but used widely: the registry behind cannot answer.
    Unavailable,
    /// The operation is not supported.
    Unsupported,
}

impl ErrorCode {
    /// The word as it stands in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
