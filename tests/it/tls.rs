//! TLS towards clients.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::support::client::RawClient;
use crate::support::instance::{TlsClient, client_of, free_address};
use crate::support::tls::TestCa;
use crate::support::{Blob, Fault, Gate, Instance, ScriptedRegistry, Version, When};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 1 << 20;

/// A mirror of docker.io over TLS.
struct Mirror {
    larder: Instance,
    hub: ScriptedRegistry,
    blob: Blob,
    ca: TestCa,
    tls: TlsClient,
}

impl Mirror {
    /// With these keys beside `cert` and `key`.
    async fn start(keys: &str) -> Self {
        let (hub, ca) = (ScriptedRegistry::new(), TestCa::new());
        let blob = Blob::random(1, LEN);
        hub.put_blob(REPOSITORY, &blob);
        let (cert, key) = ca.issue("larder.test");
        let address = free_address();
        let config = format!(
            "listen = '{address}'\n[tls]\ncert = 'tls.crt'\nkey = 'tls.key'\n{keys}\n\
             [registry.'docker.io']\nupstream = 'http://{}'\n",
            hub.listen().await
        );
        let ca_pem = String::from_utf8(ca.pem()).unwrap();
        let files = [("tls.crt", cert.as_str()), ("tls.key", &key), ("ca.pem", &ca_pem)];
        let larder = Instance::start(&files, &config).await;
        let tls = TlsClient::new(address, &ca.pem(), None);
        Self { larder, hub, blob, ca, tls }
    }

    fn path(&self) -> String {
        self.blob.path(REPOSITORY)
    }
}

#[tokio::test]
async fn blobs_are_pulled_over_tls_in_the_version_that_was_agreed_upon() {
    let mirror = Mirror::start("").await;
    for (version, offered, agreed) in [
        (Version::H2, &["h2", "http/1.1"][..], Some("h2")),
        (Version::Http11, &["http/1.1"], Some("http/1.1")),
        (Version::Http11, &[], None),
    ] {
        let tls = mirror.tls.offering(offered);
        let stream = tls.connect().await.unwrap();
        let got = stream.get_ref().1.alpn_protocol();
        assert_eq!(got, agreed.map(str::as_bytes), "{offered:?}");

        let reply = tls.client().try_get(version, &mirror.path()).await.unwrap();

        reply.assert_is(&mirror.blob);
    }
    let spdy = mirror.tls.offering(&["spdy/3"]).connect().await;
    assert!(spdy.is_err(), "no protocol in common is no connection");
    assert_eq!(mirror.hub.gets(&mirror.blob.digest).len(), 1);
}

/// Certificates are renewed while people work.
#[tokio::test]
async fn a_renewed_certificate_leaves_a_running_download_unharmed() {
    let mut mirror = Mirror::start("").await;
    let gate = Gate::new();
    mirror.hub.breaks(When::asked(&mirror.blob.digest), Fault::HoldAt(LEN / 2, gate.clone()));
    let raw = RawClient::new(Box::new(mirror.tls.connect().await.unwrap()));
    let running = raw.get("1.1", &mirror.path(), &[]).await.unwrap();
    gate.reached().await;
    let (cert, key) = mirror.ca.issue("larder.test");
    let renewed = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap().to_vec();
    assert_ne!(mirror.tls.shown().await, renewed);

    mirror.larder.write("tls.crt", &cert);
    mirror.larder.write("tls.key", &key);
    mirror.larder.reload().await;

    assert_eq!(mirror.tls.shown().await, renewed);
    gate.open();
    running.finish().await.assert_is(&mirror.blob);
    mirror.tls.client().get(&mirror.path()).await.assert_is(&mirror.blob);
}

/// By TLS's word for it, and by that of TCP alone.
#[tokio::test]
async fn a_client_that_half_closes_gets_its_whole_answer_over_tls() {
    for is_clean in [true, false] {
        let mirror = Mirror::start("").await;
        let gate = Gate::new();
        mirror.hub.breaks(When::asked(&mirror.blob.digest), Fault::HoldHeaders(gate.clone()));
        for is_cold in [true, false] {
            let mut stream = mirror.tls.offering(&["http/1.1"]).connect().await.unwrap();
            let request = format!("GET {} HTTP/1.1\r\nHost: larder.test\r\n\r\n", mirror.path());
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if is_clean {
                stream.shutdown().await.unwrap();
            } else {
                stream.get_mut().0.shutdown().await.unwrap();
            }
            if is_cold {
                gate.reached().await;
                gate.open();
            }
            let mut answer = Vec::new();
            drop(stream.read_to_end(&mut answer).await);
            assert!(answer.ends_with(&mirror.blob.bytes), "clean: {is_clean}, cold: {is_cold}");
        }
    }
}

