//! Media types of manifests, and what a client is willing to take.
//!
//! Types are compared without parameters and without regard to case (RFC 9110, 8.3.1).

use std::fmt;
use std::str::FromStr;

/// A media type without parameters, in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MediaType {
    text: Box<str>,
}

impl MediaType {
    /// The longest media type, in bytes: RFC 6838 allows 127 on either side of the slash.
    pub const LEN_MAX: usize = 255;

    /// The whole type.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it can say *which* kind of manifest the bytes are: a vendor's type, as every kind
    /// has. A generic type (`application/json`) cannot, nor can one that a browser would run.
    pub fn is_manifest(&self) -> bool {
        self.text.starts_with("application/vnd.") && !self.text.ends_with("xml")
    }

    /// Whether it is one of Docker's schema 1 types, whose digest is not over the body.
    pub fn is_schema1(&self) -> bool {
        self.text.starts_with("application/vnd.docker.distribution.manifest.v1+")
    }
}

impl FromStr for MediaType {
    type Err = InvalidMediaType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let token = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b))
        };
        let well_formed = essence.split_once('/').is_some_and(|(a, b)| token(a) && token(b));
        if essence.len() > Self::LEN_MAX || !well_formed {
            return Err(InvalidMediaType);
        }
        Ok(Self { text: essence.to_ascii_lowercase().into_boxed_str() })
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text is not `type/subtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a media type")]
pub struct InvalidMediaType;

/// The `Accept` header for upstreams, the same for every client. Index types come first, because a
/// multi-architecture tag must resolve to its index.
pub const MANIFEST_ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json";

/// The media types that a client's `Accept` lines name, q-values read, order of no account.
///
/// Clients send one line, many lines, or none, in any order (containerd one, dockerd many in
/// random order).
#[derive(Clone, Debug)]
pub struct AcceptSet<'a> {
    /// Without those of `q=0`.
    ranges: Vec<&'a str>,
    /// `q=0`.
    refused: Vec<&'a str>,
}

impl<'a> AcceptSet<'a> {
    /// How many ranges are read; the rest is ignored. Real clients send fewer than ten.
    pub const RANGES_MAX: usize = 64;

    /// Reads all `Accept` lines of a request.
    pub fn parse(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self { ranges: Vec::new(), refused: Vec::new() };
        let items = lines.into_iter().flat_map(|line| line.split(',')).take(Self::RANGES_MAX);
        for item in items {
            let (range, parameters) = item.split_once(';').unwrap_or((item, ""));
            let range = range.trim();
            if range.is_empty() {
                continue;
            }
            let weight = parameters.split(';').map(str::trim).find_map(|part| {
                part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")).map(str::trim)
            });
            let is_refused = weight.and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
            if is_refused { set.refused.push(range) } else { set.ranges.push(range) }
        }
        set
    }

    /// Whether the client can take a manifest of this type. No `Accept` at all takes anything.
    pub fn takes(&self, media_type: &MediaType) -> bool {
        let text = media_type.as_str();
        let family = text.split_once('/').map(|(family, _)| family).unwrap_or_default();
        let matches = |range: &&str| {
            range.eq_ignore_ascii_case(text)
                || *range == "*/*"
                || range.strip_suffix("/*").is_some_and(|it| it.eq_ignore_ascii_case(family))
        };
        if self.refused.iter().any(|range| range.eq_ignore_ascii_case(text)) {
            return false;
        }
        if self.ranges.is_empty() {
            return !self.refused.iter().any(matches);
        }
        self.ranges.iter().any(matches)
    }

    /// The types of manifests in it as one `Accept` value, which can be a cache key: there are few
    /// of them, whatever clients make up. A generic type for a client that takes none of them.
    pub fn to_header(&self) -> String {
        let known = MANIFEST_ACCEPT.split(", ").chain(SCHEMA_1);
        let taken = |it: &&str| it.parse().is_ok_and(|media_type| self.takes(&media_type));
        let mut types: Vec<_> = known.filter(taken).collect();
        types.sort_unstable();
        if types.is_empty() { GENERIC.to_owned() } else { types.join(", ") }
    }
}

/// The types of Docker's schema 1, signed and not.
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A type that no manifest has.
const GENERIC: &str = "application/json";

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const V2S2: &str = "application/vnd.docker.distribution.manifest.v2+json";

    fn takes(lines: &[&str], media_type: &str) -> bool {
        AcceptSet::parse(lines.iter().copied()).takes(&media_type.parse().unwrap())
    }

    #[test]
    fn a_client_takes_what_its_accept_lines_name() {
        assert!(takes(&[], INDEX), "no Accept takes anything");
        assert!(takes(&[V2S2, INDEX], INDEX), "many lines are one set");
        assert!(takes(&["application/vnd.OCI.image.index.v1+json;q=0.5"], INDEX));
        assert!(takes(&["*/*"], INDEX) && takes(&["Application/*"], INDEX));
        assert!(!takes(&[V2S2], INDEX));
        assert!(!takes(&["*/*;q=0"], INDEX));
        assert!(!takes(&[&format!("{INDEX};q=0, */*")], INDEX));
        assert!(!takes(&["text/html"], INDEX));
    }

    #[test]
    fn order_and_repetition_do_not_make_another_set() {
        let one = AcceptSet::parse([INDEX, V2S2]).to_header();
        let shouted = INDEX.to_uppercase();
        let line = format!("{V2S2}, {shouted} ;q=0.9,{V2S2}");
        assert_eq!(one, AcceptSet::parse([line.as_str()]).to_header());
        assert_eq!(one, format!("{V2S2}, {INDEX}"));
    }

    #[test]
    fn types_that_no_manifest_has_do_not_make_another_set() {
        let header = |lines: &[&str]| AcceptSet::parse(lines.iter().copied()).to_header();
        for made_up in ["application/vnd.x1.v1+json", "text/html;q=0.3", "application/json"] {
            assert_eq!(header(&[V2S2, made_up]), V2S2, "{made_up}");
            assert_eq!(header(&[made_up]), GENERIC, "{made_up}");
        }
        let all = header(&[]);
        let but_index = all.replace(&format!(", {INDEX}"), "");
        assert!(all.contains(INDEX) && !but_index.contains(INDEX));
        assert_eq!(header(&["*/*", &format!("{INDEX};q=0")]), but_index);
    }

    #[test]
    fn parameters_and_case_do_not_make_another_type() {
        let plain: MediaType = INDEX.parse().unwrap();
        let adorned: MediaType =
            "Application/vnd.oci.image.INDEX.v1+json; charset=utf-8".parse().unwrap();
        assert_eq!(plain, adorned);
        for bad in ["", "json", "a/b/c", "a/\r\nX: y", "/", "a /b"] {
            assert!(bad.parse::<MediaType>().is_err(), "{bad:?}");
        }
    }
}
