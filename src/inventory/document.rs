//! A manifest, read for what an operator wants to know of it.
//!
//! Which digests it lists is read as the cache reads it ([`ManifestFacts`]). Platforms and types of
//! its parts are labels: a manifest whose labels cannot be read has none.

use std::collections::HashMap;

use serde_json::Value;

use crate::oci::{Digest, ManifestFacts};

/// The parts that a manifest lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManifestDocument {
    /// The parts, in their order.
    pub parts: Vec<ManifestPart>,
    /// The manifest that it refers to, as a signature does.
    pub subject: Option<Digest>,
}

/// One thing that a manifest lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestPart {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes, where the manifest states it.
    pub size: Option<u64>,
    /// Its use.
    pub kind: PartKind,
    /// As the manifest states it.
    pub media_type: Option<String>,
    /// Operating system, architecture and variant of a child: `linux/arm64/v8`.
    pub platform: Option<String>,
}

/// The use of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// A manifest that no client runs: an attestation of another one.
    Attestation,
    /// A manifest.
    Child,
    /// The configuration of an image.
    Config,
    /// A layer, or a blob of an artifact.
    Layer,
    /// A layer that clients fetch from elsewhere, and registries need not have.
    Foreign,
}

impl ManifestPart {
    /// Whether it is a blob, and no manifest.
    pub fn is_content(&self) -> bool {
        matches!(self.kind, PartKind::Config | PartKind::Layer | PartKind::Foreign)
    }
}

impl ManifestDocument {
    /// Reads a body; `None` when it is no manifest that is ever cached.
    pub fn read(body: &[u8]) -> Option<Self> {
        let facts = ManifestFacts::read(body).ok()?;
        let json = serde_json::from_str(&String::from_utf8_lossy(body)).unwrap_or(Value::Null);
        let labels = labels(&json);
        let part = |digest: Digest, size| {
            let label = labels.get(digest.as_str());
            let text = |name: &str| label.and_then(|label| label.json.get(name)?.as_str());
            let media_type = text("mediaType").map(str::to_owned);
            let platform = label.and_then(|label| platform(label.json));
            let kind = label.map_or(PartKind::Layer, |label| label.kind(platform.as_deref()));
            ManifestPart { digest, size, kind, media_type, platform }
        };
        let parts = facts.descriptors.into_iter();
        let parts = parts.map(|named| part(named.digest, named.size)).collect();
        let subject = json.pointer("/subject/digest").and_then(Value::as_str);
        Some(Self { parts, subject: subject.and_then(|digest| digest.parse().ok()) })
    }

    /// The manifests that it lists, without attestations.
    pub fn children(&self) -> impl Iterator<Item = &ManifestPart> {
        self.parts.iter().filter(|part| part.kind == PartKind::Child)
    }
}

/// A descriptor, and the member of the manifest that it stands in.
struct PartLabel<'j> {
    member: &'static str,
    json: &'j Value,
}

impl PartLabel<'_> {
    fn kind(&self, platform: Option<&str>) -> PartKind {
        let is_foreign = || {
            let media_type = self.json.get("mediaType").and_then(Value::as_str).unwrap_or_default();
            media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
        };
        match self.member {
            "manifests" if platform == Some("unknown/unknown") => PartKind::Attestation,
            "manifests" => PartKind::Child,
            "config" => PartKind::Config,
            _ if is_foreign() => PartKind::Foreign,
            _ => PartKind::Layer,
        }
    }
}

fn labels(json: &Value) -> HashMap<&str, PartLabel<'_>> {
    let mut labels = HashMap::new();
    for member in ["config", "layers", "blobs", "manifests"] {
        let found = json.get(member);
        let one = found.filter(|found| found.is_object());
        let many = found.and_then(Value::as_array).into_iter().flatten();
        for json in one.into_iter().chain(many) {
            if let Some(digest) = json.get("digest").and_then(Value::as_str) {
                labels.insert(digest, PartLabel { member, json });
            }
        }
    }
    labels
}

fn platform(descriptor: &Value) -> Option<String> {
    let platform = descriptor.get("platform")?;
    let member = |name| platform.get(name)?.as_str();
    let (os, architecture) = (member("os")?, member("architecture")?);
    let variant = member("variant").filter(|variant| !variant.is_empty());
    let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    Some(format!("{os}/{architecture}{variant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

    #[test]
    fn parts_have_their_kind_size_and_platform() {
        let image = format!(
            r#"{{"config":{{"digest":"{A}","size":2}},"layers":[{{"digest":"{B}","size":3,
            "mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}},{{"digest":"{C}"}}]}}"#
        );
        let document = ManifestDocument::read(image.as_bytes()).unwrap();
        let kinds: Vec<_> = document.parts.iter().map(|part| (part.kind, part.size)).collect();
        let want =
            [(PartKind::Config, Some(2)), (PartKind::Foreign, Some(3)), (PartKind::Layer, None)];
        assert_eq!(kinds, want);

        let index = format!(
            r#"{{"manifests":[{{"digest":"{A}","platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}},
            {{"digest":"{B}","platform":{{"os":"unknown","architecture":"unknown"}}}},
            {{"digest":"{C}","platform":7}}]}}"#
        );
        let document = ManifestDocument::read(index.as_bytes()).unwrap();
        let children: Vec<_> = document.children().map(|part| part.platform.as_deref()).collect();
        assert_eq!(children, [Some("linux/arm64/v8"), None]);
        assert_eq!(document.parts[1].kind, PartKind::Attestation);
    }

    /// Clients pull such a manifest, and the cache serves it.
    #[test]
    fn a_manifest_with_labels_that_cannot_be_read_has_its_parts_without_them() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        let body =
            format!(r#"{{"config":{{"digest":"{A}"}},"layers":[],"annotations":{{"x":{deep}}}}}"#);
        let document = ManifestDocument::read(body.as_bytes()).unwrap();
        assert_eq!(document.parts.len(), 1);
        assert_eq!(ManifestDocument::read(b"no manifest"), None);
    }
}
