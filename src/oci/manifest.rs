//! The facts of a manifest that the cache needs, and no others.
//!
//! A manifest's bytes are opaque and stay as they came; this file reads from them which digests
//! they name and which kind they say they are. It never writes JSON, never follows `urls`, and
//! never recurses into another document. Members that it needs not know are skipped: clients pull
//! manifests whose annotations have invalid UTF-8, a lone surrogate, any number, or any depth.

use std::collections::BTreeMap;

use serde::de::Deserialize;
use serde_json::value::RawValue;

use super::{Digest, MediaType};

/// The facts read from a manifest's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFacts {
    /// The body's own `mediaType`, when it has one that is well formed.
    pub media_type: Option<MediaType>,
    /// The kind that its members are those of, for one that has no other type: OCI 1.0 needs no
    /// `mediaType`, and object storage sends no `Content-Type` that says more.
    pub shape: Option<MediaType>,
    /// Everything it lists: config, layers, blobs, child manifests. Not its subject, which may
    /// be absent from the repository (distribution-spec, "Pushing manifests with subject").
    pub descriptors: Vec<Descriptor>,
}

/// One thing that a manifest lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes, when the manifest states a sane one.
    pub size: Option<u64>,
}

impl ManifestFacts {
    /// The most descriptors that are read. 4 MiB of JSON hold fewer than 60,000.
    pub const DESCRIPTORS_MAX: usize = 100_000;

    /// Reads the facts.
    ///
    /// Descriptors whose digest is malformed or of an unknown algorithm are left out: they name
    /// nothing that could be asked for here.
    ///
    /// # Errors
    ///
    /// [`InvalidManifest`] when the bytes are no JSON object, could be read both as an index and as
    /// an image (CVE-2021-41190), or are an error that an upstream sent as a manifest.
    pub fn read(body: &[u8]) -> Result<Self, InvalidManifest> {
        // Only texts that are not needed can have bytes that are not UTF-8.
        let body = String::from_utf8_lossy(body);
        let members: Members<'_> =
            serde_json::from_str(&body).map_err(|_| InvalidManifest::NotJson)?;
        let list = |name| member::<Vec<&RawValue>>(&members, name);
        let (layers, manifests) = (list("layers"), list("manifests"));
        let media_type: Option<String> = member(&members, "mediaType");
        let shape = match (&layers, &manifests) {
            (Some(_), Some(_)) => return Err(InvalidManifest::Ambiguous),
            (None, Some(_)) => OCI_INDEX.parse().ok(),
            (Some(_), None) if member::<Members<'_>>(&members, "config").is_some() => {
                OCI_IMAGE.parse().ok()
            }
            _ => None,
        };
        let is_error = ERROR_KEYS.iter().any(|key| members.contains_key(*key));
        let is_typed = members.contains_key("schemaVersion") || media_type.is_some();
        if is_error && !is_typed && shape.is_none() {
            return Err(InvalidManifest::Error);
        }
        let lists = [layers, manifests, list("blobs")].into_iter().flatten().flatten();
        let all = members.get("config").copied().into_iter().chain(lists);
        let descriptors = all.filter_map(Descriptor::read).take(Self::DESCRIPTORS_MAX).collect();
        let media_type = media_type.and_then(|text| text.parse().ok());
        Ok(Self { media_type, shape, descriptors })
    }
}

impl Descriptor {
    fn read(json: &RawValue) -> Option<Self> {
        let members: Members<'_> = serde_json::from_str(json.get()).ok()?;
        let digest: String = member(&members, "digest")?;
        Some(Self { digest: digest.parse().ok()?, size: member(&members, "size") })
    }
}

/// Why bytes are not a manifest that can be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidManifest {
    /// It has both `layers` and `manifests`.
    #[error("the manifest has both `layers` and `manifests`")]
    Ambiguous,
    /// It is an error of the specification or of a gateway.
    #[error("it is no manifest but an error")]
    Error,
    /// It is not a JSON object.
    #[error("the manifest is not a JSON object")]
    NotJson,
}

