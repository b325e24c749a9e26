//! Blobs, image manifests and indexes with real digests, the same for the same seed.

use std::fmt;

use bytes::Bytes;
use larder::oci::{Algorithm, Digest};
use serde_json::{Value, json};

pub const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// Some bytes and their name.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    pub bytes: Bytes,
}

impl Blob {
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(Algorithm::Sha256, &bytes), bytes }
    }

    /// `len` incompressible bytes, the same for the same seed and length.
    pub fn random(seed: u64, len: usize) -> Self {
        let mut bytes = vec![0; len];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        Self::new(bytes)
    }

    /// Many bytes, quickly: one random MiB again and again, each time with its number in front.
    pub fn large(seed: u64, len: usize) -> Self {
        let mut piece = Self::random(seed, 1 << 20).bytes.to_vec();
        let mut bytes = Vec::with_capacity(len);
        for number in 0_u64.. {
            piece[..8].copy_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&piece[..piece.len().min(len - bytes.len())]);
            if bytes.len() == len {
                break;
            }
        }
        Self::new(bytes)
    }

    /// The same bytes under their SHA-512 name.
    pub fn by_sha512(&self) -> Self {
        Self { digest: Digest::of(Algorithm::Sha512, &self.bytes), bytes: self.bytes.clone() }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Its path in `repository`, at the mirror door.
    pub fn path(&self, repository: &str) -> String {
        format!("/v2/{repository}/blobs/{}", self.digest)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest.as_str(), "size": self.len() })
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.digest, self.len())
    }
}

/// A manifest as it is stored: bytes, their name, and the type that they are served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: String,
    pub blob: Blob,
}

impl Manifest {
    /// Any bytes under any type.
    pub fn raw(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self { media_type: media_type.to_owned(), blob: Blob::new(bytes) }
    }

    /// An index over `children`.
    pub fn index(children: &[&Self]) -> Self {
        let children: Vec<_> =
            children.iter().map(|child| child.blob.descriptor(&child.media_type)).collect();
        let body = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
        Self::raw(OCI_INDEX, pretty(&body))
    }

    /// An index over images of these architectures of Linux.
    pub fn of_platforms(children: &[(&Image, &str)]) -> Self {
        let entry = |(image, architecture): &(&Image, &str)| {
            let mut entry = image.manifest.blob.descriptor(&image.manifest.media_type);
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entry
        };
        let children: Vec<_> = children.iter().map(entry).collect();
        let body = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
        Self::raw(OCI_INDEX, pretty(&body))
    }

    pub fn digest(&self) -> &Digest {
        &self.blob.digest
    }

    /// Its path in `repository` by digest, at the mirror door.
    pub fn path(&self, repository: &str) -> String {
        format!("/v2/{repository}/manifests/{}", self.digest())
    }
}

/// An image of one platform.
#[derive(Clone, Debug)]
pub struct Image {
    pub manifest: Manifest,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

impl Image {
    /// An OCI image of layers of these lengths.
    pub fn random(seed: u64, layer_lens: &[usize]) -> Self {
        Self::of_type(OCI_IMAGE, seed, layer_lens)
    }

    /// An image of layers of these lengths, its manifest of this type.
    pub fn of_type(media_type: &str, seed: u64, layer_lens: &[usize]) -> Self {
        let config = Blob::new(format!(r#"{{"architecture":"amd64","seed":{seed}}}"#));
        let layers = (0..).zip(layer_lens).map(|(i, len)| Blob::random(seed * 1000 + i, *len));
        Self::of_parts(media_type, config, layers.collect())
    }

    /// The same with one more layer, which other images may have as well.
    pub fn with_layer(&self, layer: &Blob) -> Self {
        let layers = self.layers.iter().chain([layer]).cloned().collect();
        Self::of_parts(&self.manifest.media_type, self.config.clone(), layers)
    }

    fn of_parts(media_type: &str, config: Blob, layers: Vec<Blob>) -> Self {
        let descriptors: Vec<_> = layers
            .iter()
            .map(|layer| layer.descriptor("application/vnd.oci.image.layer.v1.tar+gzip"))
            .collect();
        let body = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": descriptors,
        });
        Self { manifest: Manifest::raw(media_type, pretty(&body)), config, layers }
    }

    /// The config and the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// Indented, because only bytes that a serialiser would not choose show that none was used.
fn pretty(body: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(body).unwrap();
    bytes.push(b'\n');
    bytes
}
