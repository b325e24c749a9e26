//! The `larder` program as a process, for what only a process shows: kill -9, a full disk, signals.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};

use super::client::{Client, RawClient};
use super::instance::{client_of, free_address};
use super::proxy::files_under;
use super::strace::Strace;

/// A disk that others have filled too is used to its end.
const NO_MIN_FREE: &str = "min_free = '0B'";

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `larder serve`, killed when it is dropped.
pub struct Process {
    pub address: SocketAddr,
    admin: SocketAddr,
    dir: TempDir,
    cache_dir: PathBuf,
    child: Child,
    /// The program that runs it, with arguments, such as strace; none for most tests.
    wrapper: Vec<String>,
}

/// How a command of the program ended.
#[derive(Debug)]
pub struct CommandRun {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl CommandRun {
    /// The JSON that it printed; panics unless it did what it was asked for.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Process {
    /// Starts `larder` as a mirror of the registry at `upstream`, with more lines for its table.
    pub async fn before(upstream: SocketAddr, registry_keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache_dir = dir.path().join("cache");
        Self::start(dir, cache_dir, upstream, [NO_MIN_FREE, registry_keys]).await
    }

    /// The same with more lines for the table of the cache too.
    pub async fn with_keys(upstream: SocketAddr, cache_keys: &str, registry_keys: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache_dir = dir.path().join("cache");
        Self::start(dir, cache_dir, upstream, [cache_keys, registry_keys]).await
    }

    /// Writes other words in the place of some in its configuration, for the next SIGHUP or start.
    pub fn change_config(&self, before: &str, after: &str) {
        let path = self.dir.path().join("config.toml");
        let config = fs::read_to_string(&path).unwrap();
        assert!(config.contains(before), "{config}");
        fs::write(path, config.replace(before, after)).unwrap();
    }

    /// The same with its cache elsewhere.
    pub async fn with_cache_in(cache_dir: &Path, upstream: SocketAddr) -> Self {
        Self::with_min_free(cache_dir, upstream, "0B").await
    }

    /// The same with lines for the tables of the cache and of the registry.
    pub async fn with_keys_in(cache_dir: &Path, upstream: SocketAddr, keys: [&str; 2]) -> Self {
        Self::start(tempfile::tempdir().unwrap(), cache_dir.to_owned(), upstream, keys).await
    }

    /// The same with so much of its disk left free.
    pub async fn with_min_free(cache_dir: &Path, upstream: SocketAddr, min_free: &str) -> Self {
        let cache_keys = format!("min_free = '{min_free}'");
        let dir = tempfile::tempdir().unwrap();
        Self::start(dir, cache_dir.to_owned(), upstream, [&cache_keys, ""]).await
    }

    /// The same as the user nobody, where this is root, for whom no permission counts.
    pub async fn as_user(upstream: SocketAddr) -> Self {
        Self::as_user_with_keys(upstream, ["", ""]).await
    }

    /// The same with more lines for the tables of the cache and of the registry.
    pub async fn as_user_with_keys(upstream: SocketAddr, keys: [&str; 2]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache_dir = dir.path().join("cache");
        fs::create_dir(&cache_dir).unwrap();
        if rustix::process::geteuid().is_root() {
            // The program lies where only root may go. A copy could be busy, since other tests
            // fork, so it is made only on another file system.
            let (program, here) = (env!("CARGO_BIN_EXE_larder"), dir.path().join("larder"));
            fs::hard_link(program, &here).or_else(|_| fs::copy(program, &here).map(drop)).unwrap();
            for path in [dir.path(), &cache_dir] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        Self::start(dir, cache_dir, upstream, keys).await
    }

    /// The same with its log elsewhere.
    pub async fn with_log_in(log: &Path, upstream: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(log, dir.path().join("log")).unwrap();
        let cache_dir = dir.path().join("cache");
        Self::start(dir, cache_dir, upstream, [NO_MIN_FREE, ""]).await
    }

    /// Lets it have this many files open at once, connections among them, from now on.
    pub fn limit_open_files(&self, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        let pid = Pid::from_child(&self.child);
        rustix::process::prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many files it has open.
    pub fn open_files(&self) -> u64 {
        self.descriptors().len() as u64
    }

    /// The memory that it has, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as u64
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        kib << 10
    }

    /// A connection from another address of this machine, 127.0.0.`client`.
    pub async fn connect_from(&self, client: u8) -> std::io::Result<TcpStream> {
        connect_from(client, self.address).await
    }

    /// The files that it has open, as links to them.
    pub fn descriptors(&self) -> Vec<PathBuf> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        open.flatten().map(|entry| entry.path()).collect()
    }

