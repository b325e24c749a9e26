//! The two caches as programs: started, asked, watched as `du` watches them, and stopped.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A cache.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Larder,
    Nginx,
}

/// A running cache. It is stopped when dropped.
#[derive(Debug)]
pub(crate) struct RunningPeer {
    child: Child,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    /// The directory of its cache.
    pub(crate) cache: PathBuf,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Larder => "Larder",
            Self::Nginx => "nginx `proxy_cache`",
        }
    }

    /// Starts it in a directory, with a cache of at most `cap` bytes before the upstream.
    pub(crate) fn start(self, dir: &Path, upstream: SocketAddr, cap: u64) -> Result<RunningPeer> {
        let address = free_address()?;
        let admin = free_address()?;
        fs::create_dir_all(dir)?;
        let cache = dir.join("cache");
        let template = match self {
            Self::Larder => include_str!("larder.toml"),
            Self::Nginx => include_str!("nginx.conf"),
        };
        let config = [
            ("DIR", dir.display().to_string()),
            ("LISTEN", address.to_string()),
            ("ADMIN", admin.to_string()),
            ("UPSTREAM", upstream.to_string()),
            ("CAP", cap.to_string()),
        ]
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        });
        let file = dir.join("config");
        fs::write(&file, config)?;
        let mut command = match self {
            Self::Larder => Command::new(env!("CARGO_BIN_EXE_larder")),
            Self::Nginx => Command::new("nginx"),
        };
        match self {
            Self::Larder => {
                command.env("LARDER_LOG", "warn").args(["serve", "--config"]).arg(&file)
            }
            Self::Nginx => command.args(["-e", "stderr", "-c"]).arg(&file),
        };
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.name()))?;
        let running = RunningPeer { child, address, admin, cache };
        for _ in 0..1000 {
            if TcpStream::connect(address).is_ok() {
                return Ok(running);
            }
            thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("{} does not listen", self.name())
    }
}

impl RunningPeer {
    /// The bytes of all parts, as Larder counts them.
    pub(crate) fn counted(&self) -> Result<u64> {
        Ok(self.sum("larder_store_used_bytes{")? as u64)
    }

    /// The sum of Larder's samples whose names begin so.
    pub(crate) fn sum(&self, samples: &str) -> Result<f64> {
        let mut connection = Connection::open(self.admin)?;
        connection.ask("/metrics")?;
        let metrics = String::from_utf8(connection.answer()?)?;
        let found = metrics.lines().filter(|line| line.starts_with(samples));
        Ok(found.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for RunningPeer {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
        drop(self.child.wait());
    }
}

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self(BufReader::with_capacity(1 << 16, stream)))
    }

    pub(crate) fn ask(&mut self, path: &str) -> Result<()> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: trace\r\n\r\n");
        Ok(self.0.get_mut().write_all(head.as_bytes())?)
    }

    /// The body of a 200.
    pub(crate) fn answer(&mut self) -> Result<Vec<u8>> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        while line.trim() != "" {
            line.clear();
            self.0.read_line(&mut line)?;
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        ensure!(status == "200", "status {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The bytes that files and directories take, as `du` counts them.
pub(crate) fn du(dir: &Path) -> u64 {
    // A file that is renamed during the walk is met twice.
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut count = |metadata: fs::Metadata| {
        if seen.insert(metadata.ino()) {
            bytes += metadata.blocks() * 512;
        }
    };
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        fs::symlink_metadata(&dir).into_iter().for_each(&mut count);
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            } else {
                entry.metadata().into_iter().for_each(&mut count);
            }
        }
    }
    bytes
}
