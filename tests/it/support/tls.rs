//! A certificate authority of the test's own, and servers behind TLS.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use larder::http::NetworkConnection;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

use super::network::Server;

/// An authority that only the test trusts.
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

    /// A certificate for `host` and its key, as PEM.
    pub fn issue(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// `server`, with a certificate for `host` that this authority signed.
    pub fn protect(&self, host: &str, server: impl Server) -> TlsServer {
        let config = self.server_config(host);
        TlsServer { acceptor: TlsAcceptor::from(Arc::new(config)), inner: Arc::new(server) }
    }

    /// TLS with a certificate for `host` that this authority signed.
    pub fn server_config(&self, host: &str) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap()
    }
}

/// A server that speaks TLS.
pub struct TlsServer {
    acceptor: TlsAcceptor,
    inner: Arc<dyn Server>,
}

impl Server for TlsServer {
    fn serve(&self, io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            if let Ok(stream) = self.acceptor.accept(io).await {
                self.inner.serve(Box::new(stream)).await;
            }
        })
    }
}
