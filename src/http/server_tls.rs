//! TLS towards clients: the certificate that is shown, and the authorities that are trusted.
//!
//! The certificate can be replaced at any time. Connections that stand keep the one they were
//! opened with; handshakes that begin later get the new one. The paths of the files, and when they
//! are read again, are not known here.

use parking_lot::RwLock;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::client_tls::roots_of;
use super::peer::names_in;
use super::{HostPort, NetworkConnection, TrustError};

/// A certificate with its chain, and the key that belongs to it.
#[derive(Clone)]
pub struct ServerCertificate {
    certified: Arc<CertifiedKey>,
}

impl ServerCertificate {
    /// Reads both, and sees to it that they belong together.
    pub fn from_pem(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(cert_pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| IdentityError::CertificateNotPem(error.to_string()))?;
        if chain.is_empty() {
            return Err(IdentityError::NoCertificate);
        }
        let key = aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(private_key(key_pem)?)
            .map_err(IdentityError::UnusableKey)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(Self { certified: Arc::new(certified) })
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch),
            Err(error) => Err(IdentityError::NotACertificate(error)),
        }
    }

    fn shows_the_same_as(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain: Vec<usize> = self.certified.cert.iter().map(|cert| cert.len()).collect();
        f.debug_struct("ServerCertificate").field("chain", &chain).finish_non_exhaustive()
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    // Both forms, `ENCRYPTED PRIVATE KEY` and `Proc-Type: 4,ENCRYPTED`, say it in words.
    if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(IdentityError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => IdentityError::NoKey,
        error => IdentityError::KeyNotPem(error.to_string()),
    })
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// A fault of a certificate and its key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A section of the certificate's PEM is broken.
    #[error("the certificate is not PEM: {0}")]
    CertificateNotPem(String),
    /// The key needs a passphrase.
    #[error("the key is encrypted")]
    EncryptedKey,
    /// The key's PEM is broken.
    #[error("the key is not PEM: {0}")]
    KeyNotPem(String),
    /// They are not of one pair.
    #[error("the key does not belong to the certificate")]
    Mismatch,
    /// There is no certificate in the PEM.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// There is no key in the PEM.
    #[error("there is no private key in it")]
    NoKey,
    /// The first section is no certificate.
    #[error("the certificate cannot be read: {0}")]
    NotACertificate(rustls::Error),
    /// The key is of a kind that is not known.
    #[error("the key cannot be used: {0}")]
    UnusableKey(rustls::Error),
}

impl IdentityError {
    /// Whether it is the key's file that has to change, and not the certificate's.
    pub fn is_of_key(&self) -> bool {
        match self {
            Self::EncryptedKey
            | Self::KeyNotPem(_)
            | Self::Mismatch
            | Self::NoKey
            | Self::UnusableKey(_) => true,
            Self::CertificateNotPem(_) | Self::NoCertificate | Self::NotACertificate(_) => false,
        }
    }
}

/// Whose certificates clients may show.
#[derive(Clone, Debug)]
pub struct ClientCa {
    /// PEM certificates of authorities.
    pub pem: Vec<u8>,
    /// Whether a client without a certificate is turned away.
    pub is_required: bool,
}

/// The TLS settings of a listener. Clones share the certificate.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    shown: Arc<CurrentCertificate>,
}