    /// Has its system calls fail, as [`Strace::attach`] says.
    pub async fn fails(&self, inject: &[&str], paths: &[&Path]) -> Option<Strace> {
        Strace::attach(self.child.id(), inject, paths).await
    }

    async fn start(
        dir: TempDir,
        cache_dir: PathBuf,
        upstream: SocketAddr,
        [cache_keys, keys]: [&str; 2],
    ) -> Self {
        let [address, admin] = [free_address(), free_address()];
        let config = format!(
            "admin_listen = '{admin}'\ndashboard.listen = ''\n[cache]\ndir = '{}'\n{cache_keys}\n\
             [registry.\"docker.io\"]\nupstream = \"http://{upstream}\"\ndefault = true\n{keys}\n",
            cache_dir.display()
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let child = spawn(dir.path(), address, &[]);
        let mut this = Self { address, admin, dir, cache_dir, child, wrapper: Vec::new() };
        this.until_listening().await.unwrap_or_else(|error| panic!("{error}"));
        this
    }

    /// Dies at once, with nothing said and nothing tidied.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Is asked to stop, and gives how it did.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end().await
    }

    /// Whether it has ended by itself, or by a signal of others.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Gets a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        let waiting = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("larder stops when it is asked to")
    }

    /// Starts again, in the same directory and at the same address, after it has ended.
    pub async fn start_again(&mut self) {
        self.try_start_again().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The same, or how it ended instead, with its log.
    pub async fn try_start_again(&mut self) -> Result<(), String> {
        self.child = spawn(self.dir.path(), self.address, &self.wrapper);
        self.until_listening().await
    }

    /// Starts under another program from now on, which has to have the same process id in the end.
    pub fn run_under(&mut self, wrapper: Vec<String>) {
        self.wrapper = wrapper;
    }

    /// Runs a command of the program on the same configuration, to its end.
    pub async fn command(&self, arguments: &[&str]) -> CommandRun {
        self.begin_command(arguments).await
    }

    /// The same with a `PATH`.
    pub async fn command_on(&self, path: &str, arguments: &[&str]) -> CommandRun {
        ended(self.command_of(arguments).env("PATH", path).output()).await
    }

    /// The same without one, with a file as its stdin.
    pub async fn command_from(&self, stdin: &Path, arguments: &[&str]) -> CommandRun {
        let stdin = fs::File::open(stdin).unwrap();
        ended(self.command_of(arguments).env("PATH", "").stdin(stdin).output()).await
    }

    /// The same without one, while something is done to the server.
    pub fn begin_command(
        &self,
        arguments: &[&str],
    ) -> impl Future<Output = CommandRun> + Send + use<> {
        ended(self.command_of(arguments).env("PATH", "").output())
    }

    /// Starts a command of the program on the same configuration. Its output is thrown away.
    pub fn spawn_command(&self, arguments: &[&str]) -> tokio::process::Child {
        let mut command = self.command_of(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The same with its output for the test. `wrapper` runs it, if there is one: a program with
    /// arguments, to which the command is one more.
    pub fn spawn_piped(&self, wrapper: &[&str], arguments: &[&str]) -> tokio::process::Child {
        let mut command = self.command_of(arguments);
        if let [program, words @ ..] = wrapper {
            // A shell that stays would end by the signals that are meant for the command.
            let line = format!("exec {} {}", env!("CARGO_BIN_EXE_larder"), arguments.join(" "));
            let config = self.dir.path().join("config.toml");
            command = tokio::process::Command::new(program);
            command.args(words).arg(format!("{line} --config {}", config.display()));
            command.arg("/dev/null").env("SHELL", "/bin/sh");
            command.kill_on_drop(true).stdin(Stdio::piped());
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn command_of(&self, arguments: &[&str]) -> tokio::process::Command {
        let config = self.dir.path().join("config.toml");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_larder"));
        command.args(arguments).arg("--config").arg(config).env_clear().kill_on_drop(true);
        command.stdin(Stdio::null());
        command
    }

    /// A client of its address; connections that fail read as ones that close at once.
    pub fn client(&self) -> Client {
        client_of(self.address)
    }

    /// A client of its address that has another address of this machine, 127.0.0.`client`.
    pub fn client_from(&self, client: u8) -> Client {
        let address = self.address;
        super::instance::client(move || async move {
            Ok(Box::new(connect_from(client, address).await?) as larder::http::NetworkConnection)
        })
    }

    /// A client of its admin side.
    pub fn admin(&self) -> Client {
        client_of(self.admin)
    }

    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    pub fn raw(&self) -> RawClient {
        self.client().raw()
    }

    /// The files under a part of the cache directory, and their lengths.
    pub fn files(&self, part: &str) -> Vec<(PathBuf, u64)> {
        let files = files_under(&self.cache_dir.join(part)).into_iter();
        files.filter_map(|path| Some((path.clone(), fs::metadata(path).ok()?.len()))).collect()
    }

    /// Waits until something is so, or fails the test.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool, complaint: &str) {
        let waiting = async {
            while !is_so(self) {
                tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{complaint}"));
    }

    async fn until_listening(&mut self) -> Result<(), String> {
        let waiting = async {
            while TcpStream::connect(self.address).await.is_err() {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return Err(format!("larder did not start: {status}\n{}", self.log()));
                }
                tick().await;
            }
            Ok(())
        };
        let listening = tokio::time::timeout(PATIENCE, waiting).await;
        listening.unwrap_or_else(|_| Err(format!("larder does not listen\n{}", self.log())))
    }

    /// Its stderr, over all restarts.
    pub fn log(&self) -> String {
        let log = self.dir.path().join("log");
        // A device or a pipe in its place may have no end.
        let is_file = fs::metadata(&log).is_ok_and(|log| log.is_file());
        if is_file { fs::read_to_string(log).unwrap_or_default() } else { String::new() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("larder said:\n{}", self.log());
        }
        // Both fail when it has ended already, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The end of a command.
async fn ended(output: impl Future<Output = std::io::Result<std::process::Output>>) -> CommandRun {
    let output = tokio::time::timeout(PATIENCE, output).await.expect("a command ends").unwrap();
    CommandRun {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn spawn(dir: &Path, address: SocketAddr, wrapper: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let copy = dir.join("larder");
    let mut words = Vec::new();
    if copy.exists() {
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        words.extend(["setpriv".to_owned(), user, group, "--clear-groups".to_owned()]);
    }
    words.extend_from_slice(wrapper);
    let program = if copy.exists() { copy } else { env!("CARGO_BIN_EXE_larder").into() };
    words.push(program.to_string_lossy().into_owned());
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["serve", "--config"])
        .arg(dir.join("config.toml"))
        .args(["--listen", &address.to_string()])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the larder program starts")
}

/// A user without any right.
const NOBODY: u32 = 65534;

async fn connect_from(client: u8, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, client], 0)))?;
    socket.connect(address).await
}

/// The pause between two looks at another process, which cannot wake us.
async fn tick() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}
