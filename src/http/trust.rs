//! Whose certificates a client believes.
//!
//! The platform's roots, and beside them what the operator gave. Every configuration names its
//! crypto provider: rustls's process-wide default panics when features bring in none or two.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The TLS configuration of a client that believes the platform's roots and `ca_pem`.
///
/// A platform without roots (a container from scratch) is a fault only if roots are needed and
/// `ca_pem` gives none.
///
/// # Errors
///
/// [`TrustError`] tells what is wrong with the certificates.
pub fn client_config(
    ca_pem: Option<&[u8]>,
    roots_are_needed: bool,
) -> Result<ClientConfig, TrustError> {
    let mut roots = PLATFORM.clone();
    if let Some(pem) = ca_pem {
        add(&mut roots, pem)?;
    }
    if roots.is_empty() && roots_are_needed {
        return Err(TrustError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
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
    add(&mut RootCertStore::empty(), pem)
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), TrustError> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| TrustError::NotPem(error.to_string()))?;
        roots.add(certificate).map_err(TrustError::NotACertificate)?;
        count += 1;
    }
    if count == 0 { Err(TrustError::NoCertificate) } else { Ok(()) }
}

/// What is wrong with the certificates to trust.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The PEM has no certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_ca_file_is_named_for_what_is_wrong_with_it() {
        let error = |pem: &str| client_config(Some(pem.as_bytes()), true).err();
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
        assert!(client_config(Some(issued.cert.pem().as_bytes()), true).is_ok());
    }
}