/// A renewal that went wrong must not take the service down days before it would have to.
#[tokio::test]
async fn a_pair_that_does_not_fit_leaves_the_old_one_in_service() {
    let mut mirror = Mirror::start("").await;
    let before = mirror.tls.shown().await;
    let (other, _) = mirror.ca.issue("larder.test");
    let read = |name| std::fs::read_to_string(mirror.larder.path(name)).unwrap();
    let (cert, key) = (read("tls.crt"), read("tls.key"));
    for (new_cert, new_key, want) in [
        (other.as_str(), key.as_str(), "does not belong to the certificate"),
        ("hello", &key, "there is no certificate in it"),
        (&cert, "", "there is no private key in it"),
    ] {
        mirror.larder.write("tls.crt", new_cert);
        mirror.larder.write("tls.key", new_key);

        let said = mirror.larder.reload().await;

        assert!(said.contains("ERROR") && said.contains(want), "{said}");
        assert!(said.contains("config.toml:"), "{said}");
        assert_eq!(mirror.tls.shown().await, before);
    }
    mirror.tls.client().get(&mirror.path()).await.assert_is(&mirror.blob);
}

#[tokio::test]
async fn a_client_certificate_is_demanded_where_it_is_required() {
    for (auth, without_is_served) in [("required", false), ("optional", true)] {
        let keys = format!("client_ca = 'ca.pem'\nclient_auth = '{auth}'");
        let mirror = Mirror::start(&keys).await;
        let (address, ca) = (mirror.tls.address, mirror.ca.pem());
        let as_client = |own: Option<&(String, String)>| {
            TlsClient::new(address, &ca, own).client().try_get(Version::Http11, "/v2/")
        };
        let (own, foreign) = (mirror.ca.issue("runner"), TestCa::new().issue("runner"));

        as_client(Some(&own)).await.unwrap().assert_status(200);
        assert_eq!(as_client(None).await.is_ok(), without_is_served, "{auth}");
        assert!(as_client(Some(&foreign)).await.is_err(), "{auth}");
    }
}

/// Nothing guarantees that a message arrives in one piece.
#[tokio::test]
async fn a_client_hello_may_come_byte_by_byte() {
    let mirror = Mirror::start("").await;
    let tcp = TcpStream::connect(mirror.tls.address).await.unwrap();
    tcp.set_nodelay(true).unwrap();

    let stream = mirror.tls.over(ByteByByte(tcp)).await.unwrap();

    let reply = RawClient::new(Box::new(stream)).get("1.1", &mirror.path(), &[]).await.unwrap();
    reply.finish().await.assert_is(&mirror.blob);
}

/// A client that speaks HTTP to a TLS port learns nothing, and its connection is closed.
#[tokio::test]
async fn bytes_that_are_not_tls_close_the_connection() {
    let mirror = Mirror::start("").await;
    let plain = client_of(mirror.tls.address).try_get(Version::Http11, "/v2/").await;
    assert!(plain.is_err());
    for garbage in [&b"\x16\x03\x01\xff\xff\x01"[..], b"\0\0\0\0\0\0\0\0", b"SSH-2.0-x\r\n"] {
        let mut tcp = TcpStream::connect(mirror.tls.address).await.unwrap();
        tcp.write_all(garbage).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Closed with bytes unread is a reset, which is as well.
        drop(tcp.read_to_end(&mut answer).await);
        assert!(!answer.starts_with(b"HTTP"), "{garbage:?}");
    }
    mirror.tls.client().get(&mirror.path()).await.assert_is(&mirror.blob);
}

/// Writes one byte at a time.
struct ByteByByte(TcpStream);

impl AsyncRead for ByteByByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ByteByByte {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..bytes.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
