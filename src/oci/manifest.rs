//! What the cache needs to know of a manifest, and nothing more.
//!
//! A manifest's bytes are opaque and stay as they came; this file reads from them which digests
//! they name and which kind they say they are. It never writes JSON, never follows `urls`, and
//! never recurses into another document.

use serde::Deserialize;

use super::{Digest, MediaType};

/// The facts read from a manifest's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFacts {
    /// The body's own `mediaType`, when it has one that is well formed.
    pub media_type: Option<MediaType>,
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
    /// [`InvalidManifest`] when the bytes are no JSON object, or could be read both as an index
    /// and as an image (CVE-2021-41190).
    pub fn read(body: &[u8]) -> Result<Self, InvalidManifest> {
        // A map first: serde would also read an array into a struct.
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|_| InvalidManifest::NotJson)?;
        let loose: LooseManifest =
            serde_json::from_value(object.into()).map_err(|_| InvalidManifest::NotJson)?;
        if loose.layers.is_some() && loose.manifests.is_some() {
            return Err(InvalidManifest::Ambiguous);
        }
        let lists = [loose.layers, loose.manifests, loose.blobs].into_iter().flatten().flatten();
        let descriptors = loose
            .config
            .into_iter()
            .chain(lists)
            .filter_map(LooseDescriptor::read)
            .take(Self::DESCRIPTORS_MAX)
            .collect();
        let media_type = loose.media_type.and_then(|text| text.parse().ok());
        Ok(Self { media_type, descriptors })
    }
}

/// Why bytes are not a manifest that can be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidManifest {
    /// It has both `layers` and `manifests`.
    #[error("the manifest has both `layers` and `manifests`")]
    Ambiguous,
    /// It is not a JSON object.
    #[error("the manifest is not a JSON object")]
    NotJson,
}

/// Members may have any type: what does not fit is as good as absent, because these bytes are
/// passed on verbatim and are not ours to judge.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LooseManifest {
    #[serde(default, deserialize_with = "lenient")]
    media_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    config: Option<LooseDescriptor>,
    #[serde(default, deserialize_with = "lenient")]
    layers: Option<Vec<LooseDescriptor>>,
    #[serde(default, deserialize_with = "lenient")]
    manifests: Option<Vec<LooseDescriptor>>,
    #[serde(default, deserialize_with = "lenient")]
    blobs: Option<Vec<LooseDescriptor>>,
}

#[derive(Deserialize)]
struct LooseDescriptor {
    #[serde(default, deserialize_with = "lenient")]
    digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    size: Option<u64>,
}

impl LooseDescriptor {
    fn read(self) -> Option<Descriptor> {
        Some(Descriptor { digest: self.digest?.parse().ok()?, size: self.size })
    }
}

fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

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
        assert_eq!(facts, ManifestFacts { media_type: None, descriptors: Vec::new() });
    }
}
