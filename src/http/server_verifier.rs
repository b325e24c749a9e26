//! Whether a server's certificate is trusted, where `ca` gives certificates beside the platform's.
//!
//! webpki decides, with one exception. `openssl req -x509` makes a certificate of a CA
//! (basicConstraints CA:TRUE) that signs itself, and many registries show it as their own, with the
//! same file as their clients' `ca`. webpki takes no CA's certificate for a server's, clients in Go
//! do. Here it is taken if it is, byte for byte, one of the given ones: trusting it to sign others
//! is more than trusting it to be itself. Name, validity and purpose must fit all the same, and the
//! handshake proves that the server has its key. It signs nothing by this: a certificate below it
//! goes through webpki alone.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

/// webpki's verifier, and the certificates that a server may show though they are a CA's.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerVerifier {
    /// Verifies by `webpki`, and takes those of `given`.
    pub(super) fn new(
        webpki: Arc<WebPkiServerVerifier>,
        given: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self { webpki, given }
    }

    /// Judges a certificate that webpki refuses for nothing but being a CA's.
    fn verify_given(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Result<ServerCertVerified, Error> {
        if !self.given.contains(certificate) {
            return Err(Error::Other(OtherError(Arc::new(CaAsServer))));
        }
        if !is_for_servers(certificate) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(error) if is_for_being_a_ca(&error) => self.verify_given(end_entity, server_name),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether webpki refused a server's certificate for CA:TRUE. It has found it valid at this time
/// before it looks at that, and has not looked at anything else.
fn is_for_being_a_ca(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else {
        return false;
    };
    matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Whether a certificate names server authentication among its purposes, or names none (RFC 5280,
/// 4.2.1.12).
fn is_for_servers(certificate: &[u8]) -> bool {
    let has = |oid: &[u8]| certificate.windows(oid.len()).any(|part| part == oid);
    !has(EXTENDED_KEY_USAGE) || has(SERVER_AUTH)
}

/// The object identifiers 2.5.29.37 and 1.3.6.1.5.5.7.3.1, in DER.
const EXTENDED_KEY_USAGE: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// A server shows a CA's certificate, which is none of those that were given.
#[derive(Debug, thiserror::Error)]
#[error("the server shows a CA certificate as its own; `ca` has to hold this very certificate")]
struct CaAsServer;
