//! The `larder` program with a configuration of the test's own, which changes while it runs.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use larder::http::NetworkConnection;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::Client;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `larder serve`, killed when it is dropped.
pub struct Instance {
    dir: TempDir,
    child: Child,
}

impl Instance {
    /// Starts `larder` in a directory with these files, and waits until it listens.
    pub async fn start(files: &[(&str, &str)], config: &str) -> Self {
        Self::start_with(files, config, &[]).await
    }

    /// The same with variables.
    pub async fn start_with(
        files: &[(&str, &str)],
        config: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_larder"));
        program.args(["serve", "--config"]).arg(dir.path().join("config.toml")).env_clear();
        program.envs(variables.iter().copied()).stdin(Stdio::null());
        Self::run(dir, program).await
    }

    /// Starts `larder` as a service manager does that holds the socket of its address.
    pub async fn start_activated(config: &str, socket: &TcpListener) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let program = activated(&dir, socket);
        Self::run(dir, program).await
    }

    /// Starts the next one in the place of one that was told to end, and has.
    pub async fn start_again(mut self, socket: &TcpListener) -> Self {
        let is_over = async {
            while self.child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, is_over).await;
        assert!(ended.is_ok(), "larder does not end\n{}", self.log());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        let program = activated(&dir, socket);
        Self::run(dir, program).await
    }

    async fn run(dir: TempDir, mut program: Command) -> Self {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = program
            .env("LARDER_CACHE_DIR", dir.path().join("cache"))
            .env("LARDER_CACHE_MIN_FREE", "0B")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the larder program starts");
        let mut this = Self { dir, child };
        this.until_logged("listening", 1).await;
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file in the place of another one, whole.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path("new"), content).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// Has the configuration read again, and waits until that is over; gives what was said of it.
    pub async fn reload(&mut self) -> String {
        let before = self.log().len();
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
        let is_over = |log: &str| {
            ["was read again", "configuration cannot be used"]
                .iter()
                .any(|end| log[before..].contains(end))
        };
        self.until(is_over, "nothing was read again").await;
        self.log()[before..].to_owned()
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until a file beside its configuration is so.
    pub async fn until_file(&mut self, name: &str, is_so: impl Fn(&str) -> bool) {
        let path = self.path(name);
        let read = |_: &str| is_so(&fs::read_to_string(&path).unwrap_or_default());
        self.until(read, &format!("{name} is not so")).await;
    }

    /// Waits until the log has this text so many times.
    pub async fn until_logged(&mut self, text: &str, times: usize) {
        let has = |log: &str| log.matches(text).count() >= times;
        self.until(has, &format!("{text:?} was not logged")).await;
    }

    async fn until(&mut self, is_so: impl Fn(&str) -> bool, complaint: &str) {
        let waiting = async {
            while !is_so(&self.log()) {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("larder ended: {status}\n{}", self.log());
                }
                // The pause between two looks at another process, which cannot wake us.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(ended.is_ok(), "{complaint}\n{}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// The program with a socket as its descriptor 3, as `sd_listen_fds(3)` has it.
fn activated(dir: &TempDir, socket: &TcpListener) -> Command {
    let mut program = Command::new("/bin/sh");
    let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
    program.args(["-c", script, "sh", env!("CARGO_BIN_EXE_larder"), "serve", "--config"]);
    let socket = OwnedFd::from(socket.try_clone().unwrap());
    program.arg(dir.path().join("config.toml")).env_clear().stdin(socket);
    program
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("larder said:\n{}", self.log());
        }
        // Both fail when it has ended already, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A free loopback address that no other test takes: a port of 127.0.0.1 would soon be another
/// test's, and here the host is one of millions.
pub fn free_address() -> SocketAddr {
    let host = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255));
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

/// A client of this address over plain TCP.
pub fn client_of(address: SocketAddr) -> Client {
    client(
        move || async move { Ok(Box::new(TcpStream::connect(address).await?) as NetworkConnection) },
    )
}

/// A client whose connections are made by `dial`; one that fails reads as one that is closed.
pub fn client<F>(dial: impl Fn() -> F + Clone + Send + Sync + 'static) -> Client
where
    F: Future<Output = io::Result<NetworkConnection>> + Send + 'static,
{
    Client::new(Arc::new(move || {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let dialling = dial();
        tokio::spawn(async move {
            if let Ok(mut io) = dialling.await {
                drop(tokio::io::copy_bidirectional(&mut far, &mut io).await);
            }
        });
        Box::new(near)
    }))
}

/// How a client speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsClient {
    pub address: SocketAddr,
    /// The name that it asks for and expects.
    pub name: &'static str,
    pub config: Arc<rustls::ClientConfig>,
}

impl TlsClient {
    /// A client that believes this authority, with a certificate of its own or without.
    pub fn new(address: SocketAddr, ca_pem: &[u8], own: Option<&(String, String)>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self { address, name: "larder.test", config: Arc::new(config) }
    }

    /// The same, offering these protocols.
    pub fn offering(&self, protocols: &[&str]) -> Self {
        let mut config = self.config.as_ref().clone();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config), ..self.clone() }
    }

    /// A connection whose handshake is done.
    pub async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        self.over(tcp).await
    }

    /// The handshake over any connection.
    pub async fn over<T: larder::http::DuplexStream>(&self, io: T) -> io::Result<TlsStream<T>> {
        let name = ServerName::try_from(self.name).unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, io).await
    }

    /// The certificate that a new connection is shown.
    pub async fn shown(&self) -> Vec<u8> {
        let stream = self.connect().await.expect("the handshake succeeds");
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    pub fn client(&self) -> Client {
        let this = self.clone();
        client(move || {
            let this = this.clone();
            async move { Ok(Box::new(this.connect().await?) as NetworkConnection) }
        })
    }
}
