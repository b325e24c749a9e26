//! SIGHUP: the configuration is read again while clients are served.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::client::RawClient;
use crate::support::instance::{client_of, free_address};
use crate::support::{Blob, Fault, Gate, Instance, ScriptedRegistry, When};

const REPOSITORY: &str = "owner/app";
const LEN: usize = 1 << 20;

fn config(listen: &[SocketAddr], registries: &[(&str, SocketAddr)]) -> String {
    let listen: Vec<_> = listen.iter().map(|address| format!("'{address}'")).collect();
    let mut config = format!("listen = [{}]\n", listen.join(", "));
    for (name, upstream) in registries {
        let table = format!("[registry.'{name}']\nupstream = 'http://{upstream}'\n");
        config.push_str(&table);
    }
    config
}

/// A registry with one blob, where it listens, and the blob's path behind a prefix.
async fn registry(name: &str, seed: u64) -> (ScriptedRegistry, SocketAddr, Blob, String) {
    let registry = ScriptedRegistry::new();
    let blob = Blob::random(seed, LEN);
    registry.put_blob(REPOSITORY, &blob);
    let address = registry.listen().await;
    let path = blob.path(&format!("{name}/{REPOSITORY}"));
    (registry, address, blob, path)
}

/// A running download belongs to the configuration under which it began.
#[tokio::test]
async fn a_download_goes_on_though_its_registry_is_taken_out() {
    let (old, old_at, old_blob, old_path) = registry("old.test", 1).await;
    let (_new, new_at, new_blob, new_path) = registry("new.test", 2).await;
    let gate = Gate::new();
    old.breaks(When::asked(&old_blob.digest), Fault::HoldAt(LEN / 2, gate.clone()));
    let address = free_address();
    let mut larder = Instance::start(&[], &config(&[address], &[("old.test", old_at)])).await;
    let client = client_of(address);
    client.get(&new_path).await.assert_status(404);
    let running = client.raw().get("1.1", &old_path, &[]).await.unwrap();
    gate.reached().await;

    larder.write("config.toml", &config(&[address], &[("new.test", new_at)]));
    let said = larder.reload().await;

    assert!(!said.contains("ERROR"), "{said}");
    client.get(&new_path).await.assert_is(&new_blob);
    client.get(&old_path).await.assert_status(404);
    gate.open();
    running.finish().await.assert_is(&old_blob);
}

/// A slip of the pen must not take a service down.
#[tokio::test]
async fn a_bad_configuration_leaves_the_old_one_in_service() {
    let (_hub, at, blob, path) = registry("good.test", 1).await;
    let address = free_address();
    let good = config(&[address], &[("good.test", at)]);
    let mut larder = Instance::start(&[], &good).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|at| (taken, at)).unwrap();
    for (bad, want) in [
        (format!("{good}tag_tll = '1s'\n"), "hint: did you mean `tag_ttl`?"),
        ("listen = [".to_owned(), "config.toml:1:"),
        (config(&[address, taken.1], &[("other.test", at)]), "cannot listen on"),
        (String::from("\u{0}"), "NUL"),
    ] {
        larder.write("config.toml", &bad);

        let said = larder.reload().await;

        assert!(said.contains(want) && said.contains("the old one stays"), "{bad}\n{said}");
        client_of(address).get(&path).await.assert_is(&blob);
        client_of(address).get("/v2/other.test/a/manifests/b").await.assert_status(404);
    }
    std::fs::remove_file(larder.path("config.toml")).unwrap();
    assert!(larder.reload().await.contains("there is no such file"));
    client_of(address).get(&path).await.assert_is(&blob);
}

/// Addresses that stay are not closed for a moment; others come and go.
#[tokio::test]
async fn addresses_come_and_go_and_connections_stay() {
    let (_hub, at, blob, path) = registry("good.test", 1).await;
    let [kept, closed, opened] = [free_address(), free_address(), free_address()];
    let registries = [("good.test", at)];
    let mut larder = Instance::start(&[], &config(&[kept, closed], &registries)).await;
    larder.until_logged("listening", 2).await;
    // Open, and not used before.
    let on_kept = RawClient::new(Box::new(TcpStream::connect(kept).await.unwrap()));
    client_of(closed).get(&path).await.assert_is(&blob);

    larder.write("config.toml", &config(&[opened, kept], &registries));
    larder.reload().await;

    on_kept.get("1.1", &path, &[]).await.unwrap().finish().await.assert_is(&blob);
    client_of(kept).get(&path).await.assert_is(&blob);
    client_of(opened).get(&path).await.assert_is(&blob);
    let refused = TcpStream::connect(closed).await;
    assert!(refused.is_err(), "an address that was taken out is still listened on");
}

/// The directory is locked and open; to move it silently to another one would lose its content.
#[tokio::test]
async fn a_reload_names_the_keys_that_need_a_restart() {
    let (_hub, at, blob, path) = registry("good.test", 1).await;
    let address = free_address();
    let good = config(&[address], &[("good.test", at)]);
    let mut larder = Instance::start(&[], &good).await;
    client_of(address).get(&path).await.assert_is(&blob);

    larder.write("config.toml", &format!("{good}[cache]\nstale_wait = '9s'\n"));
    let said = larder.reload().await;

    assert!(said.contains("`cache.stale_wait` cannot change while Larder runs"), "{said}");
    client_of(address).get(&path).await.assert_is(&blob);
}

/// systemd waits for each of these words.
#[tokio::test]
async fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("something is said");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let address = free_address();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut larder = Instance::start_with(&[], &config(&[address], &[]), &variables).await;
    assert_eq!(heard(), "READY=1");
    client_of(address).get("/v2/").await.assert_status(200);

    larder.write("config.toml", "listn = 1");
    larder.reload().await;
    assert!(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(heard(), "READY=1");

    larder.terminate();
    assert_eq!(heard(), "STOPPING=1");
}

/// A pair whose certificate ends at the beginning of this year.
fn pair(until: i32) -> [String; 2] {
    let mut params = rcgen::CertificateParams::new(vec!["larder.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    [params.self_signed(&key).unwrap().pem(), key.serialize_pem()]
}

/// The alerts rest on these: a reload that failed shows nowhere else, nor does a certificate.
#[tokio::test]
async fn a_refused_reload_and_the_end_of_a_certificate_are_metrics() {
    let (_hub, at, _blob, _path) = registry("good.test", 1).await;
    let [address, admin] = [free_address(), free_address()];
    let good = format!(
        "admin_listen = '{admin}'\ntls = {{ cert = 'crt', key = 'key' }}\n{}",
        config(&[address], &[("good.test", at)])
    );
    let [crt, key] = pair(2040);
    let files = [("crt", &*crt), ("key", &*key)];
    let mut larder = Instance::start(&files, &good).await;
    let metric = async |name: &str| {
        let metrics = client_of(admin).get("/metrics").await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name}: {text}"))
    };
    let reloaded = "larder_config_reload_successful ";
    let end = format!("larder_tls_certificate_end_seconds{{address=\"{address}\"}} ");
    assert_eq!((metric(reloaded).await.as_str(), metric(&end).await.as_str()), ("1", "2208988800"));

    larder.write("config.toml", "listen = [");
    larder.reload().await;
    assert_eq!(metric(reloaded).await, "0");

    // Its end is written in another form from 2050 on.
    let [crt, key] = pair(2060);
    larder.write("crt", &crt);
    larder.write("key", &key);
    larder.write("config.toml", &good);
    larder.reload().await;
    assert_eq!((metric(reloaded).await.as_str(), metric(&end).await.as_str()), ("1", "2840140800"));
}
