//! The facts of a manifest that the cache needs, and no others.
//!
//! A manifest's bytes are opaque and stay as they came; this file reads from them which digests
//! they name and which kind they say they are. It never writes JSON, never follows `urls`, and
//! never recurses into another document. Members that it needs not know are skipped: clients pull
//! manifests whose annotations have invalid UTF-8, a lone surrogate, any number, or any depth.

use serde::de::Deserialize;
use serde_json::value::RawValue;

use super::json::{elements, members};
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
    /// The most descriptors that are read, over all lists: a hundred times what large images and
    /// indexes have. The upstream is asked about anything that the rest names.
    pub const DESCRIPTORS_MAX: usize = 16_384;

    /// Reads the facts.
    ///
    /// Descriptors whose digest is malformed or of an unknown algorithm are left out: they name
    /// nothing that could be asked for here. So are those behind the first 16,384 of the document.
    ///
    /// # Errors
    ///
    /// [`InvalidManifest`] when the bytes are no JSON object, could be read both as an index and as
    /// an image (CVE-2021-41190), or are an error that an upstream sent as a manifest.
    pub fn read(body: &[u8]) -> Result<Self, InvalidManifest> {
        // Only texts that are not needed can have bytes that are not UTF-8.
        let body = String::from_utf8_lossy(body);
        let own = ["mediaType", "schemaVersion", "config", "layers", "manifests", "blobs"];
        let [media_type, version, config, layers, manifests, blobs] =
            members(&body, &own).map_err(|_| InvalidManifest::NotJson)?;
        let media_type = media_type.and_then(read::<String>);
        let shape = match (layers.is_some_and(is_list), manifests.is_some_and(is_list)) {
            (true, true) => return Err(InvalidManifest::Ambiguous),
            (false, true) => OCI_INDEX.parse().ok(),
            (true, false) if config.is_some_and(is_object) => OCI_IMAGE.parse().ok(),
            _ => None,
        };
        let is_typed = version.is_some() || media_type.is_some();
        if !is_typed && shape.is_none() && is_error(&body) {
            return Err(InvalidManifest::Error);
        }
        let mut all: Vec<&RawValue> = config.into_iter().collect();
        for list in [layers, manifests, blobs].into_iter().flatten() {
            let left = Self::DESCRIPTORS_MAX - all.len();
            all.extend(elements(list, left).unwrap_or_default());
        }
        let descriptors = all.into_iter().filter_map(Descriptor::read).collect();
        let media_type = media_type.and_then(|text| text.parse().ok());
        Ok(Self { media_type, shape, descriptors })
    }
}

impl Descriptor {
    fn read(json: &RawValue) -> Option<Self> {
        let [digest, size] = members(json.get(), &["digest", "size"]).ok()?;
        let digest: String = read(digest?)?;
        Some(Self { digest: digest.parse().ok()?, size: size.and_then(read) })
    }
}

/// Whether a JSON object is an error of the specification, or of a gateway.
pub fn is_error(json: &str) -> bool {
    let keys = members(json, &["errors", "error", "message"]);
    keys.is_ok_and(|keys| keys.iter().any(Option::is_some))
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

/// A member. One of another type is as good as absent, because these bytes are passed on verbatim
/// and are not ours to judge.
fn read<'a, T: Deserialize<'a>>(member: &'a RawValue) -> Option<T> {
    serde_json::from_str(member.get()).ok()
}

fn is_list(member: &RawValue) -> bool {
    member.get().starts_with('[')
}

fn is_object(member: &RawValue) -> bool {
    member.get().starts_with('{')
}

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The longest manifest that is taken, in bytes. Clients and registries stop at 4 MiB
/// (distribution-spec, "Pushing manifests"; containerd a little above).
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

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

    /// Four megabytes of JSON name 50,000 blobs, or have a million members that name nothing.
    #[test]
    fn descriptors_are_read_up_to_a_bound_over_all_lists() {
        let count = |layers: &str, blobs: &str| {
            let body =
                format!(r#"{{"config":{{"digest":"{B}"}},"layers":[{layers}],"blobs":[{blobs}]}}"#);
            ManifestFacts::read(body.as_bytes()).unwrap().descriptors.len()
        };
        let many = |descriptor: &str, count: usize| vec![descriptor; count].join(",");
        let named = format!(r#"{{"digest":"{A}"}}"#);
        let max = ManifestFacts::DESCRIPTORS_MAX;
        assert_eq!(count(&many(&named, max), &named), max);
        assert_eq!(count(&many(&named, 10), &many(&named, max)), max);
        assert_eq!(count(&many(&named, 10), &many(&named, 10)), 21);
        assert_eq!(count(&many("{}", 1_000_000), &named), 1);
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
