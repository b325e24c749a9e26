//! Signatures of bundles, as cosign makes and verifies them for files: ECDSA over P-256 and
//! SHA-256, in base64.
//!
//! Signed is `index.json`: its digests say all bytes of the images, its annotations their names.
//! A signature has no time, so an old bundle verifies for as long as its key is trusted.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

use super::BundleError;

/// The file with the signature, beside `index.json`.
pub(super) const SIGNATURE_FILE: &str = "index.json.sig";

/// Why a file has no key for signatures of bundles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleKeyError {
    /// It has none.
    #[error("it has no {0} key in PEM")]
    NoKey(&'static str),
    /// Its key is under a passphrase.
    #[error("its key is encrypted")]
    Encrypted,
    /// Its key is of another kind.
    #[error("its key is none of ECDSA over P-256")]
    OtherKind,
}

impl BundleKeyError {
    /// Advice.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Encrypted => {
                "Larder cannot ask for a passphrase; `openssl pkey` removes it, and a bundle that \
                 is signed by cosign is imported as well"
            }
            Self::NoKey("public") => {
                "`openssl pkey -in KEY -pubout` and `cosign public-key` print it"
            }
            Self::NoKey(_) | Self::OtherKind => {
                "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
            }
        }
    }
}

/// The private key by which bundles are signed.
pub struct BundleSigner {
    key: EcdsaKeyPair,
}

impl BundleSigner {
    /// The key in a PEM, as PKCS #8 or SEC 1.
    ///
    /// # Errors
    ///
    /// If there is none that can be used. The text shows nothing of it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BundleKeyError> {
        let is_encrypted = String::from_utf8_lossy(pem).contains("ENCRYPTED");
        let none =
            if is_encrypted { BundleKeyError::Encrypted } else { BundleKeyError::NoKey("private") };
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| none)?;
        let key =
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_der());
        key.map(|key| Self { key }).map_err(|_| BundleKeyError::OtherKind)
    }

    /// The file with the signature of an index.
    pub(super) fn sign(&self, index: &[u8]) -> Result<Vec<u8>, BundleError> {
        let signed = self.key.sign(&SystemRandom::new(), index);
        let signature = signed.map_err(|_| BundleError::Unsignable)?;
        Ok(STANDARD.encode(signature).into_bytes())
    }
}

/// A public key whose bundles are trusted.
#[derive(Clone, Debug)]
pub struct BundleKey {
    key: ParsedPublicKey,
}

impl BundleKey {
    /// The keys in a PEM.
    ///
    /// # Errors
    ///
    /// If there is none, or one that cannot be used.
    pub fn all_in_pem(pem: &[u8]) -> Result<Vec<Self>, BundleKeyError> {
        let mut keys = Vec::new();
        for der in SubjectPublicKeyInfoDer::pem_slice_iter(pem) {
            let der = der.map_err(|_| BundleKeyError::NoKey("public"))?;
            let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &der);
            keys.push(Self { key: key.map_err(|_| BundleKeyError::OtherKind)? });
        }
        if keys.is_empty() { Err(BundleKeyError::NoKey("public")) } else { Ok(keys) }
    }

    /// Whether the file with the signature of an index is by this key.
    pub(super) fn has_signed(&self, index: &[u8], file: &[u8]) -> bool {
        let signature = STANDARD.decode(file.trim_ascii());
        signature.is_ok_and(|signature| self.key.verify_sig(index, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> rcgen::KeyPair {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
    }

    #[test]
    fn a_signature_is_of_one_index_by_one_key() {
        let index = br#"{"manifests":[]}"#;
        let (pair, stranger) = (pair(), pair());
        let file = BundleSigner::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        let file = file.sign(index).unwrap();
        let both = format!("{}{}", stranger.public_key_pem(), pair.public_key_pem());
        let both = BundleKey::all_in_pem(both.as_bytes()).unwrap();
        let [other, key] = both.as_slice() else { panic!("{both:?}") };
        assert!(key.has_signed(index, &file));
        assert!(key.has_signed(index, &[&file[..], b"\n"].concat()));
        assert!(!other.has_signed(index, &file));
        assert!(!key.has_signed(br#"{"manifests":[ ]}"#, &file));
        for bad in [&b""[..], b"not base64!", b"aGVsbG8=", &file[..20]] {
            assert!(!key.has_signed(index, bad), "{bad:?}");
        }
    }

    #[test]
    fn a_file_without_a_key_that_can_be_used_is_told_with_the_reason() {
        let pair = pair();
        let fault = |pem: &str| BundleSigner::from_pem(pem.as_bytes()).err().unwrap();
        assert_eq!(fault(""), BundleKeyError::NoKey("private"));
        assert_eq!(fault(&pair.public_key_pem()), BundleKeyError::NoKey("private"));
        let sealed = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED \
                      SIGSTORE PRIVATE KEY-----\n";
        assert_eq!(fault(sealed), BundleKeyError::Encrypted);
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(fault(&other.serialize_pem()), BundleKeyError::OtherKind);
        let fault = |pem: &str| BundleKey::all_in_pem(pem.as_bytes()).err().unwrap();
        assert_eq!(fault(&pair.serialize_pem()), BundleKeyError::NoKey("public"));
        assert_eq!(fault(&other.public_key_pem()), BundleKeyError::OtherKind);
    }
}