/// The members of a JSON object, not read yet. The last of two with the same name counts.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// A member. One of another type is as good as absent, because these bytes are passed on verbatim
/// and are not ours to judge.
fn member<'a, T: Deserialize<'a>>(members: &Members<'a>, name: &str) -> Option<T> {
    serde_json::from_str(members.get(name)?.get()).ok()
}

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Members of an error of the specification, or of a gateway.
pub const ERROR_KEYS: &[&str] = &["errors", "error", "message"];

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn an_image_lists_its_config_and_layers_and_an_index_its_children() {
        let image = format!(
            r#"{{"mediaType":"application/x","config":{{"digest":"{A}","size":2}},"layers":[{{"digest":"{B}","size":-1}}]}}"#
        );
        let facts = ManifestFacts::read(image.as_bytes()).unwrap();
        let want = [
            Descriptor { digest: A.parse().unwrap(), size: Some(2) },
            Descriptor { digest: B.parse().unwrap(), size: None },
        ];
        assert_eq!(facts.descriptors, want);
        assert_eq!(facts.media_type.unwrap().as_str(), "application/x");

        let index = format!(r#"{{"manifests":[{{"digest":"{A}"}}],"subject":{{"digest":"{B}"}}}}"#);
        let facts = ManifestFacts::read(index.as_bytes()).unwrap();
        assert_eq!(facts.descriptors, [Descriptor { digest: A.parse().unwrap(), size: None }]);
    }

    #[test]
    fn what_could_be_read_two_ways_or_not_at_all_is_refused() {
        assert_eq!(
            ManifestFacts::read(br#"{"layers":[],"manifests":[]}"#),
            Err(InvalidManifest::Ambiguous)
        );
        let deep = "[".repeat(100_000);
        for bad in ["", "[]", "null", "1", "\"\"", "{", "<html>", "{} trailing", deep.as_str()] {
            assert_eq!(
                ManifestFacts::read(bad.as_bytes()),
                Err(InvalidManifest::NotJson),
                "{bad:.20}"
            );
        }
    }

    #[test]
    fn odd_members_are_as_good_as_absent() {
        let odd = br#"{"mediaType":5,"layers":[{"digest":"sha256:../..","size":"5"},{"urls":["http://169.254.169.254/"]}],"config":[]}"#;
        let facts = ManifestFacts::read(odd).unwrap();
        assert_eq!(facts.media_type, None);
        assert_eq!(facts.descriptors, []);
    }

    /// Clients pull all of these directly.
    #[test]
    fn members_that_are_not_needed_may_be_anything() {
        let deep = ["[".repeat(5000), "]".repeat(5000)].concat();
        let layer = |member: &[u8]| {
            let head = format!(r#"{{"layers":[{{"digest":"{A}","size":1,"annotations":"#);
            [head.as_bytes(), member, b"}],\"annotations\":", member, b"}"].concat()
        };
        for member in [
            &b"{\"a\":\"J\xfcrgen\"}"[..],
            br#"{"a":"J\udcfcrgen"}"#,
            br#"{"a":1e400,"b":-1e-400,"c":123456789012345678901234567890}"#,
            deep.as_bytes(),
            b"null",
        ] {
            let facts = ManifestFacts::read(&layer(member)).unwrap();
            let want = Descriptor { digest: A.parse().unwrap(), size: Some(1) };
            assert_eq!(facts.descriptors, [want], "{}", String::from_utf8_lossy(member));
        }
        for bad in [&b"{\"a\":1e}"[..], b"[}", b"\"\x01\"", b"{\"a\" 1}"] {
            assert_eq!(ManifestFacts::read(&layer(bad)), Err(InvalidManifest::NotJson));
        }
    }

    #[test]
    fn the_members_tell_the_kind_where_no_type_does() {
        for (body, want) in [
            (r#"{"schemaVersion":2,"config":{},"layers":[]}"#, Some(OCI_IMAGE)),
            (r#"{"schemaVersion":2,"manifests":[]}"#, Some(OCI_INDEX)),
            (r#"{"layers":[]}"#, None),
            (r#"{"config":{}}"#, None),
            (r#"{"config":5,"layers":[]}"#, None),
            (r#"{"manifests":{}}"#, None),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None),
            ("{}", None),
        ] {
            let shape = ManifestFacts::read(body.as_bytes()).unwrap().shape;
            assert_eq!(shape.as_ref().map(MediaType::as_str), want, "{body}");
        }
    }

    #[test]
    fn an_error_is_no_manifest() {
        for body in [r#"{"errors":[]}"#, r#"{"error":"x","layers":[]}"#, r#"{"message":1}"#] {
            let read = ManifestFacts::read(body.as_bytes());
            assert_eq!(read, Err(InvalidManifest::Error), "{body}");
        }
        for body in [r#"{"errors":[],"schemaVersion":2}"#, r#"{"error":"x","manifests":[]}"#] {
            assert!(ManifestFacts::read(body.as_bytes()).is_ok(), "{body}");
        }
    }
}
