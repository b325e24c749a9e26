//! References to manifests: a tag or a digest.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Digest, InvalidDigest};

/// A tag, as in `latest`.
///
/// Grammar: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution-spec, "Pulling manifests"), so it
/// is always a plain file name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    text: Arc<str>,
}

impl Tag {
    /// The longest tag, in bytes.
    pub const LEN_MAX: usize = 128;

    /// The whole tag.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the tag stands in for the referrers of a digest, at registries that have none
    /// (distribution-spec, "Referrers Tag Schema"): `sha256-` and 64 hexadecimal digits. Tags of
    /// signatures, with an ending such as `.sig`, do not.
    pub fn is_of_referrers(&self) -> bool {
        let Some((algorithm, hex)) = self.as_str().split_once('-') else { return false };
        let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        matches!(algorithm, "sha256" | "sha512") && hex.len() == 64 && is_hex
    }
}

impl FromStr for Tag {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_with_word = text.bytes().next().is_some_and(word);
        let rest_is_plain = text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        if text.len() > Self::LEN_MAX || !starts_with_word || !rest_is_plain {
            return Err(InvalidReference::Tag);
        }
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A tag or a digest. A reference with a colon is a digest: no tag can have one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// Immutable content.
    Digest(Digest),
    /// A name that the upstream may move.
    Tag(Tag),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') {
            return text.parse().map(Self::Digest).map_err(InvalidReference::Digest);
        }
        text.parse().map(Self::Tag)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

/// Why a text is not a [`Reference`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReference {
    /// It has a colon but is not a digest.
    #[error(transparent)]
    Digest(InvalidDigest),
    /// It has no colon and is not a tag.
    #[error("the tag does not follow the grammar of the distribution-spec")]
    Tag,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_referrers_is_an_algorithm_and_a_hash() {
        let hex = "0a".repeat(32);
        for (tag, want) in [
            (format!("sha256-{hex}"), true),
            (format!("sha512-{hex}"), true),
            (format!("sha256-{hex}.sig"), false),
            (format!("sha256-{}", &hex[1..]), false),
            (format!("sha256-{}g", &hex[1..]), false),
            (format!("md5-{hex}"), false),
            (hex.clone(), false),
            ("latest".to_owned(), false),
        ] {
            assert_eq!(tag.parse::<Tag>().unwrap().is_of_referrers(), want, "{tag}");
        }
    }

    #[test]
    fn tags_follow_the_grammar_and_a_colon_makes_a_digest() {
        let hex = "0".repeat(64);
        let longest = "a".repeat(128);
        for tag in ["latest", "_x", "V1.2-rc_3", hex.as_str(), longest.as_str(), "sha256-abc.sig"] {
            assert!(matches!(tag.parse(), Ok(Reference::Tag(_))), "{tag:?}");
        }
        assert!(matches!(format!("sha256:{hex}").parse(), Ok(Reference::Digest(_))));
        let too_long = "a".repeat(129);
        for bad in
            ["", ".x", "-x", "..", "a/b", "a:b", "a\0", "a b", "ä", "sha256:", too_long.as_str()]
        {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }
}
