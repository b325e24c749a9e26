//! Several addresses, each with its own names, doors and TLS.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::client::RawClient;
use crate::support::instance::{TlsClient, client_of, free_address};
use crate::support::tls::TestCa;
use crate::support::{Blob, Image, Instance, ScriptedRegistry, Version};

#[tokio::test]
async fn each_listener_has_its_own_doors_names_and_tls() {
    let (hub, ca) = (ScriptedRegistry::new(), TestCa::new());
    let image = Image::random(1, &[]);
    hub.put_image("owner/app", "v1", &image);
    let (plain, tls) = (free_address(), free_address());
    let (cert, key) = ca.issue("larder.test");
    let config = format!(
        "[[listener]]\naddress = '{plain}'\ndoors = ['mirror']\n\
         [[listener]]\naddress = '{tls}'\nnames = ['larder.test']\n\
         tls = {{ cert = 'crt', key = 'key' }}\n\
         [registry.'docker.io']\nupstream = 'http://{}'\n",
        hub.listen().await
    );
    let mut larder = Instance::start(&[("crt", &cert), ("key", &key)], &config).await;
    larder.until_logged("listening", 2).await;

    let mirror = client_of(plain);
    mirror.get("/v2/owner/app/manifests/v1").await.assert_is(&image.manifest.blob);
    mirror.get("/v2/").await.assert_status(200);
    for closed in [
        "/v2/docker.io/owner/app/manifests/v1",
        "/v2/owner/app/manifests/v1?ns=docker.io",
        "/docker.io/v2/owner/app/manifests/v1",
    ] {
        assert_eq!(mirror.get(closed).await.error(404).0, "NAME_UNKNOWN", "{closed}");
    }

    let named = TlsClient::new(tls, &ca.pem(), None);
    for open in ["/v2/docker.io/owner/app/manifests/v1", "/docker.io/v2/owner/app/manifests/v1"] {
        named.client().get(open).await.assert_is(&image.manifest.blob);
    }
    for version in [Version::Http11, Version::H2] {
        let headers = [("host", "other.test")];
        let path = "/v2/owner/app/manifests/v1";
        let reply = named.client().try_call(version, http::Method::GET, path, &headers).await;
        reply.unwrap().error(421);
    }
    let other = TlsClient { name: "other.test", ..named };
    assert!(other.connect().await.is_err(), "a name that is not served gets no certificate");
}

/// One client must not keep the others out, and gets its places back.
#[tokio::test]
async fn a_client_holds_so_many_connections_and_no_more() {
    let address = free_address();
    let config = format!("listen = '{address}'\nconnections_per_client = 2\n");
    let mut larder = Instance::start(&[], &config).await;
    let connect = || async { RawClient::new(Box::new(TcpStream::connect(address).await.unwrap())) };
    // A place is taken when a request is answered at the latest.
    let ping = |client: RawClient| async move { client.get("1.1", "/v2/", &[]).await };
    let first = ping(connect().await).await.unwrap();
    let _second = ping(connect().await).await.unwrap();

    assert!(ping(connect().await).await.is_err(), "one more than may be");

    larder.until_logged("has all of `connections_per_client` open", 1).await;
    drop(first);
    let served = async { while ping(connect().await).await.is_err() {} };
    let served = tokio::time::timeout(Duration::from_secs(20), served).await;
    assert!(served.is_ok(), "a place that was given back cannot be taken");
}

/// The descriptor of a client that is gone is given back: before it has asked, and in the middle of
/// an answer that it does not take.
#[tokio::test]
async fn a_client_that_moves_nothing_is_cut() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::large(1, 64 << 20);
    hub.put_blob("owner/app", &blob);
    let address = free_address();
    let config = format!(
        "listen = '{address}'\nclient_stall = '300ms'\n\
         [registry.'docker.io']\nupstream = 'http://{}'\n",
        hub.listen().await
    );
    let mut larder = Instance::start(&[], &config).await;

    // Idle connections are closed after a minute in any case.
    let mut silent = TcpStream::connect(address).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), silent.read_u8()).await;
    assert!(end.expect("a silent client is not cut").is_err());

    let raw = RawClient::new(Box::new(TcpStream::connect(address).await.unwrap()));
    let mut stuck = raw.get("1.1", &blob.path("owner/app"), &[]).await.unwrap();
    larder.until_logged("client left", 1).await;
    assert!(stuck.read_until(blob.len(), 64 << 10).await.is_err(), "it was cut");
}
