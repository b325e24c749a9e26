//! A certificate authority of the test's own, and servers behind TLS.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use larder::http::Connection;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

use super::network::Server;

/// An authority that nobody else trusts.
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestCa {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// The authority's certificate, as the `ca` key takes it.
    pub fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    /// `server`, with a certificate for `host` that this authority signed.
    pub fn protect(&self, host: &str, server: impl Server) -> TlsServer {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        TlsServer { acceptor: TlsAcceptor::from(Arc::new(config)), inner: Arc::new(server) }
    }
}

/// A server that speaks TLS.
pub struct TlsServer {
    acceptor: TlsAcceptor,
    inner: Arc<dyn Server>,
}

impl Server for TlsServer {
    fn serve(&self, io: Connection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            if let Ok(stream) = self.acceptor.accept(io).await {
                self.inner.serve(Box::new(stream)).await;
            }
        })
    }
}
