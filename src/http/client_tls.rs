//! Whose certificates are believed, by us as a client and of clients, and which one a client shows.
//!
//! The platform's roots, and beside them what the operator gave. Every configuration names its
//! crypto provider: rustls's process-wide default panics when features bring in none or two.

use std::sync::{Arc, LazyLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretSlice};

use super::server_verifier::ServerVerifier;

/// A certificate to show, and its key.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The certificate and those between it and its authority, as PEM.
    pub cert_pem: Vec<u8>,
    /// The key, as PEM; printed by nothing.
    pub key_pem: SecretSlice<u8>,
}

/// The TLS configuration of a client that believes the platform's roots and `ca_pem`, and shows
/// `identity` to servers that ask for a certificate.
///
/// A platform without roots (a container from scratch) is a fault only if roots are needed and
/// `ca_pem` gives none.
///
/// # Errors
///
/// [`TrustError`] tells what is wrong with the certificates.
pub fn client_config(
    ca_pem: Option<&[u8]>,
    identity: Option<&ClientIdentity>,
    roots_are_needed: bool,
) -> Result<ClientConfig, TrustError> {
    let mut roots = PLATFORM.clone();
    let given = ca_pem.map(certificates_of).transpose()?.unwrap_or_default();
    add(&mut roots, &given)?;
    if roots.is_empty() && roots_are_needed {
        return Err(TrustError::NoRoots);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?;
    let config = if roots.is_empty() {
        config.with_root_certificates(roots)
    } else {
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let webpki = webpki.build().map_err(|error| TrustError::Verifier(error.to_string()))?;
        let verifier = ServerVerifier::new(webpki, given);
        config.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    };
    match identity {
        None => Ok(config.with_no_client_auth()),
        Some(identity) => {
            let chain = certificates_of(&identity.cert_pem)?;
            // Its message could show what is in the file.
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.expose_secret());
            let key = key.map_err(|_| TrustError::NoKey)?;
            config.with_client_auth_cert(chain, key).map_err(TrustError::Key)
        }
    }
}

/// Read once, however many upstreams there are: it is some 150 files or one large one.
static PLATFORM: LazyLock<RootCertStore> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
});

/// Whether `pem` holds certificates that can be trusted, and nothing that is broken.
///
/// # Errors
///
/// [`TrustError`] tells what is wrong with it.
pub fn check_ca(pem: &[u8]) -> Result<(), TrustError> {
    roots_of(pem).map(drop)
}

/// The certificates of `pem`, and no others.
pub(super) fn roots_of(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    add(&mut roots, &certificates_of(pem)?)?;
    Ok(roots)
}

fn add(roots: &mut RootCertStore, given: &[CertificateDer<'static>]) -> Result<(), TrustError> {
    given
        .iter()
        .try_for_each(|certificate| roots.add(certificate.clone()))
        .map_err(TrustError::NotACertificate)
}

/// The certificates of `pem`, of which there is at least one.
fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TrustError::NotPem(error.to_string()))?;
    if certificates.is_empty() { Err(TrustError::NoCertificate) } else { Ok(certificates) }
}

/// A fault of the certificates to trust.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The key cannot be used, or is not the certificate's.
    #[error("the key does not belong to the certificate, or cannot be used: {0}")]
    Key(rustls::Error),
    /// The PEM has no certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// The PEM has no private key in it.
    #[error("there is no private key in it")]
    NoKey,
    /// The platform has no trusted roots, and none were given.
    #[error("the system has no trusted CA certificates; install them or set `ca`")]
    NoRoots,
    /// A section of the PEM does not hold a certificate.
    #[error("a certificate in it cannot be read: {0}")]
    NotACertificate(rustls::Error),
    /// The text is not PEM.
    #[error("it is not PEM: {0}")]
    NotPem(String),
    /// The crypto provider offers no usable protocol version.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    /// No certificate can be checked with them.
    #[error("they cannot be used to check certificates: {0}")]
    Verifier(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_ca_file_is_named_for_what_is_wrong_with_it() {
        let error = |pem: &str| client_config(Some(pem.as_bytes()), None, true).err();
        assert_eq!(error(""), Some(TrustError::NoCertificate));
        assert_eq!(error("hello"), Some(TrustError::NoCertificate));
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(error(key), Some(TrustError::NoCertificate));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(error(cut), Some(TrustError::NotPem(_))));
        let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(error(hollow), Some(TrustError::NotACertificate(_))));
    }

    #[test]
    fn a_good_ca_file_is_added() {
        let issued = rcgen::generate_simple_self_signed(["up.test".to_owned()]).unwrap();
        assert!(client_config(Some(issued.cert.pem().as_bytes()), None, true).is_ok());
    }
}