impl ServerTls {
    /// TLS with this certificate, towards clients that ask for one of `names` or for none; all
    /// names are good if there are none.
    pub fn new(
        identity: ServerCertificate,
        clients: Option<&ClientCa>,
        names: &[HostPort],
    ) -> Result<Self, TrustError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Tls)?;
        let names = names.iter().map(|name| name.host.to_string()).collect();
        let shown = Arc::new(CurrentCertificate { identity: RwLock::new(identity), names });
        let config = match clients {
            Some(clients) => config.with_client_cert_verifier(verifier(clients, provider)?),
            None => config.with_no_client_auth(),
        };
        let mut config =
            config.with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), shown })
    }

    /// Whether this is the certificate that new connections are shown.
    pub fn shows(&self, identity: &ServerCertificate) -> bool {
        let shown = self.shown.identity.read();
        shown.shows_the_same_as(identity)
    }

    /// When the certificate that new connections are shown ends; `None` if it cannot be read.
    pub fn certificate_end(&self) -> Option<SystemTime> {
        let shown = self.shown.identity.read();
        let certificate = Certificate::from_der(shown.certified.cert.first()?).ok()?;
        let end = certificate.tbs_certificate().validity().not_after;
        Some(SystemTime::UNIX_EPOCH + end.to_unix_duration())
    }

    /// Shows another certificate from now on. Says whether it is another one.
    pub fn replace(&self, identity: ServerCertificate) -> bool {
        let mut shown = self.shown.identity.write();
        let is_other = !shown.shows_the_same_as(&identity);
        *shown = identity;
        is_other
    }

    /// Shakes hands, and says what the client's certificate calls it, if it has shown one. Not for
    /// an accept loop: a client can take ten seconds over it.
    pub async fn accept(
        &self,
        io: NetworkConnection,
    ) -> io::Result<(NetworkConnection, Vec<String>)> {
        let shaking = TlsAcceptor::from(Arc::clone(&self.config)).accept(io);
        let shaken = timeout(HANDSHAKE_MAX, shaking).await;
        let stream = shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let names = certificate.map(names_in).unwrap_or_default();
        Ok((Box::new(stream), names))
    }
}

/// A client that has not finished its handshake by then is not going to.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

fn verifier(
    clients: &ClientCa,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TrustError> {
    let roots = Arc::new(roots_of(&clients.pem)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let builder = if clients.is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| TrustError::Verifier(error.to_string()))
}

/// The certificate that is shown at present.
#[derive(Debug)]
struct CurrentCertificate {
    identity: RwLock<ServerCertificate>,
    names: Vec<String>,
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A client that connects by IP address sends no name; `Host` will tell.
        let is_ours = |name: &str| self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        if !self.names.is_empty() && hello.server_name().is_some_and(|name| !is_ours(name)) {
            return None;
        }
        let shown = self.identity.read();
        Some(Arc::clone(&shown.certified))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn pair() -> (String, String) {
        let issued = rcgen::generate_simple_self_signed(["larder.test".to_owned()]).unwrap();
        (issued.cert.pem(), issued.signing_key.serialize_pem())
    }

    #[test]
    fn a_bad_pair_is_named_for_what_is_wrong_with_it() {
        let (cert, key) = pair();
        let (other_cert, other_key) = pair();
        let error = |cert: &str, key: &str| {
            ServerCertificate::from_pem(cert.as_bytes(), key.as_bytes())
                .expect_err("it must be refused")
        };
        assert!(ServerCertificate::from_pem(cert.as_bytes(), key.as_bytes()).is_ok());
        let chain = format!("{cert}{other_cert}");
        assert!(ServerCertificate::from_pem(chain.as_bytes(), key.as_bytes()).is_ok());

        assert_eq!(error(&cert, &other_key), IdentityError::Mismatch);
        assert_eq!(error("", &key), IdentityError::NoCertificate);
        assert_eq!(error(&key, &key), IdentityError::NoCertificate);
        assert_eq!(error(&cert, ""), IdentityError::NoKey);
        assert_eq!(error(&cert, &cert), IdentityError::NoKey);
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(error(&cert, &locked), IdentityError::EncryptedKey);
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA\n\
                   -----END RSA PRIVATE KEY-----\n";
        assert_eq!(error(&cert, old), IdentityError::EncryptedKey);
        let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(error(hollow, &key), IdentityError::NotACertificate(_)));
        let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(error(&cert, empty), IdentityError::UnusableKey(_)));
        let cut = &cert[..cert.len() / 2];
        assert!(matches!(error(cut, &key), IdentityError::CertificateNotPem(_)));
        let cut = &key[..key.len() / 2];
        assert!(matches!(error(&cert, cut), IdentityError::KeyNotPem(_)));
    }

    /// Ten thousand silent connections must not be held for ever.
    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_end_is_given_up() {
        let (cert, key) = pair();
        let identity = ServerCertificate::from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        let tls = ServerTls::new(identity, None, &[]).unwrap();
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"\x16\x03\x01").await.unwrap();
        let began = tokio::time::Instant::now();

        let error = tls.accept(Box::new(server)).await.err().expect("it must be given up");

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}
