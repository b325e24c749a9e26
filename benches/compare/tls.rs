//! How do clients reach servers over TLS? With a certificate of the run's own, and one cipher
//! suite.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// The servers' certificate, and clients that believe it.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client: Arc<ClientConfig>,
}

impl Tls {
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (cert, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        fs::write(&cert, issued.cert.pem())?;
        fs::write(&key, issued.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone())?;
        // Servers choose differently among several, and would be compared by their choice.
        let suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: suites,
            ..aws_lc_rs::default_provider()
        };
        let client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { cert, key, client: Arc::new(client) })
    }
}
